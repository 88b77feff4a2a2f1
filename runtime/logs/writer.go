package logs

import (
	"bytes"
	"errors"
	"io"
	"os"
	"sync"
	"time"
)

// Writer appends to the log of one instance. Its methods may be called by many
// goroutines.
type Writer struct {
	closed func()

	mu   sync.Mutex
	file *os.File
	size int64 // of the whole records in file
	buf  []byte
	lost int64
	// more is closed, and replaced, when there is more to read or the writer closes.
	more chan struct{}
	done bool
}

func openWriter(path string) (*Writer, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	size, err := wholeRecords(f)
	if err == nil {
		err = f.Truncate(size)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &Writer{file: f, size: size, more: make(chan struct{})}, nil
}

// wholeRecords returns how much of the file is whole records: up to and
// including its last newline.
func wholeRecords(f *os.File) (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	block := make([]byte, 32<<10)
	for end := info.Size(); end > 0; {
		start := max(0, end-int64(len(block)))
		n, err := f.ReadAt(block[:end-start], start)
		if err != nil && !errors.Is(err, io.EOF) {
			return 0, err
		}
		if i := bytes.LastIndexByte(block[:n], '\n'); i >= 0 {
			return start + int64(i) + 1, nil
		}
		end = start
	}
	return 0, nil
}

// Write appends data that was read from the stream just now. On an error
// nothing of it is kept, and [Writer.Lost] has counted it.
func (w *Writer) Write(stream Stream, data []byte) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.done {
		w.lost += int64(len(data))
		return os.ErrClosed
	}
	w.buf = appendRecords(w.buf[:0], time.Now(), stream, data)
	if n, err := w.file.WriteAt(w.buf, w.size); err != nil {
		w.lost += int64(len(data))
		if n > 0 {
			// On a full disk part of a record may be there; shrinking always works.
			err = errors.Join(err, w.file.Truncate(w.size))
		}
		return err
	}
	w.size += int64(len(w.buf))
	w.wake()
	return nil
}

// Lost returns how many bytes could not be kept.
func (w *Writer) Lost() int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.lost
}

// Close ends the log; those that follow it end when they have read it all.
func (w *Writer) Close() error {
	w.mu.Lock()
	if w.done {
		w.mu.Unlock()
		return nil
	}
	w.done = true
	err := w.file.Close()
	w.wake()
	w.mu.Unlock()
	w.closed()
	return err
}

func (w *Writer) wake() {
	close(w.more)
	w.more = make(chan struct{})
}

// watch returns a channel that is closed when there is more to read than now.
// ok is false when there never will be.
func (w *Writer) watch() (more <-chan struct{}, ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.more, !w.done
}
