package audit

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"slices"
)

// Query says which records to read.
type Query struct {
	// Last is how many of the newest records to begin with; all when negative.
	Last int
	// After leaves out records up to this number.
	After uint64
	// Follow goes on with those that come.
	Follow bool
	// Match leaves out records for which it returns false, unless it is nil.
	Match func(Record) bool
}

func (q Query) wants(r Record) bool {
	return r.Seq > q.After && (q.Match == nil || q.Match(r))
}

// extent is how far the trail goes at a moment.
type extent struct {
	files []uint64
	size  int64 // of the last file
	more  <-chan struct{}
	ended bool
}

func (l *Log) extent() extent {
	l.mu.Lock()
	defer l.mu.Unlock()
	e := extent{files: l.files, size: -1, more: l.more, ended: l.closed}
	if l.file != nil {
		e.size = l.size
	}
	return e
}

// sizeOf is how much of a file there is to read; -1 for all.
func (e extent) sizeOf(file uint64) int64 {
	if file == e.files[len(e.files)-1] {
		return e.size
	}
	return -1
}

// place is one in the trail; its offset is negative behind the end of a file that
// is not written to any more.
type place struct {
	file   uint64
	offset int64
}

// Read returns records, oldest first. It does not check that they are authentic,
// and leaves out lines that are no records: see [Log.Verify]. With Follow it ends
// with an error when ctx ends, or the log is closed.
func (l *Log) Read(ctx context.Context, q Query) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		if err := l.read(ctx, q, func(r Record) bool { return yield(r, nil) }); err != nil && !errors.Is(err, errEnough) {
			yield(Record{}, err)
		}
	}
}

// errEnough ends a reading whose consumer has had enough.
var errEnough = errors.New("enough")

func (l *Log) read(ctx context.Context, q Query, yield func(Record) bool) error {
	if err := l.queue.settle(ctx); err != nil {
		return err
	}
	e := l.extent()
	at, err := l.readFirst(ctx, q, e, yield)
	if err != nil {
		return err
	}
	for q.Follow {
		if e.ended {
			return fs.ErrClosed
		}
		select {
		case <-e.more:
		case <-ctx.Done():
			return ctx.Err()
		}
		e = l.extent()
		if at, err = l.readOn(ctx, q, e, at, yield); err != nil {
			return err
		}
	}
	return nil
}

// readFirst yields what there is of an extent and returns its end.
func (l *Log) readFirst(ctx context.Context, q Query, e extent, yield func(Record) bool) (place, error) {
	if q.Last < 0 {
		return l.readOn(ctx, q, e, place{}, yield)
	}
	newest, err := l.newest(ctx, q, e)
	if err != nil {
		return place{}, err
	}
	for _, r := range newest {
		if !yield(r) {
			return place{}, errEnough
		}
	}
	return e.end(), nil
}

func (e extent) end() place {
	if len(e.files) == 0 {
		return place{}
	}
	return place{e.files[len(e.files)-1], e.size}
}

// newest reads files from the last one back until it has enough.
func (l *Log) newest(ctx context.Context, q Query, e extent) ([]Record, error) {
	var all []Record
	for _, file := range slices.Backward(e.files) {
		if len(all) >= q.Last {
			break
		}
		var here []Record
		room := q.Last - len(all)
		err := l.readFile(ctx, file, 0, e.sizeOf(file), func(r Record) error {
			if !q.wants(r) {
				return nil
			}
			if here = append(here, r); len(here) >= 2*room {
				here = slices.Clone(here[len(here)-room:])
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
		all = append(here[max(0, len(here)-room):], all...)
	}
	return all, nil
}

// readOn yields what lies between a place and the end of an extent.
func (l *Log) readOn(ctx context.Context, q Query, e extent, from place, yield func(Record) bool) (place, error) {
	for _, file := range e.files {
		if file < from.file || file == from.file && from.offset < 0 {
			continue
		}
		offset := int64(0)
		if file == from.file {
			offset = from.offset
		}
		err := l.readFile(ctx, file, offset, e.sizeOf(file), func(r Record) error {
			if q.wants(r) && !yield(r) {
				return errEnough
			}
			return nil
		})
		if err != nil {
			return from, err
		}
	}
	return e.end(), nil
}

// readFile calls visit for each record of a file. One that a rotation has removed
// has none.
func (l *Log) readFile(ctx context.Context, file uint64, offset, size int64, visit func(Record) error) error {
	r, done, err := l.open(file, offset, size)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("reading the audit trail: %w", err)
	}
	defer done()
	for at, err := range eachLine(r) {
		if err != nil {
			return fmt.Errorf("reading the audit trail: %w", err)
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		record, err := parse(at.text)
		if err != nil {
			continue
		}
		if err := visit(record); err != nil {
			return err
		}
	}
	return nil
}
