package forward

import (
	"net"
	"sync"

	"golang.org/x/sys/unix"
)

// relay passes on what each of two ends gives, until both have ended, and ends them as
// each other: what one has finished is finished to the other, and a reset is a reset.
func relay(client, server *net.TCPConn, c *counters) {
	r := &relayed{}
	var other sync.WaitGroup
	other.Go(func() { r.half(client, server, &c.bytesOut) })
	r.half(server, client, &c.bytesIn) // here, as most clients have said something already
	other.Wait()
	client.Close()
	server.Close()
}

// relayed is what is known of a connection.
type relayed struct {
	mu     sync.Mutex
	ended  bool // one half of it
	broken bool // one end of it was reset
}

// half passes on what src gives. When it returns, and the other half does, all is over.
func (r *relayed) half(dst, src *net.TCPConn, moved *counter) {
	err := pump(dst, src, moved)
	switch r.outcome(dst, src, err) {
	case over:
		_ = dst.CloseWrite()
		// The other half may be looking for a reset.
		dst.Close()
		src.Close()
	case halfOver:
		_ = dst.CloseWrite()
		if awaitReset(src) && r.breaks() {
			reset(dst)
			reset(src)
		}
	case broken:
		reset(dst)
		reset(src)
	case writerBroken:
		// The other half brings what the end gave before, and then knows.
	}
}

// outcomes of a half.
type outcome int

const (
	over         outcome = iota // and the other half was before
	halfOver                    // the other half goes on
	broken                      // one end was reset
	writerBroken                // the end that was written to was reset, and may have given something before
)

func (r *relayed) outcome(dst, src *net.TCPConn, err error) outcome {
	r.mu.Lock()
	defer r.mu.Unlock()
	other := r.ended
	r.ended = true
	// The error of a reset is told once, maybe to the other half. After both halves have
	// ended a socket is closed in any case.
	if err != nil || !other && dead(src) {
		r.broken = true
	}
	switch {
	case r.broken && err != nil && !other && !dead(src) && dead(dst):
		return writerBroken
	case r.broken:
		return broken
	case other:
		return over
	}
	return halfOver
}

// breaks tells whether a reset of an end that had finished breaks the other half.
func (r *relayed) breaks() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return !r.broken
}

// awaitReset returns true when a connection of which all has been read is reset, false
// when it is closed here.
func awaitReset(conn *net.TCPConn) bool {
	raw, err := conn.SyscallConn()
	if err != nil {
		return false
	}
	err = raw.Read(func(fd uintptr) bool { return closedState(int(fd)) })
	return err == nil
}

// dead tells whether a connection has ended for the kernel, as it was reset, lost, or
// finished by both sides.
func dead(conn *net.TCPConn) bool {
	raw, err := conn.SyscallConn()
	if err != nil {
		return true
	}
	var is bool
	err = raw.Control(func(fd uintptr) { is = closedState(int(fd)) })
	return err != nil || is
}

func closedState(fd int) bool {
	const closed = 7 // TCP_CLOSE of linux/tcp_states.h
	info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
	return err != nil || info.State == closed
}

// reset closes a connection so that its other side knows that it has failed.
func reset(conn *net.TCPConn) {
	_ = conn.SetLinger(0)
	conn.Close()
}
