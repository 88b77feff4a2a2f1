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

	loop sync.WaitGroup
	stop chan struct{} // closed when the loop is to end
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
	own, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(own), "socket")
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

// begin takes what comes.
func (s *socket) begin() {
	s.stop = make(chan struct{})
	_ = s.setDeadline(time.Time{})
	if s.udp != nil {
		s.loop.Go(s.udp.read)
		return
	}
	s.loop.Go(s.accept)
}

// pause returns when nothing is taken any more; it waits in the kernel.
func (s *socket) pause() {
	close(s.stop)
	_ = s.setDeadline(time.Unix(1, 0))
	s.loop.Wait()
}

func (s *socket) setDeadline(t time.Time) error {
	if s.udp != nil {
		return s.udp.conn.SetReadDeadline(t)
	}
	return s.tcp.SetDeadline(t)
}

// end closes the port, in whichever processes the socket is open.
func (s *socket) end() {
	_ = unix.Shutdown(s.fd, unix.SHUT_RDWR)
	s.letGo()
	if s.udp != nil {
		s.udp.forget()
	}
}

// letGo closes the socket in this process.
func (s *socket) letGo() {
	if s.stop != nil {
		s.pause()
	}
	if s.udp != nil {
		s.udp.conn.Close()
		return
	}
	s.tcp.Close()
}

// accept takes connections until the socket is paused or closed.
func (s *socket) accept() {
	for {
		conn, err := s.tcp.AcceptTCP()
		switch {
		case err == nil:
			if !s.admit(conn) {
				reset(conn)
				return
			}
		case errors.Is(err, net.ErrClosed), errors.Is(err, os.ErrDeadlineExceeded):
			return
		default: // no descriptors or no memory, for the moment
			fmt.Fprintf(os.Stderr, "accepting on port %s: %v\n", s.port.Load().binding(), err)
			select {
			case <-time.After(100 * time.Millisecond):
			case <-s.stop:
				return
			}
		}
	}
}

// admit has a connection served, as soon as there is room for it. It returns false when
// the socket is closed meanwhile.
func (s *socket) admit(conn *net.TCPConn) bool {
	o := s.owner
	for _, room := range []chan struct{}{o.pending, o.f.connections} {
		select {
		case room <- struct{}{}:
		case <-o.released:
			return false
		}
	}
	o.f.serving.Add(1)
	go func() {
		defer o.f.served()
		s.forward(conn)
	}()
	return true
}
