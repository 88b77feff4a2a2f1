package e2e

import (
	"encoding/binary"
	"net"
	"net/netip"
	"strings"
	"testing"

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

// A container resolves names by the servers that the node is told of, and sends no more at
// once than the node's way out takes.
func TestNamesAndMTU(t *testing.T) {
	t.Parallel()
	n := networkNode(t, rig.V24, bridgeConfig+"name_servers = ['10.96.0.1']\n")
	for _, command := range []string{"link add out mtu 1380 type veth peer name far", "link set out up", "addr add 192.0.2.1/24 dev out", "route add default via 192.0.2.2"} {
		if out, err := n.onNetwork(append([]string{"ip"}, strings.Fields(command)...)...).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v: %s", command, err, out)
		}
	}
	t.Cleanup(func() {
		if out, err := n.onNetwork("ip", "link", "del", "out").CombinedOutput(); err != nil {
			t.Errorf("%v: %s", err, out)
		}
	})
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
}
