package cni_test

import (
	"net"
	"strings"
	"testing"
	"time"

	"github.com/purserd/purser/e2e/rig"
	"github.com/purserd/purser/runtime/cni"
)

// The bridge's addresses can be used as soon as somebody is connected: what is sent until then
// would come from another one.
func TestBridgeAddressesAreUsable(t *testing.T) {
	rig.Program(t, "ip", "apt-get install iproute2")
	n := newNode(t, func(c *cni.Config) { c.Pool = 0 })
	a := n.claim("a")
	if out := n.must("ip", "-6", "addr", "show", "dev", "ptest0", "tentative"); strings.Contains(out, "fd00:99::1") {
		t.Errorf("its address cannot be used yet: %s", out)
	}
	for i, to := range a.Addresses {
		conn, err := net.Dial("udp", net.JoinHostPort(to.String(), "9"))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if from := conn.LocalAddr().(*net.UDPAddr).AddrPort().Addr(); from != a.Gateways[i] {
			t.Errorf("%s is sent to from %s, not from %s", to, from, a.Gateways[i])
		}
	}
}

// Whatever another program does to the bridge: who is on it reaches the node and others
// again, and so does who is connected next.
func TestBridgeIsMended(t *testing.T) {
	for what, how := range map[string]string{
		"removed":        "ip link del ptest0",
		"down":           "ip link set ptest0 down",
		"no address":     "ip addr flush dev ptest0",
		"no forwarding":  "echo 0 >/proc/sys/net/ipv4/ip_forward",
		"no forwarding6": "echo 0 >/proc/sys/net/ipv6/conf/all/forwarding",
		"without ports":  "for port in $(ls /proc/sys/net/ipv4/conf | grep veth); do ip link set $port nomaster; done",
	} {
		t.Run(what, func(t *testing.T) { testBridgeIsMended(t, how) })
	}
}

func testBridgeIsMended(t *testing.T, how string) {
	rig.Program(t, "ip", "apt-get install iproute2")
	n := newNode(t, func(c *cni.Config) { c.Pool = 1 })
	a := n.claim("a")
	n.awaitReady(1)
	n.must("sh", "-c", how)
	if err := n.Check(); err != nil { // which has the keeper look
		t.Fatal(err)
	}
	for _, gateway := range a.Gateways {
		n.pings(a, gateway)
	}
	b := n.claim("b")
	for _, to := range a.Addresses {
		n.pings(b, to)
	}
	if !rig.ComesTrue(10*time.Second, func() bool {
		return n.must("sh", "-c", "cat /proc/sys/net/ipv4/ip_forward /proc/sys/net/ipv6/conf/all/forwarding") == "1\n1\n"
	}) {
		t.Error("packets are not forwarded")
	}
	if link, err := net.InterfaceByName("ptest0"); err != nil || link.Flags&net.FlagUp == 0 {
		t.Errorf("the bridge is %v, %v", link, err)
	}
}
