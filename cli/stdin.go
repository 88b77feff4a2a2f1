package cli

import (
	"io"
	"sync"
)

// sender lets standard input and signals share one stream, which takes only
// one message at a time.
type sender[T any] struct {
	mu   sync.Mutex
	send func(*T) error
}

func newSender[T any](send func(*T) error) *sender[T] {
	return &sender[T]{send: send}
}

func (s *sender[T]) do(message *T) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.send(message)
}

// copy sends all of in, each piece wrapped, then the message that ends it. It
// returns when the stream has ended, whose reader learns why.
func (s *sender[T]) copy(in io.Reader, wrap func([]byte) *T, end *T) {
	buffer := make([]byte, stdinChunk)
	for {
		n, err := in.Read(buffer)
		if n > 0 && s.do(wrap(buffer[:n])) != nil {
			return
		}
		if err != nil {
			_ = s.do(end)
			return
		}
	}
}
