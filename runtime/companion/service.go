package companion

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"sync"
	"time"
)

// unused is how long a companion waits for an agent while it has nothing to do.
const unused = 10 * time.Second

// moment is what an answer takes that is under way when a companion ends.
const moment = 10 * time.Millisecond

// acceptPause follows an agent's connection that could not be accepted.
const acceptPause = 100 * time.Millisecond

// Service is the agents that a companion serves, and when it ends for want of them. It
// shares the companion's own mutex, as whether there is something to do is decided
// together with whether anybody may still ask for more.
type Service struct {
	mu   sync.Locker
	busy func() bool

	listener *net.UnixListener
	agents   map[*net.UnixConn]bool
	closed   bool        // no agent is served any more
	idle     *time.Timer // runs while there are no agents, and nothing to do
	over     chan struct{}
	end      func() // closes over, once
}

// NewService has busy called with mu, to know whether there is something to do.
func NewService(mu sync.Locker, busy func() bool) *Service {
	s := &Service{mu: mu, busy: busy, agents: map[*net.UnixConn]bool{}, over: make(chan struct{})}
	s.end = sync.OnceFunc(func() { time.AfterFunc(moment, func() { close(s.over) }) })
	s.idle = time.AfterFunc(unused, s.endUnused)
	s.idle.Stop()
	return s
}

// Over is closed when the companion is to end.
func (s *Service) Over() <-chan struct{} { return s.over }

// Listen, with the mutex, has each agent's connection served, for as long as serve does. The
// caller has the lock of the directory: a socket that is there is that of one which does not
// serve any more.
func (s *Service) Listen(path string, serve func(*net.UnixConn)) error {
	fresh := path + ".next" // so that there is a socket at any time
	if err := os.Remove(fresh); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("listening for agents: %w", err)
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: fresh})
	if err != nil {
		return fmt.Errorf("listening for agents: %w", err)
	}
	l.SetUnlinkOnClose(false) // it may be the next one's by then
	if err := os.Rename(fresh, path); err != nil {
		return errors.Join(fmt.Errorf("listening for agents: %w", err), l.Close())
	}
	s.listener = l
	s.Rest()
	go s.accept(l, serve)
	return nil
}

func (s *Service) accept(l *net.UnixListener, serve func(*net.UnixConn)) {
	for {
		conn, err := l.AcceptUnix()
		switch {
		case err == nil:
			go s.serve(conn, serve)
		case errors.Is(err, net.ErrClosed):
			return
		default:
			time.Sleep(acceptPause) // until there are descriptors again, say
		}
	}
}

func (s *Service) serve(conn *net.UnixConn, serve func(*net.UnixConn)) {
	defer conn.Close()
	if s.join(conn) {
		defer s.leave(conn)
		serve(conn)
	}
}

// join says whether an agent is served.
func (s *Service) join(conn *net.UnixConn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.agents[conn] = true
		s.Rest()
	}
	return !s.closed
}

func (s *Service) leave(conn *net.UnixConn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.agents, conn)
	s.Rest()
}

// Rest, with the mutex, is to be called when there is something to do, or nothing any more.
func (s *Service) Rest() {
	if s.unneeded() {
		s.idle.Reset(unused)
	} else {
		s.idle.Stop()
	}
}

func (s *Service) unneeded() bool { return len(s.agents) == 0 && !s.busy() }

func (s *Service) endUnused() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.unneeded() {
		s.End()
	}
}

// End, with the mutex, has the companion end, after a moment for answers that are under way.
// Agents that come do so too late.
func (s *Service) End() {
	s.closed = true
	s.end()
}

// Retire, with the mutex, lets go of all agents but one, for who goes on without any.
func (s *Service) Retire(but *net.UnixConn) {
	s.closed = true
	if s.listener != nil {
		s.listener.Close()
	}
	for conn := range s.agents {
		if conn != but {
			conn.Close()
		}
	}
}

// Close lets go of all agents.
func (s *Service) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.idle.Stop()
	s.Retire(nil)
}

// Agents, with the mutex, are how many are being served.
func (s *Service) Agents() int { return len(s.agents) }
