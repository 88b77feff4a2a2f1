package forward

import (
	"context"
	"errors"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// dial connects to a target's address until a context is over, or for a time at most.
//
// An instance is on the same machine: the answer of its listening socket is there before
// connect(2) returns. net.Dialer goes to sleep first, and has a goroutine watch the
// context, which takes longer than all else.
func dial(to netip.AddrPort, most time.Duration, during ...context.Context) (*stream, error) {
	family, address := unix.AF_INET6, unix.Sockaddr(&unix.SockaddrInet6{Port: int(to.Port()), Addr: to.Addr().As16()})
	if to.Addr().Is4() {
		family, address = unix.AF_INET, &unix.SockaddrInet4{Port: int(to.Port()), Addr: to.Addr().As4()}
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, unix.IPPROTO_TCP)
	if err != nil {
		return nil, err
	}
	tuneServer(fd)
	s := &stream{fd: fd}
	if err := errors.Join(options(fd), s.connect(address, most, during)); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

func (s *stream) connect(to unix.Sockaddr, most time.Duration, during []context.Context) error {
	err := unix.Connect(s.fd, to)
	if err == unix.EINPROGRESS || err == unix.EINTR {
		err = connectAgain(s.fd, to)
	}
	if err != unix.EALREADY {
		return err
	}
	if err := s.open(); err != nil {
		return err
	}
	if err := s.f.SetWriteDeadline(time.Now().Add(most)); err != nil {
		return err
	}
	var stops []func() bool
	for _, ctx := range during {
		stops = append(stops, context.AfterFunc(ctx, func() { _ = s.f.SetWriteDeadline(time.Unix(1, 0)) }))
	}
	failed := s.raw.Write(func(fd uintptr) bool {
		err = connectAgain(int(fd), to)
		return err != unix.EALREADY
	})
	for _, stop := range stops {
		if !stop() { // and the deadline may be set only now
			failed = context.Canceled
		}
	}
	// A deadline that is left has what is written later fail.
	return errors.Join(failed, err, s.f.SetWriteDeadline(time.Time{}))
}

// connectAgain tells how far a connection is: EALREADY while it is on the way.
func connectAgain(fd int, to unix.Sockaddr) error {
	err := unix.Connect(fd, to)
	if err == unix.EISCONN {
		return nil
	}
	return err
}

// keepAlive is after how many seconds of silence the kernel asks whether the other end
// is there, and how often.
const keepAlive = 15

// options are those of all connections; a listening socket passes them on to what it
// accepts.
func options(fd int) error {
	return errors.Join(
		unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1),
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1),
		unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, keepAlive),
		unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, keepAlive),
	)
}
