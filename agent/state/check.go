package state

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
)

// bbolt trusts what it maps into memory: on a damaged page it panics in goroutines
// of its own, faults, or goes round in circles, each of which would end the agent. So
// a file is checked before bbolt gets it, by reading, with every number held against
// its bounds. What is checked is what bbolt goes by: that each page is reached once
// and says so of itself, that keys are in order, and that no page in use counts as
// free. What records hold is checked by their sums.

// The layout of bbolt's files, version 2, in the byte order of the machine.
const (
	pageHeader  = 16 // id, flags (2), count (2), overflow (4)
	elementSize = 16
	metaSize    = 64
	bucketSize  = 16 // root, sequence; then the page if root is 0

	branchPage   = 0x01
	leafPage     = 0x02
	freelistPage = 0x10

	boltMagic   = 0xED0CDAED
	boltVersion = 2
	// noFreelist is where it is when it was not written.
	noFreelist = ^uint64(0)
)

var order = binary.NativeEndian

// errForeign: a file of another version of bbolt's.
var errForeign = errors.New("it has another format: a newer purser wrote it; run that one")

// checker goes through a file.
type checker struct {
	file     io.ReaderAt
	pageSize uint64
	// used are the pages that were reached.
	used []bool
	// schema is the database's; 0 when it was not found.
	schema uint64
}

// checkFile goes through a file of some size. schema is what it is said to be, also
// where there is damage elsewhere.
func checkFile(file io.ReaderAt, size int64) (schema uint64, err error) {
	meta, pageSize, err := readMeta(file, size)
	if err != nil {
		return 0, err
	}
	root, freelist, pages := order.Uint64(meta[16:]), order.Uint64(meta[32:]), order.Uint64(meta[40:])
	if have := uint64(size) / pageSize; pages > have {
		return 0, fmt.Errorf("it is cut off: %d of %d pages are there", have, pages)
	}
	c := &checker{file: file, pageSize: pageSize, used: make([]bool, pages)}
	if err := c.bucket(root, nil, ""); err != nil {
		return c.schema, err
	}
	if freelist == noFreelist {
		return c.schema, nil
	}
	return c.schema, c.freelist(freelist)
}

// readMeta returns the newest of the two that are authentic, and the size of pages.
func readMeta(file io.ReaderAt, size int64) (newest []byte, pageSize uint64, err error) {
	foreign := false
	for at := int64(0); at < min(size, 64<<10+1); at = max(1024, 2*at) {
		m := make([]byte, metaSize)
		if _, err := file.ReadAt(m, at+pageHeader); err != nil || order.Uint32(m) != boltMagic || order.Uint64(m[56:]) != metaSum(m) {
			continue
		}
		if order.Uint32(m[4:]) != boltVersion {
			foreign = true
			continue
		}
		ps := uint64(order.Uint32(m[8:]))
		if at != 0 && uint64(at) != ps || ps < 1024 {
			continue
		}
		if newest == nil || order.Uint64(m[48:]) > order.Uint64(newest[48:]) {
			newest, pageSize = m, ps
		}
	}
	switch {
	case newest != nil:
		return newest, pageSize, nil
	case foreign:
		return nil, 0, errForeign
	default:
		return nil, 0, errors.New("it does not begin as a database does")
	}
}

func metaSum(meta []byte) uint64 {
	h := fnv.New64a()
	h.Write(meta[:56])
	return h.Sum64()
}

// page reads a page that nothing has led to before, with those it flows over into.
func (c *checker) page(id uint64) ([]byte, error) {
	if id < 2 || id >= uint64(len(c.used)) {
		return nil, fmt.Errorf("page %d is outside of it", id)
	}
	header := make([]byte, pageHeader)
	if _, err := c.file.ReadAt(header, int64(id*c.pageSize)); err != nil {
		return nil, fmt.Errorf("reading page %d: %w", id, err)
	}
	count := uint64(order.Uint32(header[12:])) + 1
	if order.Uint64(header) != id || count > uint64(len(c.used))-id {
		return nil, fmt.Errorf("page %d is overwritten", id)
	}
	for n := id; n < id+count; n++ {
		if c.used[n] {
			return nil, fmt.Errorf("page %d is in two places", n)
		}
		c.used[n] = true
	}
	p := make([]byte, count*c.pageSize)
	if _, err := c.file.ReadAt(p, int64(id*c.pageSize)); err != nil {
		return nil, fmt.Errorf("reading page %d: %w", id, err)
	}
	return p, nil
}

// bucket goes through a bucket: from its root page, or in the page that is in its
// place within the parent's.
func (c *checker) bucket(root uint64, inline []byte, name string) error {
	if root == 0 {
		return c.tree(inline, name, nil, nil)
	}
	p, err := c.page(root)
	if err != nil {
		return err
	}
	return c.tree(p, name, nil, nil)
}

// tree goes through a page and all below it, whose keys are from low on and before
// high, if that is not nil.
func (c *checker) tree(p []byte, bucket string, low, high []byte) error {
	if len(p) < pageHeader {
		return fmt.Errorf("bucket %q has no page", bucket)
	}
	flags, count := order.Uint16(p[8:]), int(order.Uint16(p[10:]))
	if flags != branchPage && flags != leafPage || flags == branchPage && count == 0 {
		return fmt.Errorf("page %d is no page of bucket %q", order.Uint64(p), bucket)
	}
	keys := make([][]byte, count)
	for n := range count {
		key, err := keyOf(p, n, flags)
		if err != nil {
			return err
		}
		if n == 0 && bytes.Compare(key, low) < 0 && low != nil || n > 0 && bytes.Compare(keys[n-1], key) >= 0 || high != nil && bytes.Compare(key, high) >= 0 {
			return fmt.Errorf("the keys of page %d are not in order", order.Uint64(p))
		}
		keys[n] = key
	}
	if flags == leafPage {
		return c.leaf(p, bucket, keys)
	}
	return c.branch(p, bucket, keys, high)
}

// keyOf is the key of an element. Each has its place and its key's size where the kind
// of page has them.
func keyOf(p []byte, n int, flags uint16) ([]byte, error) {
	at := pageHeader + n*elementSize
	if at+elementSize > len(p) {
		return nil, fmt.Errorf("page %d is overwritten", order.Uint64(p))
	}
	field := 0
	if flags == leafPage {
		field = 4
	}
	pos, size := order.Uint32(p[at+field:]), order.Uint32(p[at+field+4:])
	return within(p, uint64(at)+uint64(pos), uint64(size))
}

// within is a part of a page.
func within(p []byte, at, size uint64) ([]byte, error) {
	if at > uint64(len(p)) || size > uint64(len(p))-at {
		return nil, fmt.Errorf("page %d points out of itself", order.Uint64(p))
	}
	return p[at : at+size], nil
}

func (c *checker) branch(p []byte, bucket string, keys [][]byte, high []byte) error {
	for n, key := range keys {
		child, err := c.page(order.Uint64(p[pageHeader+n*elementSize+8:]))
		if err != nil {
			return err
		}
		next := high
		if n+1 < len(keys) {
			next = keys[n+1]
		}
		if err := c.tree(child, bucket, key, next); err != nil {
			return err
		}
	}
	return nil
}

func (c *checker) leaf(p []byte, bucket string, keys [][]byte) error {
	for n, key := range keys {
		at := pageHeader + n*elementSize
		flags, pos, size := order.Uint32(p[at:]), order.Uint32(p[at+4:]), order.Uint32(p[at+12:])
		value, err := within(p, uint64(at)+uint64(pos)+uint64(len(key)), uint64(size))
		if err != nil {
			return err
		}
		switch {
		case flags == 1 && len(value) < bucketSize:
			return fmt.Errorf("bucket %q is cut off", key)
		case flags == 1:
			if err := c.bucket(order.Uint64(value), value[bucketSize:], string(key)); err != nil {
				return err
			}
		case flags != 0:
			return fmt.Errorf("page %d is overwritten", order.Uint64(p))
		case bucket == string(metaBucket) && bytes.Equal(key, schemaKey) && len(value) == 8:
			c.schema = binary.BigEndian.Uint64(value)
		}
	}
	return nil
}

// freelist sees that no page counts as free that is in use: it would be written over.
func (c *checker) freelist(id uint64) error {
	p, err := c.page(id)
	if err != nil {
		return err
	}
	count, at := uint64(order.Uint16(p[10:])), uint64(pageHeader)
	if count == 0xFFFF {
		count, at = order.Uint64(p[pageHeader:]), pageHeader+8
	}
	if order.Uint16(p[8:]) != freelistPage || count > (uint64(len(p))-at)/8 {
		return fmt.Errorf("page %d is not the list of free pages", id)
	}
	for n := range count {
		free := order.Uint64(p[at+8*n:])
		if free < 2 || free >= uint64(len(c.used)) || c.used[free] {
			return fmt.Errorf("page %d is in use and counts as free", free)
		}
		c.used[free] = true
	}
	return nil
}
