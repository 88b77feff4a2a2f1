package egress_test

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	goruntime "runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/purserd/purser/e2e/rig"
	"github.com/purserd/purser/runtime/egress"
)

// The main thread is nobody's room: its network is the process's.
func init() { goruntime.LockOSThread() }

// room is a network namespace that a thread holds.
type room struct {
	t    testing.TB
	path string
	call chan func()
}

func newRoom(t testing.TB) *room {
	t.Helper()
	rig.Root(t)
	rig.Program(t, "ip", "apt-get install iproute2")
	r := &room{t: t, call: make(chan func())}
	ready, ended := make(chan error), make(chan struct{})
	go func() {
		defer close(ended)
		goruntime.LockOSThread() // for good: the thread ends with the room
		r.path = fmt.Sprintf("/proc/self/task/%d/ns/net", unix.Gettid())
		ready <- unix.Unshare(unix.CLONE_NEWNET)
		for do := range r.call {
			do()
		}
	}()
	if err := <-ready; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		close(r.call)
		<-ended
	})
	r.run("ip link set lo up")
	return r
}

// do does something in the room. Sockets stay where they were made.
func (r *room) do(f func()) {
	done := make(chan struct{})
	r.call <- func() { defer close(done); f() }
	<-done
}

func (r *room) run(command string) string {
	r.t.Helper()
	var out []byte
	var err error
	r.do(func() { out, err = exec.Command("sh", "-c", command).CombinedOutput() })
	if err != nil {
		r.t.Fatalf("%s: %v: %s", command, err, out)
	}
	return string(out)
}

// pair is a container's network and the world outside, which is one room with several
// addresses: its gateway, and two that are reached through it.
type pair struct{ inside, outside *room }

// Addresses of both.
var (
	inside4, inside6   = netip.MustParseAddr("10.99.0.2"), netip.MustParseAddr("fd99::2")
	gateway4, gateway6 = netip.MustParseAddr("10.99.0.1"), netip.MustParseAddr("fd99::1")
	friend4, friend6   = netip.MustParseAddr("192.0.2.7"), netip.MustParseAddr("2001:db8:1::7")
	other4, other6     = netip.MustParseAddr("198.51.100.7"), netip.MustParseAddr("2001:db8:2::7")
)

// friends is a policy that allows one of the two.
func friends() egress.Policy {
	return egress.Policy{
		Allowed:  []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("2001:db8:1::/48")},
		UDPPorts: []uint16{5353, 7000},
		Gateways: []netip.Addr{gateway4, gateway6},
	}
}

func newPair(t testing.TB) *pair {
	t.Helper()
	p := &pair{newRoom(t), newRoom(t)}
	p.inside.run(fmt.Sprintf("ip link add eth0 type veth peer name out netns %d", p.outside.tid()))
	p.outside.run("echo 0 >/proc/sys/net/ipv6/conf/out/accept_dad")
	for _, a := range []string{"10.99.0.1/24", "fd99::1/64", "192.0.2.7/32", "198.51.100.7/32", "2001:db8:1::7/128", "2001:db8:2::7/128"} {
		p.outside.run("ip addr add " + a + " dev out" + nodad(a))
	}
	p.outside.run("ip link set out up")
	for _, a := range []string{"10.99.0.2/24", "fd99::2/64"} {
		p.inside.run("ip addr add " + a + " dev eth0" + nodad(a))
	}
	p.inside.run("ip link set eth0 up && ip route add default via 10.99.0.1 && ip route add default via fd99::1")
	return p
}

func nodad(address string) string {
	if strings.Contains(address, ":") {
		return " nodad"
	}
	return ""
}

func (r *room) tid() (tid int) {
	r.do(func() { tid = unix.Gettid() })
	return tid
}

func (p *pair) apply(policy egress.Policy) {
	p.inside.t.Helper()
	if err := egress.Apply(p.inside.path, policy); err != nil {
		p.inside.t.Fatal(err)
	}
}

func (p *pair) dropped() uint64 {
	p.inside.t.Helper()
	n, err := egress.Dropped(p.inside.path)
	if err != nil {
		p.inside.t.Fatal(err)
	}
	return n
}

// wantDropped holds what was dropped since there were some against what was sent. On a
// machine that is busy for a second the kernel sends a SYN again before it sees that it was
// refused.
func (p *pair) wantDropped(before, sent uint64) {
	p.inside.t.Helper()
	if n := p.dropped() - before; n < sent || n > sent+1 {
		p.inside.t.Errorf("of %d packets %d were dropped", sent, n)
	}
}

// soon is more than enough for what is to happen.
const soon = 10 * time.Second

// connect makes a TCP connection from a room and closes it.
func (r *room) connect(to netip.AddrPort) (err error) {
	r.do(func() {
		ctx, cancel := context.WithTimeout(context.Background(), soon)
		defer cancel()
		var c net.Conn
		if c, err = (&net.Dialer{}).DialContext(ctx, "tcp", to.String()); err == nil {
			c.Close()
		}
	})
	return err
}

// serve answers every connection and datagram to the room with what was sent.
func (r *room) serve(port uint16) {
	r.t.Helper()
	var l net.Listener
	var err error
	r.do(func() { l, err = net.Listen("tcp", fmt.Sprintf(":%d", port)) })
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { l.Close() })
	go echoTCP(l)
	for _, a := range r.addresses() {
		var u *net.UDPConn
		r.do(func() { u, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(a, port))) })
		if err != nil {
			r.t.Fatal(err)
		}
		r.t.Cleanup(func() { u.Close() })
		go echoUDP(u)
	}
}

// addresses are the room's that are not of a link alone. A datagram is answered from the
// one that it was sent to.
func (r *room) addresses() (all []netip.Addr) {
	r.do(func() {
		found, _ := net.InterfaceAddrs()
		for _, a := range found {
			if p, err := netip.ParsePrefix(a.String()); err == nil && !p.Addr().IsLinkLocalUnicast() {
				all = append(all, p.Addr())
			}
		}
	})
	return all
}

func echoTCP(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			buf := make([]byte, 64<<10)
			for {
				n, err := c.Read(buf)
				if err != nil {
					return
				}
				if _, err := c.Write(buf[:n]); err != nil {
					return
				}
			}
		}()
	}
}

func echoUDP(u *net.UDPConn) {
	buf := make([]byte, 64<<10)
	for {
		n, from, err := u.ReadFromUDPAddrPort(buf)
		if err != nil {
			return
		}
		u.WriteToUDPAddrPort(buf[:n], from) //nolint:errcheck // refused when it is: what is tested
	}
}
