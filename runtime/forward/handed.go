package forward

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"

	"golang.org/x/sys/unix"
)

// handed is what goes with an owner's socket to the forwarder that takes over: as many
// connections that are held, or sessions, as there are descriptors in the message.
type handed struct {
	Owner    string
	Port     int             // its number among the owner's
	Sessions []handedSession `json:",omitempty"` // those of a UDP port
}

type handedSession struct {
	Client netip.AddrPort
	Local  []byte
	Target int // its number among the owner's
}

// handOver gives what is held by a socket that is paused.
func (o *owner) handOver(port int, to *net.UnixConn) error {
	s := o.sockets[port]
	if s.udp != nil {
		return s.udp.handOver(port, to)
	}
	for some := range slices.Chunk(s.waiting, maxPorts) {
		var fds []int
		for _, conn := range some {
			fd, err := numberOf(conn)
			if err != nil {
				return err
			}
			fds = append(fds, fd)
		}
		if err := send(to, response{Handed: &handed{Owner: o.name, Port: port}}, fds); err != nil {
			return err
		}
	}
	return nil
}

func (u *udpSocket) handOver(port int, to *net.UnixConn) error {
	o := u.s.owner
	targets := o.targets.Load()
	for some := range slices.Chunk(u.all(), maxPorts) {
		h := handed{Owner: o.name, Port: port}
		var fds []int
		for _, s := range some {
			fd, err := numberOf(s.conn)
			if err != nil {
				return err
			}
			fds = append(fds, fd)
			h.Sessions = append(h.Sessions, handedSession{s.key.client, []byte(s.key.local), slices.Index(targets.all, s.target)})
		}
		if err := send(to, response{Handed: &h}, fds); err != nil {
			return err
		}
	}
	return nil
}

// takeHanded has what a socket holds, of which nothing is served yet. It closes the
// descriptors.
func (f *forwarder) takeHanded(h handed, fds []int) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	defer closeAll(fds)
	o := f.owners[h.Owner]
	if o == nil || h.Port < 0 || h.Port >= len(o.sockets) {
		return fmt.Errorf("%s has no port %d", h.Owner, h.Port)
	}
	s := o.sockets[h.Port]
	if s.udp != nil {
		return s.udp.takeSessions(h.Sessions, fds)
	}
	for _, fd := range fds {
		conn, err := connOf[*net.TCPConn](fd)
		if err != nil {
			return err
		}
		s.keep(conn)
	}
	return nil
}

func (u *udpSocket) takeSessions(sessions []handedSession, fds []int) error {
	if len(sessions) != len(fds) {
		return fmt.Errorf("%d sockets do not make %d sessions", len(fds), len(sessions))
	}
	targets := u.s.owner.targets.Load()
	for i, h := range sessions {
		if h.Target < 0 || h.Target >= len(targets.all) {
			continue // it has just been ended
		}
		conn, err := connOf[*net.UDPConn](fds[i])
		if err != nil {
			return err
		}
		s := &session{u: u, key: sessionKey{h.Client, string(h.Local)}, target: targets.all[h.Target], conn: conn}
		u.sessions[s.key] = s
	}
	return nil
}

// connOf makes a connection of a descriptor, which stays the caller's.
func connOf[C net.Conn](fd int) (conn C, err error) {
	f, err := duplicate(fd)
	if err != nil {
		return conn, err
	}
	defer f.Close()
	there, err := net.FileConn(f)
	if err != nil {
		return conn, err
	}
	conn, ok := there.(C)
	if !ok {
		there.Close()
		return conn, fmt.Errorf("a connection of %s was not expected", there.LocalAddr().Network())
	}
	return conn, nil
}

func duplicate(fd int) (*os.File, error) {
	own, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(own), "socket"), nil
}
