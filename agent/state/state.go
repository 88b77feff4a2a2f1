// Package state is the agent's database: what was asked of this node, and how
// far it has come. It holds no secret value.
//
// It is one bbolt file with a bucket each for workloads (what is wanted,
// written by the API), statuses (what is, written by the supervisors), apps
// (their histories), images (when each was used last) and the database's own
// facts. Records are the protobuf messages of purser.state.v1, each under a sum
// (sum.go). Every write is one transaction, on disk when it returns.
//
// A database of an earlier schema is brought forward when it is opened (migrate.go);
// one of a later schema is refused, and not touched. A file that is damaged (check.go)
// is put aside, never deleted, and an empty one made; a single record that is damaged
// is put aside within the database. [DB.Loss] tells of both (open.go).
package state

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"time"

	"go.etcd.io/bbolt"
	"google.golang.org/protobuf/proto"

	statev1 "github.com/purserd/purser/api/purser/state/v1"
	purserv1 "github.com/purserd/purser/api/purser/v1"
)

var (
	metaBucket      = []byte("meta")
	workloadsBucket = []byte("workloads")
	statusBucket    = []byte("status")
	appsBucket      = []byte("apps")
	imagesBucket    = []byte("images")
	damagedBucket   = []byte("damaged")

	schemaKey   = []byte("schema")
	sequenceKey = []byte("secrets_sequence")
	auditKey    = []byte("audit_head")
)

// DB is an open database.
type DB struct {
	bolt *bbolt.DB
	loss Loss
}

// Close closes the database.
func (db *DB) Close() error { return db.bolt.Close() }

// SecretsSequence is the last number that the secret store was seen at.
func (db *DB) SecretsSequence() (n uint64, err error) {
	err = db.bolt.View(func(tx *bbolt.Tx) error {
		n = sequenceIn(tx)
		return nil
	})
	return n, err
}

func sequenceIn(tx *bbolt.Tx) uint64 {
	if v, ok := unsum(sequenceKey, tx.Bucket(metaBucket).Get(sequenceKey)); ok && len(v) == 8 {
		return binary.BigEndian.Uint64(v)
	}
	return 0
}

// SetSecretsSequence notes the number that the secret store is at, so that an
// older copy of it put in its place is noticed.
func (db *DB) SetSecretsSequence(n uint64) error {
	return db.bolt.Update(func(tx *bbolt.Tx) error {
		if sequenceIn(tx) >= n {
			return nil // an earlier write that comes late
		}
		return putSummed(tx.Bucket(metaBucket), sequenceKey, binary.BigEndian.AppendUint64(nil, n))
	})
}

// AuditHead is the sealed head of the audit trail; nil when none was set.
func (db *DB) AuditHead() (head []byte, err error) {
	err = db.bolt.View(func(tx *bbolt.Tx) error {
		v, _ := unsum(auditKey, tx.Bucket(metaBucket).Get(auditKey))
		head = bytes.Clone(v)
		return nil
	})
	return head, err
}

// SetAuditHead keeps the sealed head of the audit trail.
func (db *DB) SetAuditHead(head []byte) error {
	return db.bolt.Update(func(tx *bbolt.Tx) error { return putSummed(tx.Bucket(metaBucket), auditKey, head) })
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
	return putSummed(t.tx.Bucket(bucket), []byte(key), data)
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

// decode reads a record; none is an empty one.
func decode(key, stored []byte, m proto.Message) error {
	data, ok := unsum(key, stored)
	if !ok {
		return fmt.Errorf("the record of %q is damaged", key)
	}
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
