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
	tcp   *os.File // which listens
	raw   rawConn
	udp   *udpSocket
	fd    int // of the one or the other

	taking *taking // while it is not paused
	// waiting are connections that a pause has found without a target.
	waiting []*accepted
}

// taking is the time from a beginning to a pause.
type taking struct {
	ctx    context.Context // over when it ends
	cancel context.CancelFunc
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
		defer l.Close()
		fd, err := numberOf(l.(*net.TCPListener))
		if err != nil {
			return nil, err
		}
		return o.listening(p, fd)
	}
	u, err := c.ListenPacket(context.Background(), b.network(), address)
	if err != nil {
		return nil, err
	}
	return o.newUDP(p, u.(*net.UDPConn))
}

// adopted is a socket of another process's. The descriptor stays the caller's.
func (o *owner) adopted(p Port, fd int) (*socket, error) {
	if p.Protocol == TCP {
		return o.listening(p, fd)
	}
	f, err := duplicate(fd)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	c, err := net.FilePacketConn(f)
	if err != nil {
		return nil, err
	}
	if udp, ok := c.(*net.UDPConn); ok {
		return o.newUDP(p, udp)
	}
	return nil, errors.Join(errors.New("is none of UDP"), c.Close())
}

// listening makes a socket of a descriptor, which stays the caller's. (Package net's own
// listeners keep what they are asked for by system calls to themselves.)
func (o *owner) listening(p Port, fd int) (*socket, error) {
	protocol, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PROTOCOL)
	if err != nil {
		return nil, err
	}
	listens, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN)
	if err != nil {
		return nil, err
	}
	if protocol != unix.IPPROTO_TCP || listens == 0 {
		return nil, errors.New("does not listen for TCP")
	}
	if err := errors.Join(options(fd), unix.SetNonblock(fd, true)); err != nil {
		return nil, err
	}
	tuneListener(fd)
	s := &socket{owner: o}
	s.port.Store(&p)
	if s.tcp, err = duplicate(fd); err != nil {
		return nil, err
	}
	if s.raw, err = s.tcp.SyscallConn(); err == nil {
		s.fd, err = numberOf(s.tcp)
	}
	if err != nil {
		return nil, errors.Join(err, s.tcp.Close())
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

// begin takes what comes, and goes on with what a pause has found. It does nothing if that
// is being done.
func (s *socket) begin() {
	if s.taking != nil {
		return
	}
	t := &taking{}
	t.ctx, t.cancel = context.WithCancel(context.Background())
	s.taking = t
	_ = s.setDeadline(time.Time{})
	if s.udp != nil {
		s.udp.resume()
		t.group.Go(s.udp.read)
		return
	}
	waiting := s.waiting
	s.waiting = nil
	t.group.Add(1 + len(waiting))
	for _, conn := range waiting {
		go func() {
			if s.admit(conn, t) {
				s.forward(conn, t)
			} else {
				t.group.Done()
			}
		}()
	}
	go s.accept(t)
}

// pause returns when nothing is taken any more; it waits in the kernel. What has no target
// yet is kept.
func (s *socket) pause() {
	if s.taking == nil {
		return
	}
	s.taking.cancel()
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
	return s.tcp.SetReadDeadline(t)
}

// end closes the port, in whichever processes the socket is open, and what has no target
// yet.
func (s *socket) end() {
	s.pause()
	for _, conn := range s.waiting {
		s.owner.f.counters.result(errReleased).Add(1)
		conn.reset()
	}
	s.waiting = nil
	_ = unix.Shutdown(s.fd, unix.SHUT_RDWR)
	s.letGo()
}

// letGo closes what this process has of the socket, which another one may have as well.
func (s *socket) letGo() {
	s.pause()
	for _, conn := range s.waiting {
		conn.close()
	}
	s.waiting = nil
	if s.udp != nil {
		s.udp.forget()
		s.udp.conn.Close()
		return
	}
	s.tcp.Close()
}

// accept takes a connection and serves it; another goroutine takes the next. So none
// waits for another to wake up.
func (s *socket) accept(t *taking) {
	conn := s.take(t)
	if conn == nil {
		t.group.Done()
		return
	}
	t.group.Add(1)
	go s.accept(t)
	s.forward(conn, t)
}

// take takes a connection, and nil when the socket is paused.
func (s *socket) take(t *taking) *accepted {
	for {
		conn, err := s.next()
		switch {
		case err == nil:
			if s.admit(conn, t) {
				return conn
			}
			return nil
		case errors.Is(err, os.ErrClosed), errors.Is(err, os.ErrDeadlineExceeded):
			return nil
		case errors.Is(err, unix.ECONNABORTED):
			continue
		}
		// No descriptors or no memory, for the moment.
		fmt.Fprintf(os.Stderr, "accepting on port %s: %v\n", s.port.Load().binding(), err)
		select {
		case <-time.After(100 * time.Millisecond):
		case <-t.ctx.Done():
			return nil
		}
	}
}

// next accepts a connection.
func (s *socket) next() (conn *accepted, err error) {
	failed := s.raw.Read(func(fd uintptr) bool {
		var from unix.Sockaddr
		var n int
		n, from, err = unix.Accept4(int(fd), unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
		if err == nil {
			conn = &accepted{stream{fd: n}, addrPort(from)}
			tuneClient(n, conn.from.Addr())
		}
		return err != unix.EAGAIN && err != unix.EINTR
	})
	if failed != nil {
		return nil, failed
	}
	return conn, err
}

// admit waits for room for a connection. It returns false, and has kept it, when the
// socket is paused meanwhile.
func (s *socket) admit(conn *accepted, t *taking) bool {
	o := s.owner
	select {
	case o.pending <- struct{}{}:
	case <-t.ctx.Done():
		s.keep(conn)
		return false
	}
	select {
	case o.f.connections <- struct{}{}:
		return true
	case <-t.ctx.Done():
		<-o.pending
		s.keep(conn)
		return false
	}
}

// keep keeps a connection for the next beginning, here or in another process.
func (s *socket) keep(conn *accepted) {
	s.owner.keeping.Lock()
	defer s.owner.keeping.Unlock()
	s.waiting = append(s.waiting, conn)
}
