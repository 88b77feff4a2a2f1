package forward

import (
	"net/netip"
	"os"

	"golang.org/x/sys/unix"
)

// stream is one end of a TCP connection. Package net's takes a dozen system calls to
// make, before the first byte is passed on; this one takes two, and none before open.
type stream struct {
	fd  int
	f   *os.File // nil until it is open
	raw rawConn
}

// open has the runtime tell when there is something to read or room to write.
func (s *stream) open() (err error) {
	if s.f == nil {
		s.f = os.NewFile(uintptr(s.fd), "connection")
		s.raw, err = s.f.SyscallConn()
	}
	return err
}

func (s *stream) close() {
	if s.f != nil {
		s.f.Close()
		return
	}
	unix.Close(s.fd)
}

// do calls a function with the descriptor, unless it is closed.
func (s *stream) do(call func(fd int) error) error {
	if s.f == nil {
		return call(s.fd)
	}
	var failed error
	if err := s.raw.Control(func(fd uintptr) { failed = call(int(fd)) }); err != nil {
		return err
	}
	return failed
}

// finish ends this half of the connection.
func (s *stream) finish() {
	_ = s.do(func(fd int) error { return unix.Shutdown(fd, unix.SHUT_WR) })
}

// reset closes the connection so that its other end knows that it has failed.
func (s *stream) reset() {
	_ = s.do(func(fd int) error {
		return unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
	})
	s.close()
}

// dead tells whether a connection has ended for the kernel, as it was reset, lost, or
// finished by both sides.
func (s *stream) dead() bool {
	var is bool
	err := s.do(func(fd int) error {
		is = closedState(fd)
		return nil
	})
	return err != nil || is
}

func closedState(fd int) bool {
	const closed = 7 // TCP_CLOSE of linux/tcp_states.h
	info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
	return err != nil || info.State == closed
}

// local is this end's address.
func (s *stream) local() (at netip.AddrPort, err error) {
	err = s.do(func(fd int) error {
		address, err := unix.Getsockname(fd)
		at = addrPort(address)
		return err
	})
	return at, err
}

// addrPort is an address as it is, IPv4's in IPv6 being IPv4's.
func addrPort(address unix.Sockaddr) netip.AddrPort {
	switch a := address.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(a.Addr), uint16(a.Port))
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(a.Addr).Unmap(), uint16(a.Port))
	}
	return netip.AddrPort{}
}
