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
		if err := s.read(ctx, instance, o, yield); err != nil {
			yield(Entry{}, fmt.Errorf("reading the log of %s: %w", instance, err))
		}
	}
}

func (s *Store) read(ctx context.Context, instance string, o ReadOptions, yield func(Entry, error) bool) error {
	path, err := s.path(instance)
	if err != nil {
		return err
	}
	// Before the file: a writer that closes in between has written it all.
	writer := s.writer(instance)
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	if err := seekTail(f, o.Tail); err != nil {
		return err
	}
	r := &reader{file: f, buf: bufio.NewReaderSize(f, maxRecord), since: o.Since}
	if !o.Follow || writer == nil {
		_, err := r.rest(ctx, yield)
		return err
	}
	return r.follow(ctx, writer, yield)
}

// reader reads a file's whole records. What is left of an unfinished one is
// kept for when the rest of it is there.
type reader struct {
	file    *os.File
	buf     *bufio.Reader
	since   time.Time
	partial []byte
	skip    bool // in a record too long to be one
}

func (r *reader) follow(ctx context.Context, w *Writer, yield func(Entry, error) bool) error {
	for {
		more, ok := w.watch()
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
func (r *reader) rest(ctx context.Context, yield func(Entry, error) bool) (bool, error) {
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

func (r *reader) next() (Entry, error) {
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
