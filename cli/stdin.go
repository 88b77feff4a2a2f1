package cli

import (
	"errors"
	"io"
	"sync"
	"time"
)

// stdinChunk is how much of standard input is read at once.
const stdinChunk = 32 << 10

// sender lets standard input, signals and sizes share one stream, which takes only
// one message at a time. It sends no more of standard input than the agent has
// room for, so that the rest need not wait behind it.
type sender[T any] struct {
	mu   sync.Mutex
	send func(*T) error

	space sync.Mutex
	more  sync.Cond
	room  int
	over  bool
	// asked tells that the agent has ever had room, late is called when it has not
	// for roomPatience.
	asked bool
	late  func()
}

// roomPatience is how long standard input waits before the user is told.
const roomPatience = 10 * time.Second

func newSender[T any](send func(*T) error, late func()) *sender[T] {
	s := &sender[T]{send: send, late: late}
	s.more.L = &s.space
	return s
}

func (s *sender[T]) do(message *T) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.send(message)
}

// grant notes that the agent has more room.
func (s *sender[T]) grant(room uint32) {
	s.space.Lock()
	defer s.space.Unlock()
	s.room += int(room)
	s.asked = true
	s.more.Broadcast()
}

// stop ends copy, should it be waiting for room.
func (s *sender[T]) stop() {
	s.space.Lock()
	defer s.space.Unlock()
	s.over = true
	s.more.Broadcast()
}

// take waits for room and takes up to n bytes of it; 0 when there will be none.
func (s *sender[T]) take(n int) int {
	s.space.Lock()
	defer s.space.Unlock()
	if !s.asked {
		defer time.AfterFunc(roomPatience, s.late).Stop()
	}
	for s.room == 0 && !s.over {
		s.more.Wait()
	}
	if s.over {
		return 0
	}
	n = min(n, s.room)
	s.room -= n
	return n
}

// warnOfNoRoom tells why standard input may wait for ever. That is not known: a busy
// node takes its time, too, to run a command.
func (s *session) warnOfNoRoom(t *terminal) func() {
	return func() {
		end := ""
		if t != nil {
			end = "\r" // it shows lines as they are by now
		}
		s.warn("standard input waits, as the agent has not asked for it for %s: an agent that is older than this purser never does (compare purser node with purser version)%s", roomPatience, end)
	}
}

// errStreamOver is where the stream has ended, whose reader learns why.
var errStreamOver = errors.New("the stream has ended")

// copy sends all of in, each piece wrapped. It returns nil at its end.
func (s *sender[T]) copy(in io.Reader, wrap func([]byte) *T) error {
	buffer := make([]byte, stdinChunk)
	for {
		n, err := in.Read(buffer)
		for rest := buffer[:n]; len(rest) > 0; {
			k := s.take(len(rest))
			if k == 0 || s.do(wrap(rest[:k])) != nil {
				return errStreamOver
			}
			rest = rest[k:]
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}
