package egress_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/purserd/purser/runtime/egress"
)

func at(a netip.Addr, port uint16) netip.AddrPort { return netip.AddrPortFrom(a, port) }

// What is not allowed is refused at once, to every program that uses the kernel's sockets.
func TestSockets(t *testing.T) {
	p := newPair(t)
	for _, port := range []uint16{53, 80} {
		p.outside.serve(port)
	}
	p.apply(friends())
	for _, to := range []netip.Addr{friend4, friend6} {
		for _, port := range []uint16{53, 80} {
			if err := p.inside.connect(at(to, port)); err != nil {
				t.Errorf("allowed: %v", err)
			}
			if err := p.inside.ask(netip.AddrPort{}, at(to, port), 100); err != nil {
				t.Errorf("allowed: %v", err)
			}
		}
		if err := p.inside.ask(netip.AddrPort{}, at(to, 80), 9000); err != nil {
			t.Errorf("allowed, in fragments: %v", err)
		}
		if err := p.inside.ping(to); err != nil {
			t.Errorf("allowed: %v", err)
		}
	}
	if n := p.dropped(); n != 0 {
		t.Errorf("%d allowed packets were dropped", n)
	}
	for _, to := range []netip.Addr{other4, other6, gateway4, gateway6} {
		p.unreachable(t, to)
	}
}

func TestBlocked(t *testing.T) {
	p := newPair(t)
	for _, port := range []uint16{53, 80} {
		p.outside.serve(port)
	}
	p.apply(egress.Policy{Blocked: true})
	for _, to := range []netip.Addr{friend4, friend6, other4, other6, gateway4, gateway6} {
		p.unreachable(t, to)
	}
}

// unreachable tries all that programs do. Each is one packet dropped, so nothing is sent
// again: the program was told.
func (p *pair) unreachable(t *testing.T, to netip.Addr) {
	t.Helper()
	once := func(what string, err, want error) {
		t.Helper()
		if !errors.Is(err, want) {
			t.Errorf("%s %s: got %v, want %v", what, to, err, want)
		}
	}
	before := p.dropped()
	for _, port := range []uint16{53, 80} {
		once("TCP to", p.inside.connect(at(to, port)), unix.ECONNREFUSED)
		once("UDP to", p.inside.ask(netip.AddrPort{}, at(to, port), 100), unix.EPERM)
	}
	once("ping of", p.inside.ping(to), unix.EPERM)
	p.wantDropped(before, 5)
}

// Who waits for an answer to a datagram that was refused is told, too, and does not wait:
// programs seldom look at what becomes of a datagram that they send.
func TestRefusedDatagramIsNotWaitedFor(t *testing.T) {
	p := newPair(t)
	p.apply(egress.Policy{Blocked: true})
	for to, want := range map[netip.Addr]error{other4: unix.EHOSTUNREACH, other6: unix.EACCES} {
		if err := p.inside.await(at(to, 53)); !errors.Is(err, want) {
			t.Errorf("of a datagram to %s the receiver is told %v, want %v", to, err, want)
		}
	}
}

// await sends a datagram, however that goes, and waits for an answer.
func (r *room) await(to netip.AddrPort) (err error) {
	r.do(func() {
		var c *net.UDPConn
		if c, err = net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(to)); err != nil {
			return
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(soon))
		_, _ = c.Write([]byte("question"))
		_, err = c.Read(make([]byte, 1))
	})
	return err
}

// ask sends a datagram and waits for it to come back.
func (r *room) ask(from, to netip.AddrPort, size int) (err error) {
	r.do(func() { err = ask(from, to, size) })
	return err
}

func ask(from, to netip.AddrPort, size int) error {
	var local *net.UDPAddr
	if from.IsValid() {
		local = net.UDPAddrFromAddrPort(from)
	}
	c, err := net.DialUDP("udp", local, net.UDPAddrFromAddrPort(to))
	if err != nil {
		return err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(soon))
	sent := bytes.Repeat([]byte{7}, size)
	if _, err := c.Write(sent); err != nil {
		return err
	}
	got := make([]byte, size+1)
	n, err := c.Read(got)
	if err == nil && !bytes.Equal(got[:n], sent) {
		err = fmt.Errorf("sent %d bytes, got other %d back", size, n)
	}
	return err
}

// ping is an ICMP echo request and its answer.
func (r *room) ping(to netip.Addr) (err error) {
	network, request, reply := "ip4:icmp", byte(8), byte(0)
	if to.Is6() {
		network, request, reply = "ip6:ipv6-icmp", 128, 129
	}
	r.do(func() { err = ping(network, to, request, reply) })
	return err
}

func ping(network string, to netip.Addr, request, reply byte) error {
	c, err := net.DialIP(network, nil, &net.IPAddr{IP: to.AsSlice()})
	if err != nil {
		return err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(soon))
	// The kernel has the checksum of ICMPv6 alone; an identifier of the rest makes up for it.
	echo := []byte{request, 0, 0, 0, ^request, 0xff, 0, 0}
	if _, err := c.Write(echo); err != nil {
		return err
	}
	for got := make([]byte, 1500); ; {
		n, _, err := c.ReadFromIP(got)
		if err != nil || n > 0 && got[0] == reply {
			return err
		}
	}
}

// Connections from outside are served, from wherever they come, as are datagrams at
// published ports when the node asks.
func TestAnswers(t *testing.T) {
	for name, policy := range map[string]egress.Policy{
		"blocked": {Blocked: true, UDPPorts: friends().UDPPorts, Gateways: friends().Gateways},
		"some":    friends(),
	} {
		t.Run(name, func(t *testing.T) {
			p := newPair(t)
			p.inside.serve(7000)
			p.inside.serve(7001)
			p.apply(policy)
			p.forgetNeighbours()
			for _, way := range []struct{ from, to netip.Addr }{
				{gateway4, inside4}, {gateway6, inside6}, {other4, inside4}, {other6, inside6},
			} {
				if err := p.outside.stream(at(way.from, 0), at(way.to, 7000), 8<<20); err != nil {
					t.Errorf("TCP from %s: %v", way.from, err)
				}
			}
			for _, size := range []int{100, 9000} {
				for _, way := range []struct{ from, to netip.Addr }{{gateway4, inside4}, {gateway6, inside6}} {
					if err := p.outside.ask(at(way.from, 0), at(way.to, 7000), size); err != nil {
						t.Errorf("%d bytes of UDP from %s: %v", size, way.from, err)
					}
				}
			}
			if n := p.dropped(); n != 0 {
				t.Errorf("%d packets were dropped", n)
			}
			p.unpublished(t)
		})
	}
}

// unpublished sends from ports that nobody outside can have asked at.
func (p *pair) unpublished(t *testing.T) {
	t.Helper()
	const client = 40000
	for _, way := range []struct{ from, to netip.AddrPort }{
		{at(inside4, 7002), at(gateway4, client)},
		{at(inside6, 7002), at(gateway6, client)},
		{at(inside4, 5353), at(gateway4, 53)},
		{at(inside6, 5353), at(gateway6, 53)},
		{at(inside4, 5353), at(other4, client)},
		{at(inside6, 5353), at(other6, client)},
	} {
		if err := p.inside.ask(way.from, way.to, 100); !errors.Is(err, unix.EPERM) {
			t.Errorf("UDP from %s to %s: got %v", way.from, way.to, err)
		}
	}
}

// forgetNeighbours has both sides look for each other again.
func (p *pair) forgetNeighbours() {
	for _, r := range []*room{p.inside, p.outside} {
		r.run("ip neigh flush all && ip -6 neigh flush all")
	}
}

// stream sends bytes over a connection and reads them back.
func (r *room) stream(from, to netip.AddrPort, size int64) error {
	var c net.Conn
	var err error
	r.do(func() {
		d := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(from), Timeout: soon}
		c, err = d.Dial("tcp", to.String())
	})
	if err != nil {
		return err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(soon))
	sent := make(chan error, 1)
	go func() {
		_, err := io.Copy(c, io.LimitReader(zeros{}, size))
		sent <- err
	}()
	_, err = io.CopyN(io.Discard, c, size)
	return errors.Join(err, <-sent)
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// What a container says to itself, at whichever of its addresses, is its own matter.
func TestLoopback(t *testing.T) {
	p := newPair(t)
	p.inside.serve(7000)
	p.apply(egress.Policy{Blocked: true})
	for _, text := range []string{"127.0.0.1", "::1", inside4.String(), inside6.String()} {
		to := at(netip.MustParseAddr(text), 7000)
		if err := p.inside.connect(to); err != nil {
			t.Error(err)
		}
		if err := p.inside.ask(netip.AddrPort{}, to, 9000); err != nil {
			t.Error(err)
		}
	}
}

// An address is made, found to be nobody else's, and used, under a policy.
func TestAddressMadeLater(t *testing.T) {
	p := newPair(t)
	p.inside.serve(7000)
	p.apply(egress.Policy{Blocked: true})
	p.inside.run("ip addr add fd99::3/64 dev eth0 && ip addr add 10.99.0.3/24 dev eth0")
	eventually(t, func() bool { return !strings.Contains(p.inside.run("ip addr show dev eth0"), "tentative") })
	if out := p.inside.run("ip addr show dev eth0"); strings.Contains(out, "dadfailed") {
		t.Fatal(out)
	}
	for _, text := range []string{"fd99::3", "10.99.0.3"} {
		if err := p.outside.connect(at(netip.MustParseAddr(text), 7000)); err != nil {
			t.Error(err)
		}
	}
	if n := p.dropped(); n != 0 {
		t.Errorf("%d packets were dropped", n)
	}
}

func eventually(t *testing.T, is func() bool) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(soon); !is(); <-tick.C {
		if time.Now().After(end) {
			t.Fatal("not in time")
		}
	}
}
