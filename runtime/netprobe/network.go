package netprobe

import (
	"context"
	"fmt"
	"net"
	"os"
	"sync"

	"github.com/purserd/purser/runtime/netns"
)

// Network is where a process listens. It stays there until it is closed, also when the
// process has ended, so that nobody else's is ever meant.
type Network struct {
	ns *os.File // nil for this process's own
}

// Open opens the network of a process of the node.
func Open(pid int) (*Network, error) {
	ns, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", pid))
	if err != nil {
		return nil, fmt.Errorf("opening the network of process %d: %w", pid, err)
	}
	theirs, err := ns.Stat()
	if err != nil {
		ns.Close()
		return nil, fmt.Errorf("looking at the network of process %d: %w", pid, err)
	}
	if ours, err := os.Stat(netns.Own); err == nil && os.SameFile(ours, theirs) {
		ns.Close()
		return &Network{}, nil
	}
	return &Network{ns: ns}, nil
}

// Close lets go of the network. No try may be under way.
func (n *Network) Close() error {
	if n.ns == nil {
		return nil
	}
	return n.ns.Close()
}

// connections are those of one try. Clients begin and keep some beyond the request that
// they were for, as when its time is over; with close they end.
type connections struct {
	network *Network
	ctx     context.Context // the try's

	mu      sync.Mutex
	closed  bool
	dialing sync.WaitGroup
	open    []net.Conn
}

// loopback connects to a port of the network's loopback address: IPv6's when nobody
// listens at IPv4's.
func (c *connections) loopback(port string) (net.Conn, error) {
	if !c.begin() {
		return nil, net.ErrClosed
	}
	defer c.dialing.Done()
	conn, err := c.network.dial(c.ctx, net.JoinHostPort("127.0.0.1", port))
	if err != nil && c.ctx.Err() == nil {
		if six, failed := c.network.dial(c.ctx, net.JoinHostPort("::1", port)); failed == nil {
			conn, err = six, nil
		}
	}
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.open = append(c.open, conn)
	return conn, nil
}

func (c *connections) begin() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.closed {
		c.dialing.Add(1)
	}
	return !c.closed
}

// close ends them all. The try's ctx has ended before.
func (c *connections) close() {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.dialing.Wait()
	for _, conn := range c.open {
		conn.Close()
	}
}

// dial connects to an address, which has no names in it: looking one up would leave
// the thread that is in the network.
func (n *Network) dial(ctx context.Context, address string) (c net.Conn, err error) {
	dial := func() (err error) {
		var d net.Dialer
		c, err = d.DialContext(ctx, "tcp", address)
		return err
	}
	if n.ns == nil {
		err = dial()
	} else {
		err = netns.DoIn(n.ns, dial)
	}
	return c, err
}
