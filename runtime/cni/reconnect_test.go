package cni_test

import (
	"net"
	"testing"
	"time"

	"github.com/purserd/purser/e2e/rig"
	"github.com/purserd/purser/runtime/cni"
)

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
