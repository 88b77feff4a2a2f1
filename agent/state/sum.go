package state

import (
	"encoding/binary"
	"hash/crc32"

	"go.etcd.io/bbolt"
)

// sumSize is that of the sum before each record's bytes. It is over the key, too, so
// that a record does not pass for another's.
const sumSize = 4

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func sumOf(key, data []byte) uint32 {
	return crc32.Update(crc32.Checksum(key, castagnoli), castagnoli, data)
}

func summed(key, data []byte) []byte {
	return append(binary.BigEndian.AppendUint32(make([]byte, 0, sumSize+len(data)), sumOf(key, data)), data...)
}

// unsum returns what is under a sum, and whether it is what was written. Nothing is
// what nobody wrote, which is no damage.
func unsum(key, stored []byte) (data []byte, ok bool) {
	if stored == nil {
		return nil, true
	}
	if len(stored) < sumSize {
		return nil, false
	}
	data = stored[sumSize:]
	return data, binary.BigEndian.Uint32(stored) == sumOf(key, data)
}

func putSummed(b *bbolt.Bucket, key, data []byte) error { return b.Put(key, summed(key, data)) }
