package forward

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// dial connects to a target's address until the context is over, or for a time at most.
//
// An instance is on the same machine: the answer of its listening socket is there before
// connect(2) returns. net.Dialer goes to sleep first, and has a goroutine watch the
// context, which takes longer than all else.
func dial(ctx context.Context, to netip.AddrPort, most time.Duration) (*net.TCPConn, error) {
	fd, err := beginConnecting(to)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), "connection")
	defer f.Close()
	if err := finishConnecting(ctx, f, fd, most); err != nil {
		return nil, err
	}
	conn, err := net.FileConn(f)
	if err != nil {
		return nil, err
	}
	return conn.(*net.TCPConn), nil
}

// beginConnecting returns a socket that is connected, or is about to be.
func beginConnecting(to netip.AddrPort) (fd int, err error) {
	family, address := unix.AF_INET6, unix.Sockaddr(&unix.SockaddrInet6{Port: int(to.Port()), Addr: to.Addr().As16()})
	if to.Addr().Is4() {
		family, address = unix.AF_INET, &unix.SockaddrInet4{Port: int(to.Port()), Addr: to.Addr().As4()}
	}
	fd, err = unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, unix.IPPROTO_TCP)
	if err != nil {
		return 0, err
	}
	err = errors.Join(
		unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1),
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1),
		unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, keepAlive),
		unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, keepAlive),
	)
	if err == nil {
		err = unix.Connect(fd, address)
	}
	if err != nil && !errors.Is(err, unix.EINPROGRESS) && !errors.Is(err, unix.EINTR) {
		unix.Close(fd)
		return 0, err
	}
	return fd, nil
}

// keepAlive is after how many seconds of silence the kernel asks whether the other end
// is there, and how often: what package net has for connections that it accepts.
const keepAlive = 15

// finishConnecting waits until the socket is connected.
func finishConnecting(ctx context.Context, f *os.File, fd int, most time.Duration) error {
	if done, err := connected(fd); done {
		return err
	}
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	if err := f.SetWriteDeadline(time.Now().Add(most)); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = f.SetWriteDeadline(time.Unix(1, 0)) })
	defer stop()
	var failed error
	err = raw.Write(func(uintptr) (done bool) {
		done, failed = connected(fd)
		return done
	})
	return errors.Join(err, failed)
}

// connected tells whether a socket is, or why it will not be.
func connected(fd int) (done bool, err error) {
	refused, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR)
	if err != nil || refused != 0 {
		return true, errors.Join(err, unix.Errno(refused))
	}
	info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
	if err != nil {
		return true, err
	}
	const synSent = 2 // TCP_SYN_SENT of linux/tcp_states.h
	return info.State != synSent, nil
}
