package state

import (
	"go.etcd.io/bbolt"

	statev1 "github.com/purserd/purser/api/purser/state/v1"
)

var rotationKey = []byte("rotation")

// Rotation is what the node has learnt of versions of secrets; empty when that is nothing.
func (db *DB) Rotation() (*statev1.Rotation, error) {
	r := new(statev1.Rotation)
	err := db.bolt.View(func(tx *bbolt.Tx) error {
		data := tx.Bucket(metaBucket).Get(rotationKey)
		if data == nil {
			return nil
		}
		return decode(rotationKey, data, r)
	})
	return r, err
}

// PutRotation writes what the node has learnt of versions of secrets.
func (t *Tx) PutRotation(r *statev1.Rotation) error { return t.put(metaBucket, string(rotationKey), r) }
