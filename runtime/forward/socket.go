package forward

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// socket is what a port is served by: its one end of TCP or UDP.
type socket struct {
	owner *owner
	port  atomic.Pointer[Port]
	tcp   *net.TCPListener
	udp   *udpSocket
	fd    int // of the one or the other

	taking *taking // while it is not paused
	// waiting are connections that a pause has found without a target.
	waiting []*net.TCPConn
}

// taking is the time from a beginning to a pause.
type taking struct {
	stop chan struct{} // closed when it ends
	// group has the loop that takes, and what it took that has no target yet.
	group sync.WaitGroup
}

// bind has the kernel give the port. TCP is plain TCP: as the kernel passes the socket
// on from process to process, it has to be what it says.
func (o *owner) bind(p Port) (*socket, error) {
	var c net.ListenConfig
	c.SetMultipathTCP(false)
	b := p.binding()
	address := net.JoinHostPort(b.host(), strconv.Itoa(int(b.port)))
	if p.Protocol == TCP {
		l, err := c.Listen(context.Background(), b.network(), address)
		if err != nil {
			return nil, err
		}
		return o.newTCP(p, l.(*net.TCPListener))
	}
	u, err := c.ListenPacket(context.Background(), b.network(), address)
	if err != nil {
		return nil, err
	}
	return o.newUDP(p, u.(*net.UDPConn))
}

// adopted is a socket of another process's. The descriptor stays the caller's.
func (o *owner) adopted(p Port, fd int) (*socket, error) {
	f, err := duplicate(fd)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if p.Protocol == TCP {
		l, err := net.FileListener(f)
		if err != nil {
			return nil, err
		}
		if tcp, ok := l.(*net.TCPListener); ok {
			return o.newTCP(p, tcp)
		}
		return nil, errors.Join(errors.New("is none of TCP"), l.Close())
	}
	c, err := net.FilePacketConn(f)
	if err != nil {
		return nil, err
	}
	if udp, ok := c.(*net.UDPConn); ok {
		return o.newUDP(p, udp)
	}
	return nil, errors.Join(errors.New("is none of UDP"), c.Close())
}

func (o *owner) newTCP(p Port, l *net.TCPListener) (*socket, error) {
	s := &socket{owner: o, tcp: l}
	s.port.Store(&p)
	var err error
	if s.fd, err = numberOf(l); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return s, nil
}

func (o *owner) newUDP(p Port, c *net.UDPConn) (*socket, error) {
	s := &socket{owner: o}
	s.port.Store(&p)
	var err error
	if s.fd, err = numberOf(c); err == nil {
		s.udp, err = newUDPSocket(s, c)
	}
	if err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return s, nil
}

// numberOf is the descriptor of a socket, for as long as that is open.
func numberOf(of syscall.Conn) (fd int, err error) {
	raw, err := of.SyscallConn()
	if err == nil {
		err = raw.Control(func(n uintptr) { fd = int(n) })
	}
	return fd, err
}

// begin takes what comes, and goes on with what a pause has found.
func (s *socket) begin() {
	t := &taking{stop: make(chan struct{})}
	s.taking = t
	_ = s.setDeadline(time.Time{})
	if s.udp != nil {
		s.udp.resume()
		t.group.Go(s.udp.read)
		return
	}
	waiting := s.waiting
	s.waiting = nil
	t.group.Go(func() {
		for i, conn := range waiting {
			if !s.admit(conn, t) {
				s.keep(waiting[i+1:]...)
				return
			}
		}
		s.accept(t)
	})
}

// pause returns when nothing is taken any more; it waits in the kernel. What has no target
// yet is kept.
func (s *socket) pause() {
	if s.taking == nil {
		return
	}
	close(s.taking.stop)
	_ = s.setDeadline(time.Unix(1, 0))
	s.taking.group.Wait()
	s.taking = nil
	if s.udp != nil {
		s.udp.pause()
	}
}

func (s *socket) setDeadline(t time.Time) error {
	if s.udp != nil {
		return s.udp.conn.SetReadDeadline(t)
	}
	return s.tcp.SetDeadline(t)
}

// end closes the port, in whichever processes the socket is open, and what has no target
// yet.
func (s *socket) end() {
	s.pause()
	for _, conn := range s.waiting {
		s.owner.f.counters.result(errReleased).Add(1)
		reset(conn)
	}
	s.waiting = nil
	_ = unix.Shutdown(s.fd, unix.SHUT_RDWR)
	s.letGo()
}

// letGo closes what this process has of the socket, which another one may have as well.
func (s *socket) letGo() {
	s.pause()
	for _, conn := range s.waiting {
		conn.Close()
	}
	s.waiting = nil
	if s.udp != nil {
		s.udp.forget()
		s.udp.conn.Close()
		return
	}
	s.tcp.Close()
}

// accept takes connections until the socket is paused.
func (s *socket) accept(t *taking) {
	for {
		conn, err := s.tcp.AcceptTCP()
		switch {
		case err == nil:
			if !s.admit(conn, t) {
				return
			}
		case errors.Is(err, net.ErrClosed), errors.Is(err, os.ErrDeadlineExceeded):
			return
		default: // no descriptors or no memory, for the moment
			fmt.Fprintf(os.Stderr, "accepting on port %s: %v\n", s.port.Load().binding(), err)
			select {
			case <-time.After(100 * time.Millisecond):
			case <-t.stop:
				return
			}
		}
	}
}

// admit has a connection served, as soon as there is room for it. It returns false, and
// has kept it, when the socket is paused meanwhile.
func (s *socket) admit(conn *net.TCPConn, t *taking) bool {
	o := s.owner
	select {
	case o.pending <- struct{}{}:
	case <-t.stop:
		s.keep(conn)
		return false
	}
	select {
	case o.f.connections <- struct{}{}:
	case <-t.stop:
		<-o.pending
		s.keep(conn)
		return false
	}
	o.f.serving.Add(1)
	t.group.Add(1)
	go func() {
		defer o.f.served()
		s.forward(conn, t)
	}()
	return true
}

// keep keeps connections for the next beginning, here or in another process.
func (s *socket) keep(conns ...*net.TCPConn) {
	s.owner.keeping.Lock()
	defer s.owner.keeping.Unlock()
	s.waiting = append(s.waiting, conns...)
}
