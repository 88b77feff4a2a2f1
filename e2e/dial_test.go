package e2e

import (
	"context"
	"fmt"
	"net"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// within does something on a thread that is in the node's network namespace.
func (n *node) within(do func() error) (err error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	ours, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return err
	}
	defer ours.Close()
	theirs, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", n.network.Process.Pid))
	if err != nil {
		return err
	}
	defer theirs.Close()
	if err := unix.Setns(int(theirs.Fd()), unix.CLONE_NEWNET); err != nil {
		return err
	}
	// Back, and not ended with the goroutine: nodes that this thread started would end, too.
	defer func() {
		if err := unix.Setns(int(ours.Fd()), unix.CLONE_NEWNET); err != nil {
			panic(err)
		}
	}()
	return do()
}

// dial connects from within the node's network namespace. The address has to be an IP
// address, as nothing else is connected to by the thread that asks.
func (n *node) dial(ctx context.Context, network, address string) (conn net.Conn, err error) {
	err = n.within(func() error {
		var dialer net.Dialer
		conn, err = dialer.DialContext(ctx, network, address)
		return err
	})
	return conn, err
}
