package redact

import (
	"io"
	"sync"
	"time"
)

// Writer redacts what is written to it and passes it on. It may be written to by one
// goroutine at a time.
type Writer struct {
	to      io.Writer
	silence time.Duration
	count   func(uint64)

	mu      sync.Mutex
	stream  *Stream
	counted uint64
	waiting *time.Timer // runs while something is held back
	closed  bool
}

// NewWriter returns a Writer that shows what it holds back after a silence, and tells
// count of each label that it writes.
func NewWriter(to io.Writer, m *Matcher, silence time.Duration, count func(uint64)) *Writer {
	w := &Writer{to: to, silence: silence, count: count, stream: m.Stream()}
	w.waiting = time.AfterFunc(silence, w.show)
	w.waiting.Stop()
	return w
}

// Write takes all of data; its error is that of the writer below.
func (w *Writer) Write(data []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.waiting.Stop()
	if err := w.pass(w.stream.Append(nil, data)); err != nil {
		return 0, err
	}
	if w.stream.Held() > 0 && !w.closed {
		w.waiting.Reset(w.silence)
	}
	return len(data), nil
}

// Swap goes on with the values of another Matcher; see [Stream.Swap].
func (w *Writer) Swap(m *Matcher) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.stream.Swap(m)
}

// show passes on what is held back.
func (w *Writer) show() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.closed {
		_ = w.pass(w.stream.Flush(nil)) // the next Write's error tells
	}
}

// Close passes on what is held back. The writer below stays open.
func (w *Writer) Close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return nil
	}
	w.closed = true
	w.waiting.Stop()
	return w.pass(w.stream.Close(nil))
}

func (w *Writer) pass(redacted []byte) error {
	if n := w.stream.Redactions(); n > w.counted {
		w.count(n - w.counted)
		w.counted = n
	}
	if len(redacted) == 0 {
		return nil
	}
	_, err := w.to.Write(redacted)
	return err
}
