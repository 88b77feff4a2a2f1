package e2e

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/purserd/purser/e2e/rig"
)

// dnsAnswer is what a name server says to a query: the address of the one name that it
// knows, or that there is no such name.
func dnsAnswer(query []byte, name string, address netip.Addr) []byte {
	const header, typeA = 12, 1
	end := header
	var labels []string
	for end < len(query) && query[end] != 0 {
		next := end + 1 + int(query[end])
		if next >= len(query) {
			return nil
		}
		labels = append(labels, string(query[end+1:next]))
		end = next
	}
	if end += 5; end > len(query) { // the root, the type and the class
		return nil
	}
	answer := append([]byte(nil), query[:end]...)
	copy(answer[2:header], []byte{0x81, 0x80, 0, 1, 0, 0, 0, 0, 0, 0})
	switch {
	case strings.Join(labels, ".") != name:
		answer[3] |= 3 // NXDOMAIN
	case binary.BigEndian.Uint16(query[end-4:]) == typeA:
		answer[7] = 1
		answer = append(answer, 0xc0, header, 0, typeA, 0, 1, 0, 0, 0, 60, 0, 4)
		answer = append(answer, address.AsSlice()...)
	}
	return answer
}

// serveName has a name server on the node know one name.
func (n *node) serveName(name string, address netip.Addr) {
	n.t.Helper()
	var conn net.PacketConn
	err := n.within(func() (err error) {
		conn, err = net.ListenPacket("udp4", ":53")
		return err
	})
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() { conn.Close() })
	go func() {
		buf := make([]byte, 2048)
		for {
			read, from, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			_, _ = conn.WriteTo(dnsAnswer(buf[:read], name, address), from)
		}
	}()
}

// wayOut gives the node a way out that takes 1380 bytes at once, by IPv6 advertised by a
// router.
func (n *node) wayOut() {
	n.t.Helper()
	out, err := n.onNetwork("sh", "-ec", `
ip link add out mtu 1380 type veth peer name far
echo 0 > /proc/sys/net/ipv6/conf/far/accept_dad
ip link set far up
ip link set out up
ip addr add 192.0.2.1/24 dev out
ip route add default via 192.0.2.2`).CombinedOutput()
	if err != nil {
		n.t.Fatalf("making a way out: %v: %s", err, out)
	}
	n.t.Cleanup(func() {
		if out, err := n.onNetwork("ip", "link", "del", "out").CombinedOutput(); err != nil {
			n.t.Errorf("%v: %s", err, out)
		}
	})
	n.eventually("a route by a router's advertisement", func() bool {
		if err := n.within(advertise); err != nil {
			n.t.Logf("advertising: %v", err)
		}
		out, err := n.onNetwork("ip", "-6", "route", "show", "default").Output()
		return err == nil && strings.Contains(string(out), "dev out proto ra")
	})
}

// advertise is what a router does at the other end of the way out.
func advertise() error {
	far, err := net.InterfaceByName("far")
	if err != nil {
		return err
	}
	s, err := unix.Socket(unix.AF_INET6, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_ICMPV6)
	if err != nil {
		return err
	}
	defer unix.Close(s)
	err = errors.Join(
		unix.SetsockoptInt(s, unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_HOPS, 255),
		unix.SetsockoptInt(s, unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_IF, far.Index),
	)
	if err != nil {
		return err
	}
	// Router advertisement (RFC 4861, 4.2): it is to be used for half an hour.
	advertisement := []byte{134, 0, 0, 0, 64, 0, 1800 >> 8, 1800 & 0xff, 0, 0, 0, 0, 0, 0, 0, 0}
	all := &unix.SockaddrInet6{Addr: netip.IPv6LinkLocalAllNodes().As16(), ZoneId: uint32(far.Index)}
	return unix.Sendto(s, advertisement, 0, all)
}

// A container resolves names by the servers that the node is told of, and sends no more at
// once than the node's way out takes; the node keeps that.
func TestNamesAndWayOut(t *testing.T) {
	t.Parallel()
	n := networkNode(t, rig.V24, bridgeConfig+"name_servers = ['10.96.0.1']\n")
	n.wayOut()
	n.must("image", "import", serviceImage(t))
	n.deploy(published(port, "0"), "--wait")
	w := n.get("a/f").Instances[0]
	n.serveName("friend.test", netip.MustParseAddr(w.Addresses[0]))
	if got := n.must("exec", "a/f", "--", "service", "-get", "http://friend.test:8080/"); strings.TrimSpace(got) != w.ID+" 0" {
		t.Errorf("by its name it answers %q", got)
	}
	if r := n.run("exec", "a/f", "--", "service", "-get", "http://stranger.test:8080/"); !strings.Contains(r.stderr, "no such host") {
		t.Errorf("a name that there is not: %+v", r)
	}
	if got := n.must("exec", "a/f", "--", "cat", "/sys/class/net/eth0/mtu"); got != "1380\n" {
		t.Errorf("the MTU is %s", got)
	}
	// The node forwards packets now, and heeds its router nevertheless.
	if got, err := n.onNetwork("cat", "/proc/sys/net/ipv6/conf/out/accept_ra").Output(); err != nil || string(got) != "2\n" {
		t.Errorf("router advertisements are heeded with %s, %v", got, err)
	}
}
