package runtime_test

import (
	"fmt"
	"net"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	purserv1 "github.com/purserd/purser/api/purser/v1"
	"github.com/purserd/purser/e2e/rig"
)

// Addresses of the node that stand for others far away, of which one is allowed.
var (
	friends   = []string{"192.0.2.7", "2001:db8:1::7"}
	strangers = []string{"198.51.100.7", "2001:db8:2::7"}
	gateways  = []string{"10.97.0.1", "fd00:97::1"}
)

// limited are what containers may be limited to.
func limited(s *purserv1.LaunchSpec, blocked bool) *purserv1.LaunchSpec {
	if blocked {
		s.Network.BlockNetwork = new(true)
	} else {
		s.Network.CidrAllowlist = []string{"192.0.2.0/24", "2001:db8:1::/48"}
	}
	return s
}

// farAway gives the node addresses to be reached through its gateways.
func farAway(t *testing.T) {
	t.Helper()
	for _, a := range slices.Concat(friends, strangers) {
		out, err := exec.Command("busybox", "ip", "addr", "add", a, "dev", "lo").CombinedOutput()
		if err != nil && !strings.Contains(string(out), "exists") {
			t.Fatalf("adding %s: %v: %s", a, err, out)
		}
	}
}

// tries has a container try all addresses at a port, and then serve.
func tries(port string) []string {
	var script strings.Builder
	for _, a := range slices.Concat(friends, strangers, gateways) {
		fmt.Fprintf(&script, "wget -qO- 'http://%s' >/dev/null && echo reached %s || echo not %s; ", net.JoinHostPort(a, port), a, a)
	}
	script.WriteString("echo tried; cat /proc/net/if_inet6 >&2; ip -6 route >&2; exec httpd -f -p 80 -h /")
	return []string{"sh", "-c", script.String()}
}

// What a container reaches is what its spec allows, by each runtime.
func TestEgress(t *testing.T) {
	forEachVersion(t, func(t *testing.T, n *node) {
		n.withBridge(nil)
		testEgress(t, n)
	})
}

func TestEgressOfCrun(t *testing.T) {
	n := newNodeWith(t, rig.V24, "crun")
	n.withBridge(nil)
	testEgress(t, n)
}

func testEgress(t *testing.T, n *node) {
	farAway(t)
	port := served(t)
	t.Run("free", func(t *testing.T) {
		n.egress(t, "free", onBridge(tries(port)...), slices.Concat(friends, strangers, gateways))
	})
	t.Run("some", func(t *testing.T) { n.egress(t, "some", limited(onBridge(tries(port)...), false), friends) })
	t.Run("blocked", func(t *testing.T) { n.egress(t, "blocked", limited(onBridge(tries(port)...), true), nil) })
}

// egress runs a container and holds what it reaches against what it may. It is reached
// itself, also when another process has taken it up.
func (n *node) egress(t *testing.T, id string, s *purserv1.LaunchSpec, want []string) {
	t.Helper()
	n.start(id, s)
	n.await(id, "tried\n")
	n.reached(t, id)
	dropped, limited := n.EgressDropped(id, s)
	if free := len(want) == 6; free == limited || free != (dropped == 0) {
		t.Errorf("dropped: %d, limited: %v", dropped, limited)
	}
	n.Close()
	n.open()
	n.reached(t, id)
	if again, _ := n.EgressDropped(id, s); again < dropped {
		t.Errorf("dropped: %d, and after a restart %d", dropped, again)
	}
	n.delete(id)
	if n, limited := n.EgressDropped(id, s); limited {
		t.Errorf("dropped, of a container that is gone: %d", n)
	}
	stdout, stderr := n.output(id)
	var got []string
	for line := range strings.Lines(stdout) {
		if a, ok := strings.CutPrefix(line, "reached "); ok {
			got = append(got, strings.TrimSpace(a))
		}
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("it reaches %v, not %v: %s", got, want, stderr)
	}
}

// reached connects to a container.
func (n *node) reached(t *testing.T, id string) {
	t.Helper()
	for _, a := range n.Addresses(id) {
		if !rig.ComesTrue(10*time.Second, func() bool {
			c, err := net.DialTimeout("tcp", net.JoinHostPort(a, "80"), time.Second)
			if err == nil {
				c.Close()
			}
			return err == nil
		}) {
			t.Errorf("%s is not reached", a)
		}
	}
}

// gVisor's own network stack is not told of what is dropped, so what tries to connect
// waits. At first it has no IPv6 address: it looks for another one with the same.
func TestEgressOfRunsc(t *testing.T) {
	n := newRunscOnBridge(t)
	farAway(t)
	port := served(t)
	var script strings.Builder
	for _, a := range slices.Concat(friends, strangers) {
		patience := 2
		if slices.Contains(friends, a) {
			patience = 20
		}
		fmt.Fprintf(&script, "timeout %d wget -qO- 'http://%s' >/dev/null && echo reached %s; ", patience, net.JoinHostPort(a, port), a)
	}
	script.WriteString("echo tried; exec httpd -f -p 80 -h /")
	n.egress(t, "some", limited(onBridge("sh", "-c", script.String()), false), friends)
}
