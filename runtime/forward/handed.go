package forward

import (
	"errors"
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
			fds = append(fds, conn.fd)
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
		from, err := unix.Getpeername(fd)
		if err != nil {
			continue // it has gone meanwhile
		}
		own, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			return err
		}
		s.keep(&accepted{stream{fd: own}, addrPort(from)})
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
		conn, err := connectedUDP(fds[i])
		if err != nil {
			return err
		}
		s := &session{u: u, key: sessionKey{h.Client, string(h.Local)}, target: targets.all[h.Target], conn: conn}
		u.sessions[s.key] = s
	}
	return nil
}

// connectedUDP makes a UDP socket of a descriptor, which stays the caller's.
func connectedUDP(fd int) (*net.UDPConn, error) {
	f, err := duplicate(fd)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	conn, err := net.FileConn(f)
	if err != nil {
		return nil, err
	}
	if udp, ok := conn.(*net.UDPConn); ok {
		return udp, nil
	}
	return nil, errors.Join(errors.New("is none of UDP"), conn.Close())
}

func duplicate(fd int) (*os.File, error) {
	own, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(own), "socket"), nil
}
