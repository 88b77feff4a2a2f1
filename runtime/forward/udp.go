package forward

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"
)

// largest is more than a datagram can have.
const largest = 64 << 10

var datagrams = sync.Pool{New: func() any { return new([largest]byte) }}

// udpSocket has the sessions of a UDP port.
type udpSocket struct {
	s    *socket
	conn *net.UDPConn

	running sync.WaitGroup // of sessions

	mu       sync.Mutex
	sessions map[sessionKey]*session
}

// sessionKey is who sends, and to which of the node's addresses.
type sessionKey struct {
	client netip.AddrPort
	local  string // the control message with which an answer leaves from there
}

func newUDPSocket(s *socket, conn *net.UDPConn) (*udpSocket, error) {
	if err := wantLocal(conn); err != nil {
		return nil, err
	}
	return &udpSocket{s: s, conn: conn, sessions: map[sessionKey]*session{}}, nil
}

// read takes datagrams until the socket is paused or closed.
func (u *udpSocket) read() {
	buf, control := make([]byte, largest), make([]byte, controlSize)
	for {
		n, nc, _, from, err := u.conn.ReadMsgUDPAddrPort(buf, control)
		switch {
		case err == nil:
			u.pass(sessionKey{from, answerFrom(control[:nc])}, buf[:n])
		case errors.Is(err, net.ErrClosed), errors.Is(err, os.ErrDeadlineExceeded):
			return
		}
	}
}

// pass sends a datagram to the target of its session.
func (u *udpSocket) pass(k sessionKey, datagram []byte) {
	c := u.s.owner.f.counters
	s := u.session(k)
	if s == nil {
		c.dropped.Add(1)
		return
	}
	s.used.Store(time.Now().UnixNano())
	if _, err := s.conn.Write(datagram); err != nil {
		// The target does not listen, by its answer to an earlier one.
		c.dropped.Add(1)
		u.drop(s)
		return
	}
	c.bytesIn.Add(uint64(len(datagram)))
}

// session finds a client's, or makes it; nil when there is no target.
func (u *udpSocket) session(k sessionKey) *session {
	u.mu.Lock()
	s := u.sessions[k]
	u.mu.Unlock()
	if s != nil {
		return s
	}
	set := u.s.owner.targets.Load()
	t, to, _ := set.pick(*u.s.port.Load(), k.client.Addr().Unmap())
	if t == nil || !t.enter() {
		return nil
	}
	defer t.leave()
	return u.open(k, t, to)
}

// open makes a session, if there is room.
func (u *udpSocket) open(k sessionKey, t *target, to netip.AddrPort) *session {
	f := u.s.owner.f
	u.makeRoom()
	if !f.hasRoom() {
		return nil
	}
	conn, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(to))
	if err != nil {
		<-f.connections
		return nil
	}
	s := &session{u: u, key: k, target: t, conn: conn}
	u.begin(s)
	return s
}

// begin has a session run, for which there is room.
func (u *udpSocket) begin(s *session) {
	f := u.s.owner.f
	s.used.Store(time.Now().UnixNano())
	u.mu.Lock()
	u.sessions[s.key] = s
	u.mu.Unlock()
	f.serving.Add(1)
	f.counters.sessions.Add(1)
	u.running.Add(1)
	go func() {
		defer f.served() // which may wait for who waits for the sessions
		defer u.running.Done()
		s.run()
	}()
}

// pause has the sessions answer no more, while datagrams are in the kernel, and keeps them.
func (u *udpSocket) pause() {
	for _, s := range u.all() {
		_ = s.conn.SetReadDeadline(time.Unix(1, 0))
	}
	u.running.Wait()
}

// resume goes on with the sessions that are kept.
func (u *udpSocket) resume() {
	for _, s := range u.all() {
		_ = s.conn.SetReadDeadline(time.Time{})
		if !u.s.owner.f.hasRoom() {
			u.drop(s)
			continue
		}
		u.begin(s)
	}
}

// makeRoom forgets the client that has been silent the longest, when there are too many.
func (u *udpSocket) makeRoom() {
	var oldest *session
	u.mu.Lock()
	if len(u.sessions) >= u.s.owner.f.limits.sessions {
		for _, s := range u.sessions {
			if oldest == nil || s.used.Load() < oldest.used.Load() {
				oldest = s
			}
		}
	}
	u.mu.Unlock()
	if oldest != nil {
		u.drop(oldest)
	}
}

// drop ends a session. A client that sends again has another.
func (u *udpSocket) drop(s *session) {
	u.mu.Lock()
	if u.sessions[s.key] == s {
		delete(u.sessions, s.key)
	}
	u.mu.Unlock()
	s.conn.Close()
}

// pointed ends the sessions with what is no target any more.
func (u *udpSocket) pointed(now *targetSet) {
	for _, s := range u.all() {
		if !now.has(s.target) {
			u.drop(s)
		}
	}
}

// forget ends all sessions.
func (u *udpSocket) forget() {
	for _, s := range u.all() {
		u.drop(s)
	}
}

func (u *udpSocket) all() []*session {
	u.mu.Lock()
	defer u.mu.Unlock()
	var all []*session
	for _, s := range u.sessions {
		all = append(all, s)
	}
	return all
}
