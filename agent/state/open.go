package state

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"time"

	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
	"golang.org/x/sys/unix"
)

// Loss tells what of an earlier database is not in the one that was opened.
type Loss struct {
	// Made: there was no database, and an empty one was made. On a node that has run
	// before, it was lost.
	Made bool
	// Aside is where a damaged database was put, whose place an empty one took, and
	// Damage what is wrong with it.
	Aside  string
	Damage error
	// Records are those that were damaged and put aside, as BUCKET/KEY with a slash
	// between the key's parts.
	Records []string
}

// Loss tells what was lost by the time the database was opened.
func (db *DB) Loss() Loss { return db.loss }

// damageError: the file is not as it was written.
type damageError struct{ err error }

func (e *damageError) Error() string { return e.err.Error() }
func (e *damageError) Unwrap() error { return e.err }

// Open opens the database at path, and makes it if it is not there or is damaged; a
// damaged one is put aside. Another process that has it open is an error after a
// second.
func Open(path string) (*DB, error) {
	db, err := openWhole(path)
	var damage *damageError
	if !errors.As(err, &damage) {
		return db, err
	}
	aside, err := putAside(path)
	if err != nil {
		return nil, fmt.Errorf("%s is damaged (%w) and cannot be put aside: %w", path, damage, err)
	}
	if db, err = openWhole(path); err != nil {
		return nil, err
	}
	db.loss.Aside, db.loss.Damage = aside, damage.err
	return db, nil
}

// openWhole opens the database or says what is wrong with it.
func openWhole(path string) (*DB, error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("opening the state: %w", err)
	}
	db, err := openFile(path, file)
	if err != nil {
		// bbolt may have closed it.
		if closing := file.Close(); closing != nil && !errors.Is(closing, fs.ErrClosed) {
			err = errors.Join(err, closing)
		}
		return nil, err
	}
	return db, nil
}

func openFile(path string, file *os.File) (*DB, error) {
	if err := lock(path, file); err != nil {
		return nil, err
	}
	info, err := file.Stat()
	if err != nil {
		return nil, fmt.Errorf("opening %s: %w", path, err)
	}
	if info.Size() > 0 {
		if err := check(path, file, info.Size()); err != nil {
			return nil, err
		}
	}
	db := &DB{loss: Loss{Made: info.Size() == 0}}
	err = guarded(func() (err error) {
		db.bolt, err = bbolt.Open(path, 0o600, &bbolt.Options{
			Timeout: time.Second, FreelistType: bbolt.FreelistMapType,
			// The one that is locked and has been checked.
			OpenFile: func(string, int, os.FileMode) (*os.File, error) { return file, nil },
		})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("opening %s: %w", path, err)
	}
	if err := guarded(db.prepare); err != nil {
		return nil, errors.Join(fmt.Errorf("preparing %s: %w", path, err), db.bolt.Close())
	}
	return db, nil
}

// lockPatience is how long an agent that is about to end has to let go.
const lockPatience = time.Second

// lock keeps other processes from the file, bbolt's way. It lasts until the file is closed.
func lock(path string, file *os.File) error {
	for deadline := time.Now().Add(lockPatience); ; time.Sleep(50 * time.Millisecond) {
		err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		switch {
		case err == nil:
			return nil
		case !errors.Is(err, unix.EWOULDBLOCK):
			return fmt.Errorf("locking %s: %w", path, err)
		case time.Now().After(deadline):
			return fmt.Errorf("%s is in use: another agent runs on this state directory", path)
		}
	}
}

// check reads through a file before bbolt trusts it.
func check(path string, file *os.File, size int64) error {
	schema, err := checkFile(file, size)
	switch {
	case schema > Schema && schema < absurd:
		// Whatever is wrong with it is for the newer one to see to.
		return fmt.Errorf("%s was written by a newer purser (schema %d; this one knows %d), and nothing in it was changed: run that one", path, schema, Schema)
	case errors.Is(err, errForeign):
		return fmt.Errorf("%s: %w", path, err)
	case err == nil && schema == 0, schema >= absurd:
		return &damageError{errors.New("it does not say which schema it has")}
	case err != nil:
		return &damageError{err}
	}
	return nil
}

// absurd is a schema that no purser will have.
const absurd = 1 << 16

// guarded turns a panic of bbolt's, and a fault in what it has mapped, into damage:
// what the check has not seen must not end the agent.
func guarded(f func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			err = &damageError{fmt.Errorf("bbolt: %v", p)}
		}
	}()
	if err = f(); errors.Is(err, bolterrors.ErrInvalid) || errors.Is(err, bolterrors.ErrChecksum) {
		return &damageError{err}
	}
	return err
}

// putAside renames a damaged database, to a name that nothing has.
func putAside(path string) (string, error) {
	stamp := path + ".damaged-" + time.Now().UTC().Format("20060102T150405Z")
	aside := stamp
	for n := 2; ; n++ {
		if _, err := os.Lstat(aside); errors.Is(err, fs.ErrNotExist) {
			break
		}
		aside = fmt.Sprintf("%s-%d", stamp, n)
	}
	if err := os.Rename(path, aside); err != nil {
		return "", err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return "", err
	}
	defer dir.Close()
	return aside, dir.Sync()
}

// prepare makes the buckets, brings the schema forward, and puts damaged records
// aside. A database that needs none of it is not written to.
func (db *DB) prepare() error {
	var bad []record
	ready := false
	err := db.bolt.View(func(tx *bbolt.Tx) (err error) {
		if ready = schemaOf(tx) == Schema; ready {
			bad, err = damagedRecords(tx)
		}
		return err
	})
	if err != nil || ready && len(bad) == 0 {
		return err
	}
	return db.bolt.Update(func(tx *bbolt.Tx) error {
		if err := migrate(tx); err != nil {
			return err
		}
		if bad, err = damagedRecords(tx); err != nil {
			return err
		}
		for _, r := range bad {
			if err := r.putAside(tx); err != nil {
				return err
			}
			db.loss.Records = append(db.loss.Records, r.String())
		}
		return nil
	})
}

// record is one in a bucket.
type record struct {
	bucket     []byte
	key, value []byte
}

func (r record) String() string {
	return string(r.bucket) + "/" + strings.ReplaceAll(string(r.key), "\x00", "/")
}

// putAside moves a record to where nobody reads it but who looks for what is lost.
func (r record) putAside(tx *bbolt.Tx) error {
	key := fmt.Appendf(nil, "%s\x00%s\x00%s", r.bucket, r.key, time.Now().UTC().Format(time.RFC3339Nano))
	if err := tx.Bucket(damagedBucket).Put(key, r.value); err != nil {
		return err
	}
	return tx.Bucket(r.bucket).Delete(r.key)
}

// damagedRecords are those that are not what was written.
func damagedRecords(tx *bbolt.Tx) ([]record, error) {
	var bad []record
	look := func(bucket, key, value []byte) {
		if _, ok := unsum(key, value); !ok {
			bad = append(bad, record{bucket, append([]byte{}, key...), append([]byte{}, value...)})
		}
	}
	for _, bucket := range [][]byte{workloadsBucket, statusBucket, appsBucket} {
		err := tx.Bucket(bucket).ForEach(func(k, v []byte) error { look(bucket, k, v); return nil })
		if err != nil {
			return nil, err
		}
	}
	for _, key := range [][]byte{sequenceKey, auditKey, drainKey, rotationKey} {
		look(metaBucket, key, tx.Bucket(metaBucket).Get(key))
	}
	return bad, nil
}
