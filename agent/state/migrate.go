package state

import (
	"encoding/binary"
	"fmt"

	"go.etcd.io/bbolt"
	"google.golang.org/protobuf/proto"

	statev1 "github.com/purserd/purser/api/purser/state/v1"
)

// Schema is the version of the database's layout that this build writes.
const Schema = 2

// migrations bring a database from the schema of their index to the next one. They
// are carried out in one transaction, and never changed once released.
var migrations = [Schema]func(*bbolt.Tx) error{
	0: makeBuckets, // of an empty file
	1: sumRecords,
}

// migrate brings a database forward to Schema.
func migrate(tx *bbolt.Tx) error {
	for from := schemaOf(tx); from < Schema; from++ {
		if err := migrations[from](tx); err != nil {
			return fmt.Errorf("bringing it from schema %d to %d: %w", from, from+1, err)
		}
		if err := putUint(tx.Bucket(metaBucket), schemaKey, from+1); err != nil {
			return err
		}
	}
	return nil
}

// schemaOf is the schema that a database has; 0 for an empty one.
func schemaOf(tx *bbolt.Tx) uint64 {
	meta := tx.Bucket(metaBucket)
	if meta == nil || len(meta.Get(schemaKey)) != 8 {
		return 0
	}
	return binary.BigEndian.Uint64(meta.Get(schemaKey))
}

func makeBuckets(tx *bbolt.Tx) error {
	for _, name := range [][]byte{metaBucket, workloadsBucket, statusBucket, appsBucket, imagesBucket} {
		if _, err := tx.CreateBucketIfNotExists(name); err != nil {
			return err
		}
	}
	return nil
}

// sumRecords puts each record under a sum, and makes the place for those that turn out
// to be damaged. A status has a list of instances since then, whose encoding is that of
// the one it had before.
func sumRecords(tx *bbolt.Tx) error {
	if _, err := tx.CreateBucketIfNotExists(damagedBucket); err != nil {
		return err
	}
	for bucket, kind := range map[string]proto.Message{
		string(workloadsBucket): &statev1.Workload{}, string(statusBucket): &statev1.Status{}, string(appsBucket): &statev1.App{},
	} {
		if err := sumBucket(tx.Bucket([]byte(bucket)), kind); err != nil {
			return err
		}
	}
	meta := tx.Bucket(metaBucket)
	for _, key := range [][]byte{sequenceKey, auditKey} {
		if v := meta.Get(key); v != nil {
			if err := putSummed(meta, key, append([]byte{}, v...)); err != nil {
				return err
			}
		}
	}
	return nil
}

// sumBucket does so for a bucket of records of one kind, but for those that cannot be
// read, which are damaged. bbolt allows no change of a bucket that is gone through.
func sumBucket(b *bbolt.Bucket, kind proto.Message) error {
	records := map[string][]byte{}
	err := b.ForEach(func(k, v []byte) error {
		if proto.Unmarshal(v, kind) == nil {
			records[string(k)] = append([]byte{}, v...)
		}
		return nil
	})
	if err != nil {
		return err
	}
	for k, v := range records {
		if err := putSummed(b, []byte(k), v); err != nil {
			return err
		}
	}
	return nil
}
