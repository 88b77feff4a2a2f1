package state

import (
	"errors"

	"go.etcd.io/bbolt"

	statev1 "github.com/purserd/purser/api/purser/state/v1"
)

var drainKey = []byte("drain")

// Drain is how far the node is drained; nil when it is not.
func (db *DB) Drain() (drain *statev1.Drain, err error) {
	err = db.bolt.View(func(tx *bbolt.Tx) error {
		data := tx.Bucket(metaBucket).Get(drainKey)
		if data == nil {
			return nil
		}
		drain = new(statev1.Drain)
		return decode(drainKey, data, drain)
	})
	return drain, err
}

// SetDrain notes how far the node is drained; nil that it is not.
func (db *DB) SetDrain(drain *statev1.Drain) error {
	return db.Update(func(t *Tx) error {
		if drain == nil {
			return t.tx.Bucket(metaBucket).Delete(drainKey)
		}
		return t.put(metaBucket, string(drainKey), drain)
	})
}

// Check fails when the database cannot be read.
func (db *DB) Check() error {
	return db.bolt.View(func(tx *bbolt.Tx) error {
		if tx.Bucket(metaBucket).Get(schemaKey) == nil {
			return errors.New("it has no schema")
		}
		return nil
	})
}
