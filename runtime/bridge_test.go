package runtime_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	purserv1 "github.com/purserd/purser/api/purser/v1"
	"github.com/purserd/purser/e2e/rig"
	"github.com/purserd/purser/runtime"
	"github.com/purserd/purser/runtime/cni"
)

// withBridge opens the node's runtime anew, with a container network.
func (n *node) withBridge(change func(*cni.Config)) {
	n.t.Helper()
	n.Close()
	n.cfg.Network = &cni.Config{
		PluginDirs: []string{rig.Plugins(n.t)},
		ConfigDir:  filepath.Join(n.daemon.Dir, "net.d"),
		Bridge:     "rtest0",
		Subnets:    []netip.Prefix{netip.MustParsePrefix("10.97.0.0/24"), netip.MustParsePrefix("fd00:97::/64")},
		Pool:       1,
		StateDir:   filepath.Join(n.daemon.Dir, "network"),
	}
	if change != nil {
		change(n.cfg.Network)
	}
	n.open()
	n.t.Cleanup(func() {
		if err := n.Disband(context.Background()); err != nil {
			n.t.Error(err)
		}
		if left := n.leftOfNetwork(); len(left) > 0 {
			n.t.Errorf("left of the network: %v", left)
		}
	})
}

// leftOfNetwork is what there is of the network's attachments.
func (n *node) leftOfNetwork() []string {
	var left []string
	for _, pattern := range []string{"run/network/netns/*", "run/network/addresses/*/1*.*", "network/attachments/*"} {
		files, _ := filepath.Glob(filepath.Join(n.daemon.Dir, pattern))
		left = append(left, files...)
	}
	if _, err := net.InterfaceByName("rtest0"); err == nil {
		left = append(left, "the bridge")
	}
	return left
}

// onBridge is a spec of a container on the network.
func onBridge(command ...string) *purserv1.LaunchSpec {
	s := spec(command...)
	s.Network = &purserv1.Network{Mode: new("bridge")}
	return s
}

func TestBridge(t *testing.T) {
	forEachVersion(t, func(t *testing.T, n *node) {
		n.withBridge(nil)
		testBridge(t, n)
		t.Run("adopted", func(t *testing.T) { testBridgeAdopted(t, n) })
		t.Run("left", func(t *testing.T) { testBridgeLeft(t, n) })
		t.Run("not made", func(t *testing.T) { testBridgeNotMade(t, n) })
	})
}

// The same with crun.
func TestBridgeOfCrun(t *testing.T) {
	n := newNodeWith(t, rig.V24, "crun")
	n.withBridge(nil)
	testBridge(t, n)
}

// testBridge runs a container that shows its network, and is reached at its addresses.
func testBridge(t *testing.T, n *node) {
	port := served(t)
	n.start("shown", onBridge("sh", "-c", "cat /etc/hosts /etc/resolv.conf; ip -o addr show eth0; wget -qO- http://10.97.0.1:"+port+" >&2; echo up; exec httpd -f -p 80 -h /"))
	addresses := n.Addresses("shown")
	if len(addresses) != 2 {
		t.Fatalf("addresses: %v", addresses)
	}
	n.await("shown", "up\n")
	for _, a := range addresses {
		if !rig.ComesTrue(10*time.Second, func() bool {
			c, err := net.DialTimeout("tcp", net.JoinHostPort(a, "80"), time.Second)
			if err == nil {
				c.Close()
			}
			return err == nil
		}) {
			t.Errorf("nobody listens at %s", a)
		}
	}
	n.delete("shown")
	stdout, stderr := n.output("shown")
	for _, want := range append(addresses[:1:1], addresses[1]+"\tshown", addresses[0]+"/24", "127.0.0.1\tlocalhost") {
		if !strings.Contains(stdout, want) {
			t.Errorf("%q is not in:\n%s", want, stdout)
		}
	}
	if stderr != "served to "+addresses[0] {
		t.Errorf("it does not reach the node: %s", stderr)
	}
	if got := n.Addresses("shown"); got != nil {
		t.Errorf("it has %v still", got)
	}
}

// served serves on all addresses of the node, and returns the port. The answer says who
// has asked.
func served(t *testing.T) (port string) {
	t.Helper()
	l, err := net.Listen("tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		from, _, _ := net.SplitHostPort(r.RemoteAddr)
		fmt.Fprintf(w, "served to %s", from)
	})}
	done := make(chan struct{})
	go func() { defer close(done); _ = server.Serve(l) }()
	t.Cleanup(func() { server.Close(); <-done })
	_, port, _ = net.SplitHostPort(l.Addr().String())
	return port
}

// Another process knows the addresses, and takes nothing from who has them.
func testBridgeAdopted(t *testing.T, n *node) {
	n.start("adopted", onBridge("sleep", "1000"))
	before := n.Addresses("adopted")
	n.Close()
	n.open()
	found, err := n.Inspect(t.Context(), "adopted")
	if err != nil || !slices.Equal(found.Addresses, before) {
		t.Errorf("it was at %v and is at %v, %v", before, found.Addresses, err)
	}
	list, err := n.List(t.Context())
	if err != nil || len(list) != 1 || !slices.Equal(list[0].Addresses, before) {
		t.Errorf("listed: %+v, %v", list, err)
	}
	c, err := net.DialTimeout("tcp", net.JoinHostPort(before[0], "1"), 5*time.Second)
	if err == nil || !strings.Contains(err.Error(), "refused") {
		t.Errorf("connected to %v: %v", c, err)
	}
	n.delete("adopted")
}

// A network namespace of a container that nobody knows is a leak.
func testBridgeLeft(t *testing.T, n *node) {
	n.Close()
	network := *n.cfg.Network
	network.RunDir = filepath.Join(n.cfg.RunDir, "network")
	n.cfg.Network.Pool = 0
	earlier, err := cni.Open(network)
	if err == nil {
		_, err = earlier.Claim(t.Context(), "gone")
	}
	if err != nil {
		t.Fatal(err)
	}
	earlier.Close()
	n.open()
	leaks := n.sweepAll(n.Sweeper(record("shown", "adopted").known).Impatient())
	if len(leaks) != 1 || leaks[0].Kind != runtime.LeakNetwork || leaks[0].Instance != "gone" {
		t.Errorf("found %+v", leaks)
	}
	if !rig.ComesTrue(10*time.Second, func() bool { return len(n.leftOfNetwork()) == 1 }) {
		t.Errorf("left: %v", n.leftOfNetwork())
	}
}

// A container that cannot be made keeps no address.
func testBridgeNotMade(t *testing.T, n *node) {
	in := n.instance("unmade", onBridge("/no/such/program"))
	var start *runtime.StartError
	err := n.Create(t.Context(), in)
	if err == nil {
		_, err = n.Start(t.Context(), "unmade")
		n.delete("unmade")
	}
	if !errors.As(err, &start) {
		t.Errorf("error: %v", err)
	}
	in.Spec.Runtime = new("absent")
	if err := n.Create(t.Context(), in); err == nil || !strings.Contains(err.Error(), `"absent"`) {
		t.Errorf("error: %v", err)
	}
	if got := n.Addresses("unmade"); got != nil {
		t.Errorf("it has %v", got)
	}
}

// Without plugins, and without a network, a spec is refused.
func TestNoBridge(t *testing.T) {
	n := newNode(t, rig.V24)
	if err := n.Check(onBridge("true")); err == nil || !strings.Contains(err.Error(), "network.mode bridge") {
		t.Errorf("error: %v", err)
	}
	n.withBridge(func(c *cni.Config) { c.PluginDirs = []string{"/none"} })
	err := n.Check(onBridge("true"))
	if err == nil || !strings.Contains(err.Error(), "containernetworking-plugins") {
		t.Errorf("error: %v", err)
	}
	if err := n.Create(t.Context(), n.instance("n", onBridge("true"))); err == nil || !strings.Contains(err.Error(), "containernetworking-plugins") {
		t.Errorf("error: %v", err)
	}
}

func TestNameServers(t *testing.T) {
	n := newNode(t, rig.V24)
	n.withBridge(func(c *cni.Config) { c.NameServers = []netip.Addr{netip.MustParseAddr("192.0.2.53")} })
	_, stdout, _ := n.run("ns", onBridge("cat", "/etc/resolv.conf"))
	if !strings.Contains(stdout, "nameserver 192.0.2.53\n") || strings.Count(stdout, "nameserver") != 1 {
		t.Errorf("resolv.conf: %s", stdout)
	}
}

// gVisor has the addresses of the namespace in a network stack of its own.
func TestBridgeOfRunsc(t *testing.T) { testBridge(t, newRunscOnBridge(t)) }

// newRunscOnBridge makes a node whose gVisor takes the network that it is given.
func newRunscOnBridge(t *testing.T) *node {
	t.Helper()
	n := newNode(t, rig.V24)
	n.Close()
	script := filepath.Join(t.TempDir(), "runsc")
	data, err := os.ReadFile(rig.Runtime(t, "runsc"))
	if err == nil {
		err = os.WriteFile(script, []byte(strings.Replace(string(data), "--network=none", "--network=sandbox", 1)), 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	n.cfg.Runtimes, n.cfg.DefaultRuntime = map[string]runtime.RuntimeConfig{"runsc": {Path: script}}, "runsc"
	n.withBridge(nil)
	return n
}
