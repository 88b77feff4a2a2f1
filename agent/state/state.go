// Package state is the agent's database: what was asked of this node, and how
// far it has come. It holds no secret value.
//
// It is one bbolt file with a bucket each for workloads (what is wanted,
// written by the API), statuses (what is, written by the supervisors), apps
// (their histories), images (when each was used last) and the database's own
// facts. Records are the protobuf messages of purser.state.v1. Every write is one
// transaction, on disk when it returns.
package state

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
	"google.golang.org/protobuf/proto"

	statev1 "github.com/purserd/purser/api/purser/state/v1"
	purserv1 "github.com/purserd/purser/api/purser/v1"
)

// Schema is the version of the database's layout that this build writes.
const Schema = 1

var (
	metaBucket      = []byte("meta")
	workloadsBucket = []byte("workloads")
	statusBucket    = []byte("status")
	appsBucket      = []byte("apps")
	imagesBucket    = []byte("images")

	schemaKey   = []byte("schema")
	sequenceKey = []byte("secrets_sequence")
	auditKey    = []byte("audit_head")
)

// DB is an open database.
type DB struct {
	bolt *bbolt.DB
}

// Open opens the database at path, and makes it if it is not there. Another
// process that has it open is an error after a second.
func Open(path string) (*DB, error) {
	b, err := bbolt.Open(path, 0o600, &bbolt.Options{Timeout: time.Second, FreelistType: bbolt.FreelistMapType})
	if errors.Is(err, bolterrors.ErrTimeout) {
		return nil, fmt.Errorf("%s is in use: another agent runs on this state directory", path)
	}
	if err != nil {
		return nil, fmt.Errorf("opening %s: %w", path, err)
	}
	db := &DB{bolt: b}
	if err := b.Update(db.prepare); err != nil {
		b.Close()
		return nil, fmt.Errorf("preparing %s: %w", path, err)
	}
	return db, nil
}

// prepare makes the buckets and checks the schema.
func (db *DB) prepare(tx *bbolt.Tx) error {
	for _, name := range [][]byte{metaBucket, workloadsBucket, statusBucket, appsBucket, imagesBucket} {
		if _, err := tx.CreateBucketIfNotExists(name); err != nil {
			return err
		}
	}
	meta := tx.Bucket(metaBucket)
	if v := meta.Get(schemaKey); v == nil {
		if err := putUint(meta, schemaKey, Schema); err != nil {
			return err
		}
	} else if got := binary.BigEndian.Uint64(v); got > Schema {
		return fmt.Errorf("it was written by a newer purser (schema %d; this one knows %d): run that one", got, Schema)
	}
	return nil
}

// Close closes the database.
func (db *DB) Close() error { return db.bolt.Close() }

// SecretsSequence is the last number that the secret store was seen at.
func (db *DB) SecretsSequence() (n uint64, err error) {
	err = db.bolt.View(func(tx *bbolt.Tx) error {
		if v := tx.Bucket(metaBucket).Get(sequenceKey); v != nil {
			n = binary.BigEndian.Uint64(v)
		}
		return nil
	})
	return n, err
}

// SetSecretsSequence notes the number that the secret store is at, so that an
// older copy of it put in its place is noticed.
func (db *DB) SetSecretsSequence(n uint64) error {
	return db.bolt.Update(func(tx *bbolt.Tx) error {
		meta := tx.Bucket(metaBucket)
		if v := meta.Get(sequenceKey); v != nil && binary.BigEndian.Uint64(v) >= n {
			return nil // an earlier write that comes late
		}
		return putUint(meta, sequenceKey, n)
	})
}

// AuditHead is the sealed head of the audit trail; nil when none was set.
func (db *DB) AuditHead() (head []byte, err error) {
	err = db.bolt.View(func(tx *bbolt.Tx) error {
		head = bytes.Clone(tx.Bucket(metaBucket).Get(auditKey))
		return nil
	})
	return head, err
}

// SetAuditHead keeps the sealed head of the audit trail.
func (db *DB) SetAuditHead(head []byte) error {
	return db.bolt.Update(func(tx *bbolt.Tx) error { return tx.Bucket(metaBucket).Put(auditKey, head) })
}

func putUint(b *bbolt.Bucket, key []byte, n uint64) error {
	return b.Put(key, binary.BigEndian.AppendUint64(nil, n))
}

// Key is a record's key: environment and name, which hold no NUL.
func Key(environment, name string) string { return environment + "\x00" + name }

// Tx collects the writes of one transaction.
type Tx struct{ tx *bbolt.Tx }

// Update carries out f's writes together, or none of them.
func (db *DB) Update(f func(*Tx) error) error {
	return db.bolt.Update(func(tx *bbolt.Tx) error { return f(&Tx{tx}) })
}

// PutWorkload writes what is wanted of a workload.
func (t *Tx) PutWorkload(w *statev1.Workload) error {
	w = proto.CloneOf(w)
	w.Status = nil
	return t.put(workloadsBucket, Key(w.GetEnvironment(), w.GetId()), w)
}

// PutStatus writes how far a workload has come.
func (t *Tx) PutStatus(key string, s *statev1.Status) error {
	return t.put(statusBucket, key, s)
}

// DeleteWorkload deletes all there is of a workload.
func (t *Tx) DeleteWorkload(key string) error {
	if err := t.tx.Bucket(workloadsBucket).Delete([]byte(key)); err != nil {
		return err
	}
	return t.tx.Bucket(statusBucket).Delete([]byte(key))
}

// PutApp writes an app's history.
func (t *Tx) PutApp(a *statev1.App) error {
	return t.put(appsBucket, Key(a.GetEnvironment(), a.GetName()), a)
}

// DeleteApp deletes an app's history, if there is one.
func (t *Tx) DeleteApp(environment, name string) error {
	return t.tx.Bucket(appsBucket).Delete([]byte(Key(environment, name)))
}

// PutImageUses writes when each image was used last, to the second, and forgets all
// others.
func (t *Tx) PutImageUses(uses map[string]time.Time) error {
	if err := t.tx.DeleteBucket(imagesBucket); err != nil {
		return err
	}
	bucket, err := t.tx.CreateBucket(imagesBucket)
	if err != nil {
		return err
	}
	for ref, at := range uses {
		if err := putUint(bucket, []byte(ref), uint64(at.Unix())); err != nil {
			return err
		}
	}
	return nil
}

// ImageUses returns when each image was used last.
func (db *DB) ImageUses() (map[string]time.Time, error) {
	uses := map[string]time.Time{}
	err := db.bolt.View(func(tx *bbolt.Tx) error {
		return tx.Bucket(imagesBucket).ForEach(func(k, v []byte) error {
			if len(v) != 8 {
				return fmt.Errorf("the record of image %q is damaged", k)
			}
			uses[string(k)] = time.Unix(int64(binary.BigEndian.Uint64(v)), 0)
			return nil
		})
	})
	return uses, err
}

func (t *Tx) put(bucket []byte, key string, m proto.Message) error {
	data, err := proto.Marshal(m)
	if err != nil {
		return fmt.Errorf("encoding the record of %q: %w", key, err)
	}
	return t.tx.Bucket(bucket).Put([]byte(key), data)
}

// Workloads returns every workload with its status.
func (db *DB) Workloads() ([]*statev1.Workload, error) {
	var all []*statev1.Workload
	err := db.bolt.View(func(tx *bbolt.Tx) error {
		status := tx.Bucket(statusBucket)
		return tx.Bucket(workloadsBucket).ForEach(func(k, v []byte) error {
			w, st := new(statev1.Workload), new(statev1.Status)
			if err := decode(k, v, w); err != nil {
				return err
			}
			if err := decode(k, status.Get(k), st); err != nil {
				return err
			}
			w.Status = st
			all = append(all, w)
			return nil
		})
	})
	return all, err
}

// App returns an app's history; nil when there is none.
func (db *DB) App(environment, name string) (*statev1.App, error) {
	var app *statev1.App
	err := db.bolt.View(func(tx *bbolt.Tx) error {
		key := []byte(Key(environment, name))
		v := tx.Bucket(appsBucket).Get(key)
		if v == nil {
			return nil
		}
		app = new(statev1.App)
		return decode(key, v, app)
	})
	return app, err
}

// Apps returns every app's history, ordered by environment and name.
func (db *DB) Apps() ([]*statev1.App, error) {
	var all []*statev1.App
	err := db.bolt.View(func(tx *bbolt.Tx) error {
		return tx.Bucket(appsBucket).ForEach(func(k, v []byte) error {
			app := new(statev1.App)
			if err := decode(k, v, app); err != nil {
				return err
			}
			all = append(all, app)
			return nil
		})
	})
	return all, err
}

func decode(key, data []byte, m proto.Message) error {
	if err := proto.Unmarshal(data, m); err != nil {
		return fmt.Errorf("the record of %q is damaged: %w", key, err)
	}
	return nil
}

// Pins of two specs are compared as messages, never as bytes, as encodings
// change between builds.
func SamePins(a, b []*purserv1.Pin) bool {
	return len(a) == len(b) && proto.Equal(&statev1.Workload{Pins: a}, &statev1.Workload{Pins: b})
}
