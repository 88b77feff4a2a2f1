package forward

import (
	"net/netip"
	"sync"

	"golang.org/x/sys/unix"
)

// Connections that stay on the machine have no network to be careful with: BBR, which
// some nodes have for theirs, sends by a timer, at a measured pace, and takes a third of the
// throughput here. Every kernel has this one.
const (
	unpaced = "reno"
	paced   = "bbr"
)

// insideBuffer is how much may be under way to a target, of which the kernel takes twice as
// much. Left alone it is several MiB, which no processor's cache has.
const insideBuffer = 512 << 10

// nodeControl is the congestion control of the node's connections.
var nodeControl = sync.OnceValue(func() string {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return ""
	}
	defer unix.Close(fd)
	name, _ := unix.GetsockoptString(fd, unix.IPPROTO_TCP, unix.TCP_CONGESTION)
	return name
})

// tuneServer is for a connection to a target, before it is made. What the kernel does not
// allow only costs time.
func tuneServer(fd int) {
	_ = setControl(fd, unpaced)
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, insideBuffer) != nil {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, insideBuffer)
	}
}

// tuneListener has connections accepted unpaced, as none can be made so afterwards.
func tuneListener(fd int) {
	if nodeControl() == paced {
		_ = setControl(fd, unpaced)
	}
}

// tuneClient gives a connection that was accepted the node's control, if it leaves the
// machine.
func tuneClient(fd int, from netip.Addr) {
	if nodeControl() != paced || from.IsLoopback() {
		return
	}
	if at, err := unix.Getsockname(fd); err == nil && addrPort(at).Addr() == from {
		return
	}
	_ = setControl(fd, paced)
}

func setControl(fd int, name string) error {
	return unix.SetsockoptString(fd, unix.IPPROTO_TCP, unix.TCP_CONGESTION, name)
}
