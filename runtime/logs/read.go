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
)

// ReadOptions say what of a log to read.
type ReadOptions struct {
	// Since leaves out what was written at or before this time; zero leaves out nothing.
	Since time.Time
	// Tail is the number of last lines to begin with, both streams counted
	// together; negative means all, 0 only what is written from now on.
	Tail int
	// Follow goes on until the instance's writer is closed. Without a writer
	// there is nothing to follow.
	Follow bool
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
	path, err := s.path(instance)
	if err != nil {
		return nil, err
	}
	r := &Reader{instance: instance, since: o.Since}
	if o.Follow {
		// Before the file: a writer that closes in between has written it all.
		r.writer = s.writer(instance)
	}
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return r, nil
	}
	if err != nil {
		return nil, err
	}
	if err := seekTail(f, o.Tail); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	r.file, r.buf = f, bufio.NewReaderSize(f, maxRecord)
	return r, nil
}

// Reader reads a log's whole records. What is left of an unfinished one is
// kept for when the rest of it is there.
type Reader struct {
	instance string
	file     *os.File // nil when there is no log
	writer   *Writer  // to be followed; nil for none
	buf      *bufio.Reader
	since    time.Time
	partial  []byte
	skip     bool // in a record too long to be one
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
	if r.file == nil {
		return nil
	}
	if r.writer == nil {
		_, err := r.rest(ctx, yield)
		return err
	}
	for {
		more, ok := r.writer.watch()
		if again, err := r.rest(ctx, yield); !again || err != nil {
			return err
		}
		if !ok {
			return nil
		}
		select {
		case <-more:
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
			return true, nil
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

// seekTail moves to where the last n lines begin.
func seekTail(f *os.File, n int) error {
	if n < 0 {
		return nil
	}
	end, err := wholeRecords(f)
	if err != nil {
		return err
	}
	start, err := tailOffset(f, end, n)
	if err != nil {
		return err
	}
	_, err = f.Seek(start, io.SeekStart)
	return err
}

// tailOffset goes back from end over n lines. What follows the last end of a
// line is a line too.
func tailOffset(f io.ReaderAt, end int64, n int) (int64, error) {
	if n == 0 {
		return end, nil
	}
	at, lines := end, 0
	for at > 0 {
		record, start, err := recordBefore(f, at)
		if err != nil {
			return 0, err
		}
		if endsLine(record) || at == end {
			lines++
		}
		if lines > n {
			return at, nil
		}
		at = start
	}
	return 0, nil
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
