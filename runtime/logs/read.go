package logs

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"
)

// ReadOptions say what of a log to read.
type ReadOptions struct {
	// Since leaves out what was written at or before this time; zero leaves out nothing.
	Since time.Time
	// Tail is the number of last lines to begin with, both streams counted
	// together; negative means all, 0 only what is written from now on.
	Tail int
	// Follow goes on until the log has ended. Where there is none there is nothing
	// to follow.
	Follow bool
}

// OptionsOf are those of a request for logs: since and tail may be nil.
func OptionsOf(since *timestamppb.Timestamp, tail *uint32, follow bool) ReadOptions {
	o := ReadOptions{Tail: -1, Follow: follow}
	if since != nil {
		o.Since = since.AsTime()
	}
	if tail != nil {
		o.Tail = int(*tail)
	}
	return o
}

// Read returns the entries of an instance's log, oldest first. Damaged records
// are left out. An instance that never wrote has an empty log. The iteration
// ends with an error when ctx ends while it follows.
func (s *Store) Read(ctx context.Context, instance string, o ReadOptions) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		r, err := s.Reader(instance, o)
		if err != nil {
			yield(Entry{}, err)
			return
		}
		defer r.Close()
		for e, err := range r.Entries(ctx) {
			if !yield(e, err) {
				return
			}
		}
	}
}

// Reader is [Store.Read] in two steps, for who must not miss what is written
// from now on: the place to begin at is settled when Reader returns. It is to
// be closed.
func (s *Store) Reader(instance string, o ReadOptions) (*Reader, error) {
	r, err := s.reader(instance, o)
	if err != nil {
		return nil, fmt.Errorf("reading the log of %s: %w", instance, err)
	}
	return r, nil
}

func (s *Store) reader(instance string, o ReadOptions) (*Reader, error) {
	dir, err := s.path(instance)
	if err != nil {
		return nil, err
	}
	r := &Reader{store: s, instance: instance, dir: dir, since: o.Since, follow: o.Follow}
	begin, err := tail(dir, o.Tail)
	if err != nil {
		return nil, err
	}
	if begin.Segment == 0 {
		return r, nil
	}
	return r, r.enter(begin)
}

// Reader reads a log's whole records. What is left of an unfinished one is
// kept for when the rest of it is there.
type Reader struct {
	store    *Store
	instance string
	dir      string
	follow   bool
	since    time.Time

	segment int      // that is being read; 0 before the first
	file    *os.File // nil before the first
	buf     *bufio.Reader
	partial []byte
	skip    bool // in a record too long to be one
	// final: there was a later segment already when the last read began, so that
	// the end of this one is its end for good.
	final bool
}

// Entries returns what has not been read yet, as [Store.Read] does.
func (r *Reader) Entries(ctx context.Context) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		if err := r.read(ctx, yield); err != nil {
			yield(Entry{}, fmt.Errorf("reading the log of %s: %w", r.instance, err))
		}
	}
}

// Close lets go of the log.
func (r *Reader) Close() error {
	if r.file == nil {
		return nil
	}
	return r.file.Close()
}

func (r *Reader) read(ctx context.Context, yield func(Entry, error) bool) error {
	if !r.follow {
		// Whoever writes faster than this is read would never see its end.
		began := time.Now()
		_, err := r.rest(ctx, func(e Entry, err error) bool { return !e.Time.After(began) && yield(e, err) })
		return err
	}
	changed, release, err := r.store.watcher.watch(r.dir)
	if errors.Is(err, errNoDir) {
		return nil
	}
	if err != nil {
		return err
	}
	defer release()
	again := time.NewTicker(look)
	defer again.Stop()
	for {
		// Before what is left is read: what ends in between has been written by then.
		over, err := ended(r.dir)
		if err != nil {
			return err
		}
		if more, err := r.rest(ctx, yield); !more || err != nil {
			return err
		}
		if over {
			return nil
		}
		select {
		case <-changed:
		case <-again.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// rest yields what there is. It returns false when the consumer has had enough.
func (r *Reader) rest(ctx context.Context, yield func(Entry, error) bool) (bool, error) {
	for {
		if err := ctx.Err(); err != nil {
			return false, err
		}
		e, err := r.next()
		if errors.Is(err, io.EOF) {
			missed, err := r.advance()
			if err != nil || !missed.any() {
				return err == nil, err
			}
			if missed.segments > 0 && !yield(missed.entry(), nil) {
				return false, nil
			}
			continue
		}
		if errors.Is(err, errDamaged) || (err == nil && !r.since.IsZero() && !e.Time.After(r.since)) {
			continue
		}
		if err != nil {
			return false, err
		}
		if !yield(e, nil) {
			return false, nil
		}
	}
}

func (r *Reader) next() (Entry, error) {
	if r.file == nil {
		return Entry{}, io.EOF
	}
	line, err := r.buf.ReadSlice('\n')
	switch {
	case errors.Is(err, bufio.ErrBufferFull):
		r.skip, r.partial = true, nil
		return Entry{}, errDamaged
	case errors.Is(err, io.EOF):
		r.partial = append(r.partial, line...)
		return Entry{}, io.EOF
	case err != nil:
		return Entry{}, err
	}
	if len(r.partial) > 0 {
		line = append(r.partial, line...)
		r.partial = nil
	}
	if r.skip || len(line) > maxRecord {
		r.skip = false
		return Entry{}, errDamaged
	}
	return parseRecord(line[:len(line)-1])
}

// step is what became of a reader at the end of a segment.
type step struct {
	on       bool // there is more to be read
	segments int  // that were removed before they were read
}

func (s step) any() bool { return s.on }

// entry tells a reader what it has missed.
func (s step) entry() Entry {
	return Entry{Time: time.Now().UTC(), Stream: Stderr, Data: fmt.Appendf(nil,
		"[purser: %d log segments were removed before they were read: more is written than is kept]\n", s.segments)}
}

// advance goes on to the next segment once this one has been read to its end.
func (r *Reader) advance() (step, error) {
	all, err := segments(r.dir)
	if err != nil {
		return step{}, err
	}
	for _, n := range all {
		if n <= r.segment {
			continue
		}
		if !r.final && r.segment > 0 {
			r.final = true // what was written before the next was begun
			return step{on: true}, nil
		}
		missed := n - r.segment - 1
		if r.segment == 0 {
			missed = 0
		}
		err := r.enter(Position{Segment: n})
		if errors.Is(err, fs.ErrNotExist) {
			continue // removed meanwhile
		}
		return step{on: true, segments: missed}, err
	}
	return step{}, nil
}

// enter goes to a place in a log.
func (r *Reader) enter(at Position) error {
	f, err := os.Open(segmentPath(r.dir, at.Segment))
	if err != nil {
		return err
	}
	if _, err := f.Seek(at.Offset, io.SeekStart); err != nil {
		return errors.Join(err, f.Close())
	}
	if err := r.Close(); err != nil {
		return errors.Join(err, f.Close())
	}
	r.segment, r.file, r.partial, r.skip, r.final = at.Segment, f, nil, false, false
	if r.buf == nil {
		r.buf = bufio.NewReaderSize(f, maxRecord)
	}
	r.buf.Reset(f)
	return nil
}

// tail finds where the last n lines of a log begin; all of it when n is negative.
// Segments that are removed meanwhile are not there.
func tail(dir string, n int) (Position, error) {
	for {
		at, err := findTail(dir, n)
		if !errors.Is(err, fs.ErrNotExist) {
			return at, err
		}
	}
}

func findTail(dir string, n int) (Position, error) {
	all, err := segments(dir)
	if err != nil || len(all) == 0 {
		return Position{}, err
	}
	if n < 0 {
		return Position{Segment: all[0]}, nil
	}
	t := tailer{wanted: n}
	for i := len(all) - 1; i >= 0; i-- {
		offset, found, err := t.in(segmentPath(dir, all[i]))
		if found || err != nil {
			return Position{Segment: all[i], Offset: offset}, err
		}
	}
	return Position{Segment: all[0]}, nil
}

// tailer counts lines from the end of a log. What follows the last end of a line is
// a line too.
type tailer struct {
	wanted, lines int
	begun         bool
}

// in goes back through a segment, and says where in it the wanted lines begin if
// they do.
func (t *tailer) in(path string) (offset int64, found bool, err error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, false, err
	}
	defer f.Close()
	at, err := wholeRecords(f)
	if err != nil {
		return 0, false, err
	}
	if t.wanted == 0 {
		return at, true, nil
	}
	for at > 0 {
		record, start, err := recordBefore(f, at)
		if err != nil {
			return 0, false, err
		}
		if endsLine(record) || !t.begun {
			t.lines++
		}
		t.begun = true
		if t.lines > t.wanted {
			return at, true, nil
		}
		at = start
	}
	return 0, false, nil
}

// recordBefore returns the record that ends, newline included, at end, and
// where it starts.
func recordBefore(f io.ReaderAt, end int64) (record []byte, start int64, err error) {
	longest := min(end, maxRecord)
	for size := min(longest, 512); ; size = min(longest, 8*size) {
		block := make([]byte, size)
		if _, err := f.ReadAt(block, end-size); err != nil && !errors.Is(err, io.EOF) {
			return nil, 0, err
		}
		i := bytes.LastIndexByte(block[:size-1], '\n')
		if i >= 0 || size == longest {
			return block[i+1 : size-1], end - size + int64(i) + 1, nil
		}
	}
}
