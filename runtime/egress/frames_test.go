package egress_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/purserd/purser/runtime/egress"
)

// sent is a frame that is written to a packet socket, as gVisor does it and as programs
// could that had CAP_NET_RAW.
type sent struct {
	name   string
	bytes  []byte
	passes bool
}

var (
	unspecified = netip.IPv6Unspecified()
	routers     = netip.MustParseAddr("ff02::2")
	reporters   = netip.MustParseAddr("ff02::16")
	solicited   = netip.MustParseAddr("ff02::1:ff00:2")
	linkRouter  = netip.MustParseAddr("fe80::1")
)

// tries are for the policy that allows friends.
func tries() []sent {
	var all []sent
	add := func(passes bool, name string, b []byte) { all = append(all, sent{name, b, passes}) }
	for _, a := range []struct {
		name          string
		friend, other netip.Addr
		gateway       netip.Addr
		ping          byte
		icmp          byte
	}{{"IPv4", friend4, other4, gateway4, 8, protoICMP}, {"IPv6", friend6, other6, gateway6, 128, protoICMP6}} {
		each := func(passes bool, name string, b []byte) { add(passes, a.name+" "+name, b) }
		each(true, "TCP to an allowed address", ip(a.friend, protoTCP, tcp(syn)))
		each(true, "UDP to an allowed address", ip(a.friend, protoUDP, udp(9, 53)))
		each(true, "ping of an allowed address", ip(a.friend, a.icmp, icmp(a.ping)))
		each(true, "SCTP to an allowed address", ip(a.friend, protoSCTP, udp(9, 9)))
		for name, proto := range map[string]byte{"IP in IP": 4, "IPv6 in IP": 41, "GRE": 47, "ESP": 50, "AH": 51, "IGMP": 2, "a number unused": 200} {
			each(false, name+" to an allowed address", ip(a.friend, proto, tcp(ack)))
		}
		for name, flags := range map[string]byte{"SYN, ACK": syn | ack, "ACK": ack, "FIN, ACK": fin | ack, "RST": rst, "RST, ACK": rst | ack, "ACK, ECE": ack | ece} {
			each(true, "TCP with "+name, ip(a.other, protoTCP, tcp(flags)))
		}
		for name, flags := range map[string]byte{"SYN": syn, "SYN, FIN": syn | fin, "SYN, RST": syn | rst, "SYN, ECE, CWR": syn | ece | cwr} {
			each(false, "TCP with "+name, ip(a.other, protoTCP, tcp(flags)))
			each(false, "TCP to the node with "+name, ip(a.gateway, protoTCP, tcp(flags)))
		}
		each(false, "TCP that ends before its flags", ip(a.other, protoTCP, tcp(ack)[:13]))
		each(false, "UDP", ip(a.other, protoUDP, udp(9, 53)))
		each(false, "ping", ip(a.other, a.icmp, icmp(a.ping)))
		each(false, "SCTP", ip(a.other, protoSCTP, udp(7000, 40000)))
		each(true, "UDP from a published port to the node", ip(a.gateway, protoUDP, udp(7000, 40000)))
		each(false, "UDP from a published port to elsewhere", ip(a.other, protoUDP, udp(7000, 40000)))
		each(false, "UDP from a published port to a server on the node", ip(a.gateway, protoUDP, udp(7000, 53)))
		each(false, "UDP from another port to the node", ip(a.gateway, protoUDP, udp(7001, 40000)))
		each(false, "UDP that ends before its ports", ip(a.gateway, protoUDP, udp(7000, 40000)[:3]))
	}
	add(false, "IPv4 broadcast", ip(netip.MustParseAddr("255.255.255.255"), protoUDP, udp(68, 67)))
	add(false, "IPv4 multicast", ip(netip.MustParseAddr("224.0.0.251"), protoUDP, udp(5353, 5353)))
	add(false, "IPv6 multicast", ip(netip.MustParseAddr("ff02::fb"), protoUDP, udp(5353, 5353)))
	return append(append(append(all, fragments()...), extensions()...), otherFrames()...)
}

func fragments() []sent {
	four := func(to netip.Addr, proto byte, place int, payload []byte) []byte {
		return frame(typeIP4, ip4(to, proto, place, nil, payload))
	}
	six := func(to netip.Addr, proto byte, place int, more bool, payload []byte) []byte {
		return extended(to, 44, fragment6(proto, place, more), payload)
	}
	return []sent{
		{"IPv4 first fragment to an allowed address", four(friend4, protoUDP, more, udp(9, 9)), true},
		{"IPv4 last fragment to an allowed address", four(friend4, protoUDP, 100, udp(9, 9)), true},
		{"IPv6 first fragment to an allowed address", six(friend6, protoUDP, 0, true, udp(9, 9)), true},
		{"IPv6 last fragment to an allowed address", six(friend6, protoUDP, 100, false, udp(9, 9)), true},
		{"IPv4 first fragment of an answer", four(gateway4, protoUDP, more, udp(7000, 40000)), true},
		{"IPv4 last fragment of an answer", four(gateway4, protoUDP, 100, udp(7001, 53)), true},
		{"IPv6 first fragment of an answer", six(gateway6, protoUDP, 0, true, udp(7000, 40000)), true},
		{"IPv6 last fragment of an answer", six(gateway6, protoUDP, 100, false, udp(7001, 53)), true},
		{"IPv4 first fragment from another port", four(gateway4, protoUDP, more, udp(7001, 40000)), false},
		{"IPv6 first fragment from another port", six(gateway6, protoUDP, 0, true, udp(7001, 40000)), false},
		{"IPv6 first fragment to a server on the node", six(gateway6, protoUDP, 0, true, udp(7000, 53)), false},
		{"IPv4 first fragment of UDP", four(other4, protoUDP, more, udp(7000, 40000)), false},
		{"IPv4 last fragment of UDP", four(other4, protoUDP, 100, udp(7000, 40000)), false},
		{"IPv6 first fragment of UDP", six(other6, protoUDP, 0, true, udp(7000, 40000)), false},
		{"IPv6 last fragment of UDP", six(other6, protoUDP, 100, false, udp(7000, 40000)), false},
		{"IPv4 first fragment of TCP", four(other4, protoTCP, more, tcp(ack)), false},
		{"IPv4 short first fragment of TCP", four(other4, protoTCP, more, tcp(syn)[:8]), false},
		{"IPv4 second fragment of TCP, with its flags", four(other4, protoTCP, 1, tcp(syn)[8:]), false},
		{"IPv4 fragment of TCP to the node", four(gateway4, protoTCP, 100, tcp(ack)), false},
		{"IPv6 first fragment of TCP", six(other6, protoTCP, 0, true, tcp(ack)), false},
		{"IPv6 only fragment of TCP", six(other6, protoTCP, 0, false, tcp(ack)), false},
		{"IPv6 last fragment of TCP", six(other6, protoTCP, 100, false, tcp(ack)), false},
		{"IPv6 fragment of TCP to the node", six(gateway6, protoTCP, 100, false, tcp(ack)), false},
	}
}

func extensions() []sent {
	routed := bytesOf([]byte{131, 7, 4}, other4.AsSlice(), []byte{0}) // on from an allowed address
	route6 := func(next, kind byte) []byte {
		return bytesOf([]byte{next, 2, kind, 1, 0, 0, 0, 0}, other6.AsSlice())
	}
	padding := func(next byte) []byte { return []byte{next, 0, 1, 4, 0, 0, 0, 0} }
	alert := []byte{protoICMP6, 0, 5, 2, 0, 0, 1, 0}
	report := bytesOf(icmp(143), solicited.AsSlice())
	onLink := func(from, to netip.Addr, hops byte, b []byte) []byte {
		return frame(typeIP6, ip6(from, to, protoICMP6, hops, b))
	}
	listener := func(to netip.Addr, hops byte, hopByHop, b []byte) []byte {
		return frame(typeIP6, ip6(inside6, to, 0, hops, bytesOf(hopByHop, b)))
	}
	return []sent{
		{"IPv4 source route by an allowed address", frame(typeIP4, ip4(friend4, protoTCP, 0, routed, tcp(syn))), false},
		{"IPv4 options with an ACK", frame(typeIP4, ip4(other4, protoTCP, 0, []byte{1, 1, 1, 1}, tcp(ack))), false},
		{"IPv4 options that look like an answer", frame(typeIP4, ip4(other4, protoTCP, 0, tcp(ack), tcp(syn))), false},
		{"IPv4 with too short a header", frame(typeIP4, bytesOf([]byte{0x44}, ip4(friend4, protoTCP, 0, nil, tcp(syn))[1:])), false},
		{"IPv4 that says to be IPv6", frame(typeIP4, bytesOf([]byte{0x65}, ip4(friend4, protoTCP, 0, nil, tcp(syn))[1:])), false},
		{"IPv6 routing header 0", extended(friend6, 43, route6(protoTCP, 0), tcp(syn)), false},
		{"IPv6 routing header 2", extended(friend6, 43, route6(protoTCP, 2), tcp(syn)), false},
		{"IPv6 segment routing", extended(friend6, 43, route6(protoTCP, 4), tcp(syn)), false},
		{"IPv6 routing header in a fragment", extended(friend6, 44, bytesOf(fragment6(43, 0, false), route6(protoTCP, 4)), tcp(syn)), false},
		{"IPv6 hop-by-hop header to an allowed address", extended(friend6, 0, padding(protoTCP), tcp(syn)), false},
		{"IPv6 destination options to an allowed address", extended(friend6, 60, padding(protoTCP), tcp(syn)), false},
		{"IPv6 destination options before an ACK", extended(other6, 60, padding(protoTCP), tcp(ack)), false},
		{"IPv6 hop-by-hop header before an ACK", extended(other6, 0, padding(protoTCP), tcp(ack)), false},
		{"IPv6 mobility header to an allowed address", extended(friend6, 135, padding(59), tcp(ack)), false},
		{"IPv6 with nothing in it", extended(friend6, 59, nil, tcp(ack)), false},

		{"neighbour solicitation", onLink(inside6, solicited, 255, discovery(135, gateway6)), true},
		{"duplicate address detection", onLink(unspecified, solicited, 255, discovery(135, inside6)), true},
		{"neighbour solicitation of one that is known", onLink(inside6, gateway6, 255, discovery(135, gateway6)), true},
		{"neighbour advertisement", onLink(inside6, gateway6, 255, discovery(136, inside6)), true},
		{"neighbour advertisement to a link's address", onLink(inside6, linkRouter, 255, discovery(136, inside6)), true},
		{"router solicitation", onLink(inside6, routers, 255, icmp(133)), true},
		{"listener report", listener(reporters, 1, alert, report), true},
		{"neighbour solicitation that routers send on", onLink(inside6, gateway6, 64, discovery(135, gateway6)), false},
		{"neighbour solicitation beyond the link", onLink(inside6, other6, 255, discovery(135, other6)), false},
		{"neighbour advertisement beyond the link", onLink(inside6, other6, 255, discovery(136, inside6)), false},
		{"router advertisement", onLink(inside6, reporters, 255, icmp(134)), false},
		{"redirect", onLink(inside6, linkRouter, 255, discovery(137, gateway6)), false},
		{"ping of a neighbour", onLink(inside6, linkRouter, 255, icmp(128)), false},
		{"listener report that routers send on", listener(reporters, 64, alert, report), false},
		{"listener report beyond the link", listener(other6, 1, alert, report), false},
		{"listener report with a longer header before it", listener(reporters, 1, bytesOf([]byte{protoICMP6, 1}, alert[2:], icmp(143)), icmp(128)), false},
		{"ping as a listener report", listener(reporters, 1, alert, icmp(128)), false},
		{"TCP behind a router alert", listener(linkRouter, 1, bytesOf([]byte{protoTCP}, alert[1:]), report), false},
	}
}

func otherFrames() []sent {
	allowed := ip4(friend4, protoTCP, 0, nil, tcp(syn))
	arp := bytesOf(u16(1), u16(typeIP4), []byte{6, 4}, u16(1), make([]byte, 6), inside4.AsSlice(), make([]byte, 6), gateway4.AsSlice())
	all := []sent{
		{"ARP", frame(typeARP, arp), true},
		{"reverse ARP", frame(0x8035, arp), false},
		{"VLAN tag", frame(0x8100, bytesOf(u16(5), u16(typeIP4), allowed)), false},
		{"VLAN tag of priority alone", frame(0x8100, bytesOf(u16(0), u16(typeIP4), allowed)), false},
		{"VLAN tag before ARP", frame(0x8100, bytesOf(u16(5), u16(typeARP), arp)), false},
		{"two VLAN tags", frame(0x88a8, bytesOf(u16(5), u16(0x8100), u16(6), u16(typeIP4), allowed)), false},
		{"MPLS", frame(0x8847, bytesOf([]byte{0, 0, 0x11, 64}, allowed)), false},
		{"PPPoE", frame(0x8864, allowed), false},
		{"LLDP", frame(0x88cc, allowed), false},
		{"IEEE 802.3", frame(40, bytesOf([]byte{0xaa, 0xaa, 3, 0, 0, 0}, u16(typeIP4), allowed)), false},
		{"IPv4 as IPv6", frame(typeIP6, allowed), false},
		{"IPv4 cut short", frame(typeIP4, allowed[:18]), false},
		{"IPv6 cut short", frame(typeIP6, ip6(inside6, friend6, protoTCP, 64, nil)[:30]), false},
	}
	return all
}

// Each is sent without a policy first: it arrives, so that what is tested is the policy.
func TestFrames(t *testing.T) {
	p := newPair(t)
	wire := p.listen(t)
	for _, bypass := range []bool{false, true} {
		t.Run(fmt.Sprintf("bypass=%v", bypass), func(t *testing.T) {
			out := p.writer(t, bypass)
			for _, s := range tries() {
				t.Run(s.name, func(t *testing.T) { p.try(t, s, unix.ETH_P_ALL, out, wire) })
			}
		})
	}
}

// The kernel believes a packet socket what protocol a frame has. Who receives it does not.
func TestFramesThatLie(t *testing.T) {
	p := newPair(t)
	wire := p.listen(t)
	lies := map[string]uint16{"ARP": typeARP, "IPv6": typeIP6, "IPv4": typeIP4, "loopback": unix.ETH_P_LOOP, "VLAN": unix.ETH_P_8021Q}
	for _, bypass := range []bool{false, true} {
		out := p.writer(t, bypass)
		for name, protocol := range lies {
			for _, to := range []netip.Addr{other4, other6} {
				s := sent{bytes: ip(to, protoTCP, tcp(syn))}
				t.Run(fmt.Sprintf("%s as %s, bypass=%v", to, name, bypass), func(t *testing.T) { p.try(t, s, protocol, out, wire) })
			}
		}
	}
}

// try sends a frame without and with the policy.
func (p *pair) try(t *testing.T, s sent, protocol uint16, out int, wire *wire) {
	p.apply(egress.Policy{})
	if !wire.carries(out, s.bytes, protocol) {
		t.Fatal("does not arrive without a policy")
	}
	p.apply(friends())
	if got := wire.carries(out, s.bytes, protocol); got != s.passes {
		t.Errorf("passes: %v, want %v", got, s.passes)
	}
	if n := p.dropped(); n == 0 != s.passes {
		t.Errorf("%d dropped", n)
	}
}

// writer is a packet socket inside, which can have frames bypass the queue of the device.
func (p *pair) writer(t *testing.T, bypass bool) int {
	t.Helper()
	fd := p.inside.packetSocket(t, "eth0", 0)
	if bypass {
		if err := unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_QDISC_BYPASS, 1); err != nil {
			t.Fatal(err)
		}
	}
	return fd
}

func (r *room) packetSocket(t *testing.T, device string, protocol uint16) (fd int) {
	t.Helper()
	var index int
	var err, err2 error
	r.do(func() {
		var i *net.Interface
		if i, err = net.InterfaceByName(device); err == nil {
			index = i.Index
			fd, err2 = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, int(network16(protocol)))
		}
	})
	if err := errors.Join(err, err2); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: network16(protocol), Ifindex: index}); err != nil {
		t.Fatal(err)
	}
	return fd
}

// network16 has its bytes in the network's order.
func network16(n uint16) uint16 { return binary.NativeEndian.Uint16(u16(int(n))) }

// wire hears what arrives outside.
type wire struct {
	t     *testing.T
	fd    int
	index int
	mark  uint32
}

func (p *pair) listen(t *testing.T) *wire {
	t.Helper()
	w := &wire{t: t, fd: p.outside.packetSocket(t, "out", unix.ETH_P_ALL)}
	p.inside.do(func() {
		if i, err := net.InterfaceByName("eth0"); err == nil {
			w.index = i.Index
		}
	})
	limit := unix.Timeval{Sec: int64(soon.Seconds())}
	if err := unix.SetsockoptTimeval(w.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &limit); err != nil {
		t.Fatal(err)
	}
	return w
}

// carries says whether a frame arrives: before another that is sent after it, and passes.
// They are known by the address that they say to be from.
func (w *wire) carries(out int, frame []byte, protocol uint16) bool {
	this, next := w.marked(frame), w.marked(ip(gateway4, protoTCP, tcp(ack)))
	w.send(out, this, protocol)
	w.send(out, next, unix.ETH_P_ALL)
	for seen, buf := false, make([]byte, 2048); ; {
		n, _, err := unix.Recvfrom(w.fd, buf, 0)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			w.t.Fatalf("listening on the wire: %v", err)
		case bytes.Equal(buf[:min(n, 12)], next[:12]):
			return seen
		case bytes.Equal(buf[:min(n, 12)], this[:12]):
			seen = true
		}
	}
}

func (w *wire) marked(frame []byte) []byte {
	w.mark++
	frame = bytes.Clone(frame)
	binary.BigEndian.PutUint32(frame[8:12], w.mark)
	return frame
}

// send writes a frame. A packet socket is told of one that is dropped, or not.
func (w *wire) send(out int, frame []byte, protocol uint16) {
	to := &unix.SockaddrLinklayer{Protocol: network16(protocol), Ifindex: w.index}
	if err := unix.Sendto(out, frame, 0, to); err != nil && !errors.Is(err, unix.EPERM) && !errors.Is(err, unix.ENOBUFS) {
		w.t.Fatalf("sending a frame: %v", err)
	}
}
