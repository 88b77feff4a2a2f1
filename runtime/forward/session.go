package forward

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// session is a client of a UDP port, with a socket of its own that is connected to the
// target: what arrives there is for this client.
type session struct {
	u      *udpSocket
	key    sessionKey
	target *target
	conn   *net.UDPConn
	used   atomic.Int64 // when something was sent or received, ns
}

// run brings answers to the client until the session is dropped, idle or paused.
func (s *session) run() {
	f := s.u.s.owner.f
	stop := s.expire()
	defer func() {
		stop()
		f.counters.sessions.Add(^uint64(0))
	}()
	raw, err := s.conn.SyscallConn()
	for err == nil {
		err = s.answer(raw)
	}
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return // paused
	case errors.Is(err, unix.ECONNREFUSED):
		f.counters.dropped.Add(1)
	}
	s.u.drop(s)
}

// expire drops the session when it has not been used for long.
func (s *session) expire() (stop func() bool) {
	most := s.u.s.owner.f.limits.idle
	var timer *time.Timer
	timer = time.AfterFunc(most, func() {
		left := most - time.Since(time.Unix(0, s.used.Load()))
		if left <= 0 {
			s.u.drop(s)
			return
		}
		timer.Reset(left)
	})
	return timer.Stop
}

// answer waits for one datagram, and sends it to the client.
func (s *session) answer(raw rawConn) error {
	var buf *[largest]byte
	var n int
	var failed error
	err := raw.Read(func(fd uintptr) bool {
		buf = datagrams.Get().(*[largest]byte)
		n, failed = ignoringInterrupts(func() (int, error) { return unix.Read(int(fd), buf[:]) })
		if errors.Is(failed, unix.EAGAIN) {
			datagrams.Put(buf)
			return false
		}
		return true
	})
	if err != nil {
		return err
	}
	defer datagrams.Put(buf)
	if failed != nil {
		return failed
	}
	s.used.Store(time.Now().UnixNano())
	c := s.u.s.owner.f.counters
	if s.send(buf[:n]) != nil {
		c.dropped.Add(1)
		return nil
	}
	c.bytesOut.Add(uint64(n))
	return nil
}

// send sends from the address that the client has sent to, unless it is none to send from.
func (s *session) send(datagram []byte) error {
	_, _, err := s.u.conn.WriteMsgUDPAddrPort(datagram, []byte(s.key.local), s.key.client)
	if err != nil && s.key.local != "" {
		_, _, err = s.u.conn.WriteMsgUDPAddrPort(datagram, nil, s.key.client)
	}
	return err
}

// controlSize is room for the control message of either family.
var controlSize = unix.CmsgSpace(unix.SizeofInet6Pktinfo) + unix.CmsgSpace(unix.SizeofInet4Pktinfo)

// wantLocal has the kernel tell to which of the node's addresses a datagram was sent: an
// answer from another would be none to the client.
func wantLocal(conn *net.UDPConn) error {
	if !conn.LocalAddr().(*net.UDPAddr).IP.IsUnspecified() {
		return nil
	}
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = raw.Control(func(fd uintptr) {
		domain, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_DOMAIN)
		if err == nil && domain == unix.AF_INET6 {
			failed = unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1)
			return
		}
		failed = errors.Join(err, unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_PKTINFO, 1))
	})
	return errors.Join(err, failed)
}

// answerFrom makes of the control message that came with a datagram the one that goes
// with its answers: the same address, by whichever interface leads to the client, but
// for addresses that an interface alone gives a meaning.
func answerFrom(control []byte) string {
	messages, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		return ""
	}
	for _, m := range messages {
		switch {
		case m.Header.Level == unix.IPPROTO_IPV6 && m.Header.Type == unix.IPV6_PKTINFO && len(m.Data) >= unix.SizeofInet6Pktinfo:
			info := *(*unix.Inet6Pktinfo)(unsafe.Pointer(&m.Data[0]))
			if !netip.AddrFrom16(info.Addr).IsLinkLocalUnicast() {
				info.Ifindex = 0
			}
			return string(unix.PktInfo6(&info))
		case m.Header.Level == unix.IPPROTO_IP && m.Header.Type == unix.IP_PKTINFO && len(m.Data) >= unix.SizeofInet4Pktinfo:
			info := *(*unix.Inet4Pktinfo)(unsafe.Pointer(&m.Data[0]))
			info.Ifindex = 0
			return string(unix.PktInfo4(&info))
		}
	}
	return ""
}
