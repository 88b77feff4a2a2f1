package cni_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/purserd/purser/e2e/rig"
	"github.com/purserd/purser/runtime/cni"
)

// TestMain moves to a network namespace: nothing of the machine's is touched.
func TestMain(m *testing.M) {
	rig.OwnNetwork()
	if killed := os.Getenv(killedHelper); killed != "" {
		beKilled(killed)
	}
	goleak.VerifyTestMain(m)
}

// node is a network in directories of its own.
type node struct {
	*cni.Network
	t   testing.TB
	cfg cni.Config
}

func newNode(t testing.TB, change func(*cni.Config)) *node {
	t.Helper()
	rig.Root(t)
	dir := t.TempDir()
	n := &node{t: t, cfg: cni.Config{
		PluginDirs: []string{rig.Plugins(t)},
		ConfigDir:  filepath.Join(dir, "net.d"),
		Bridge:     "ptest0",
		Subnets:    subnets("10.99.0.0/24", "fd00:99::/64"),
		Pool:       2,
		RunDir:     filepath.Join(dir, "run"),
		StateDir:   filepath.Join(dir, "state"),
		Log:        slog.New(slog.NewTextHandler(t.Output(), nil)),
	}}
	if change != nil {
		change(&n.cfg)
	}
	n.open()
	t.Cleanup(n.end)
	return n
}

func subnets(all ...string) []netip.Prefix {
	var parsed []netip.Prefix
	for _, s := range all {
		parsed = append(parsed, netip.MustParsePrefix(s))
	}
	return parsed
}

// open opens the network anew, as the next agent does.
func (n *node) open() {
	n.t.Helper()
	if n.Network != nil {
		if err := n.Close(); err != nil {
			n.t.Error(err)
		}
	}
	network, err := cni.Open(n.cfg)
	if err != nil {
		n.t.Fatal(err)
	}
	n.Network = network
}

// end disbands the network, and fails the test for what is left of it.
func (n *node) end() {
	for _, owner := range n.Owners() {
		if err := n.Release(context.Background(), owner); err != nil {
			n.t.Error(err)
		}
	}
	if err := n.Disband(context.Background()); err != nil {
		n.t.Error(err)
	}
	// The kernel takes a moment to take apart a namespace, with its interface.
	var left []string
	rig.ComesTrue(5*time.Second, func() bool { left = n.left(); return len(left) == 0 })
	for _, l := range left {
		n.t.Errorf("the network left %s", l)
	}
}

// left is what there is of attachments, wherever it may be.
func (n *node) left() []string {
	n.t.Helper()
	var left []string
	for _, pattern := range []string{"run/netns/*", "run/addresses/*/[0-9a-f]*[.:]*", "state/attachments/*", "state/cache/results/*"} {
		files, _ := filepath.Glob(filepath.Join(filepath.Dir(n.cfg.RunDir), pattern))
		left = append(left, files...)
	}
	links, err := net.Interfaces()
	if err != nil {
		n.t.Fatal(err)
	}
	for _, link := range links {
		if link.Name != "lo" && !strings.HasPrefix(link.Name, "uplink") {
			left = append(left, "interface "+link.Name)
		}
	}
	if rules := strings.TrimSpace(n.must("iptables-save")); rules != "" {
		left = append(left, "rules:\n"+rules)
	}
	return left
}

func (n *node) must(command ...string) string {
	n.t.Helper()
	out, err := exec.Command(command[0], command[1:]...).CombinedOutput()
	if err != nil {
		n.t.Fatalf("%v: %v: %s", command, err, out)
	}
	return string(out)
}

func (n *node) claim(owner string) *cni.Attachment {
	n.t.Helper()
	a, err := n.Claim(n.t.Context(), owner)
	if err != nil {
		n.t.Fatal(err)
	}
	return a
}

func (n *node) release(owner string) {
	n.t.Helper()
	if err := n.Release(n.t.Context(), owner); err != nil {
		n.t.Fatal(err)
	}
}

func (n *node) awaitReady(want int) {
	n.t.Helper()
	if !rig.ComesTrue(20*time.Second, func() bool { return n.Ready() == want }) {
		n.t.Fatalf("%d are ready; wanted %d", n.Ready(), want)
	}
}

// addresses are the files of host-local: the addresses in use, the pool's included.
func (n *node) addresses() []string {
	files, _ := filepath.Glob(filepath.Join(n.cfg.RunDir, "addresses", n.cfg.Bridge, "[0-9]*.*"))
	return files
}

// inside makes a command that runs in an attachment.
func inside(a *cni.Attachment, command ...string) *exec.Cmd {
	return exec.Command("nsenter", append([]string{"--net=" + a.NetNS, "--"}, command...)...)
}

func (n *node) pings(a *cni.Attachment, to netip.Addr) {
	n.t.Helper()
	var out []byte
	// Addresses of IPv6 take a moment until they may be used.
	if !rig.ComesTrue(10*time.Second, func() (ok bool) {
		var err error
		out, err = inside(a, "busybox", "ping", "-c1", "-W1", to.String()).CombinedOutput()
		return err == nil
	}) {
		n.t.Errorf("%v does not reach %s: %s", a.Addresses, to, out)
	}
}

func TestClaim(t *testing.T) {
	n := newNode(t, nil)
	if err := n.Check(); err != nil {
		t.Fatal(err)
	}
	n.awaitReady(2)
	a, b := n.claim("a"), n.claim("b")
	if len(a.Addresses) != 2 || !a.Addresses[0].Is4() || !a.Addresses[1].Is6() || slices.Equal(a.Addresses, b.Addresses) {
		t.Fatalf("addresses: %v and %v", a.Addresses, b.Addresses)
	}
	if want := []netip.Addr{netip.MustParseAddr("10.99.0.1"), netip.MustParseAddr("fd00:99::1")}; !slices.Equal(a.Gateways, want) {
		t.Errorf("gateways: %v", a.Gateways)
	}
	for _, to := range slices.Concat(a.Gateways, b.Addresses) {
		n.pings(a, to)
	}
	if _, err := n.Claim(t.Context(), "a"); err == nil {
		t.Error("a has two")
	}
	n.awaitReady(2)
	if got := len(n.addresses()); got != 4 {
		t.Errorf("%d addresses are in use: %v", got, n.addresses())
	}
	n.release("a")
	n.release("a")
	if _, there := n.Of("a"); there {
		t.Error("a has one still")
	}
	if _, err := os.Stat(a.NetNS); err == nil {
		t.Error("its namespace is there")
	}
	n.pings(b, b.Gateways[0])
}

// What another process takes up is what there was: ready ones are ready, claimed ones are
// claimed, and neither is made anew.
func TestTakenUp(t *testing.T) {
	n := newNode(t, nil)
	a := n.claim("a")
	n.awaitReady(2)
	before := n.addresses()
	n.open()
	n.awaitReady(2)
	got, ok := n.Of("a")
	if !ok || got.NetNS != a.NetNS || !slices.Equal(got.Addresses, a.Addresses) || !slices.Equal(got.Gateways, a.Gateways) {
		t.Errorf("it was %v and is %v", a, got)
	}
	if after := n.addresses(); !slices.Equal(before, after) {
		t.Errorf("addresses were %v and are %v", before, after)
	}
	n.pings(got, got.Gateways[0])
}

// Those made by another configuration are not given to anybody.
func TestChangedConfiguration(t *testing.T) {
	n := newNode(t, nil)
	a := n.claim("a")
	n.awaitReady(2)
	n.cfg.MTU, n.cfg.Subnets = 1400, subnets("10.99.7.0/24", "fd00:99:7::/64")
	n.open()
	b := n.claim("b")
	if mtu := strings.TrimSpace(n.mtu(b)); mtu != "1400" {
		t.Errorf("the MTU is %s", mtu)
	}
	if mtu := strings.TrimSpace(n.mtu(a)); mtu == "1400" {
		t.Errorf("the MTU of what was there is %s", mtu)
	}
	n.pings(b, netip.MustParseAddr("10.99.7.1"))
	n.release("a") // by the configuration that it was made by
	if !rig.ComesTrue(10*time.Second, func() bool { return len(n.addresses()) == 3 }) {
		t.Errorf("in use are %v", n.addresses())
	}
}

func (n *node) mtu(a *cni.Attachment) string {
	n.t.Helper()
	out, err := inside(a, "busybox", "ip", "link", "show", "eth0").Output()
	if err != nil {
		n.t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(out), " mtu ")
	mtu, _, _ := strings.Cut(rest, " ")
	return mtu
}

// Where no namespace is mounted any more, as after a reboot, those that were ready are gone.
// A claimed one is its owner's until it is released, as somebody may run in it: nobody else
// has its addresses before that.
func TestUnmounted(t *testing.T) {
	for _, kept := range []bool{true, false} {
		t.Run(fmt.Sprint("run directory kept: ", kept), func(t *testing.T) {
			n := newNode(t, nil)
			a := n.claim("a")
			n.awaitReady(2)
			n.unmount()
			if !kept {
				if err := os.RemoveAll(n.cfg.RunDir); err != nil {
					t.Fatal(err)
				}
			}
			n.cfg.Pool = 0
			n.open()
			if got, there := n.Of("a"); !there || !slices.Equal(got.Addresses, a.Addresses) {
				t.Errorf("it was at %v and is %v", a.Addresses, got)
			}
			used := map[bool]int{true: 1, false: 0}[kept]
			if !rig.ComesTrue(10*time.Second, func() bool { return len(n.addresses()) == used }) {
				t.Errorf("in use are %v", n.addresses())
			}
			if b := n.claim("b"); kept && slices.Equal(b.Addresses, a.Addresses) {
				t.Errorf("two are at %v", b.Addresses)
			}
			n.release("a")
			if in := n.addresses(); len(in) != 1 {
				t.Errorf("in use are %v", in)
			}
			if again := n.claim("a"); again.NetNS == a.NetNS {
				t.Error("a namespace is used twice")
			}
		})
	}
}

// unmount closes the network and unmounts all namespaces.
func (n *node) unmount() {
	n.t.Helper()
	if err := n.Close(); err != nil {
		n.t.Fatal(err)
	}
	n.Network = nil
	pins, _ := filepath.Glob(filepath.Join(n.cfg.RunDir, "netns", "*"))
	for _, pin := range pins {
		if err := unix.Unmount(pin, unix.MNT_DETACH); err != nil {
			n.t.Fatal(err)
		}
	}
}

// Two hundred at once on one bridge have an address each, and reach each other.
func TestMany(t *testing.T) {
	n := newNode(t, nil)
	const many = 200
	attached := make([]*cni.Attachment, many)
	claims := new(errgroup.Group)
	for i := range many {
		claims.Go(func() (err error) {
			attached[i], err = n.Claim(t.Context(), fmt.Sprint(i))
			return err
		})
	}
	if err := claims.Wait(); err != nil {
		t.Fatal(err)
	}
	seen := map[netip.Addr]bool{}
	for _, a := range attached {
		for _, address := range a.Addresses {
			seen[address] = true
		}
	}
	if len(seen) != 2*many {
		t.Errorf("%d addresses", len(seen))
	}
	for i := 1; i < many; i += 40 {
		n.pings(attached[i], attached[many-i].Addresses[0])
	}
	releases := new(errgroup.Group)
	for i := range many {
		releases.Go(func() error { return n.Release(context.Background(), fmt.Sprint(i)) })
	}
	if err := releases.Wait(); err != nil {
		t.Error(err)
	}
}

// Where records were lost, or damaged, what is in use is let alone, and the rest goes.
func TestLostRecords(t *testing.T) {
	t.Run("lost", func(t *testing.T) {
		n := testLostRecords(t, func(n *node) {
			if err := os.RemoveAll(n.cfg.StateDir); err != nil {
				t.Fatal(err)
			}
		})
		n.must("ip", "link", "del", n.cfg.Bridge) // nobody knows any more who has made it
	})
	// As a power cut leaves files that were not synchronised.
	t.Run("damaged", func(t *testing.T) {
		testLostRecords(t, func(n *node) {
			records, _ := filepath.Glob(filepath.Join(n.cfg.StateDir, "attachments", "*"))
			for _, r := range records {
				if err := os.Truncate(r, 0); err != nil {
					t.Fatal(err)
				}
			}
		})
	})
}

func testLostRecords(t *testing.T, lose func(*node)) *node {
	n := newNode(t, func(c *cni.Config) { c.Pool = 0 })
	used := n.claim("used")
	unused := n.claim("unused")
	leave := n.enter(used)
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	n.Network = nil
	lose(n)
	n.open()
	if in := n.addresses(); len(in) != 1 || filepath.Base(in[0]) != used.Addresses[0].String() {
		t.Errorf("in use are %v", in)
	}
	if _, err := os.Stat(unused.NetNS); err == nil {
		t.Error("a namespace is left that nobody is in")
	}
	leave()
	n.open()
	if in := n.addresses(); len(in) != 0 {
		t.Errorf("in use are %v", in)
	}
	return n
}

// enter has a process in a namespace, until leave is called.
func (n *node) enter(a *cni.Attachment) (leave func()) {
	n.t.Helper()
	inhabitant := inside(a, "sleep", "1000")
	if err := inhabitant.Start(); err != nil {
		n.t.Fatal(err)
	}
	leave = func() { inhabitant.Process.Kill(); inhabitant.Wait() }
	n.t.Cleanup(leave)
	in := func() bool {
		comm, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", inhabitant.Process.Pid))
		return string(comm) == "sleep\n"
	}
	if !rig.ComesTrue(5*time.Second, in) {
		n.t.Fatal("nobody is in the namespace")
	}
	return leave
}

// Addresses that are used up are refused in plain words, and come back.
func TestExhausted(t *testing.T) {
	var results []string
	n := newNode(t, func(c *cni.Config) {
		c.Subnets = subnets("10.99.1.0/29")
		c.Pool = 0
		c.Observe = func(operation, result string, _ time.Duration) { results = append(results, operation+" "+result) }
	})
	if err := n.Check(); err != nil {
		t.Fatal(err)
	}
	room, known := n.Room()
	if room != 5 || !known {
		t.Fatalf("room for %d, %v", room, known)
	}
	for i := range room {
		n.claim(fmt.Sprint(i))
	}
	_, err := n.Claim(t.Context(), "more")
	if !errors.Is(err, cni.ErrExhausted) {
		t.Fatalf("error: %v", err)
	}
	if !slices.Contains(results, "add exhausted") {
		t.Errorf("observed: %v", results)
	}
	n.release("2")
	n.claim("more")
}

// A network with a few addresses has them all in the pool, and all can be claimed.
func TestPoolOfAll(t *testing.T) {
	n := newNode(t, func(c *cni.Config) {
		c.Subnets = subnets("10.99.1.0/29")
		c.Pool = 8
	})
	if err := n.Check(); err != nil {
		t.Fatal(err)
	}
	n.awaitReady(5)
	for i := range 5 {
		n.claim(fmt.Sprint(i))
	}
	n.release("0")
	n.awaitReady(1)
}

func TestMissingPlugins(t *testing.T) {
	n := newNode(t, func(c *cni.Config) { c.PluginDirs = []string{"/nonexistent", "/none"} })
	err := n.Check()
	var missing *cni.MissingError
	if !errors.As(err, &missing) || !slices.Equal(missing.Plugins, []string{"bridge", "host-local"}) {
		t.Fatalf("error: %v", err)
	}
	for _, want := range []string{"bridge, host-local", "/nonexistent, /none", "containernetworking-plugins", "cni_plugin_dirs"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in: %v", want, err)
		}
	}
	if _, err := n.Claim(t.Context(), "a"); !errors.As(err, &missing) {
		t.Errorf("error: %v", err)
	}
}

// The node's own configuration comes before the bridge, by name where one is given.
func TestOwnConfiguration(t *testing.T) {
	n := newNode(t, func(c *cni.Config) { c.Pool = 1 })
	if err := os.MkdirAll(n.cfg.ConfigDir, 0o755); err != nil {
		t.Fatal(err)
	}
	n.ownNetwork("10-first.conflist", "first", "10.98.1.0/24")
	n.ownNetwork("20-second.conflist", "second", "10.98.2.0/24")
	if a := n.claim("a"); !subnets("10.98.1.0/24")[0].Contains(a.Addresses[0]) {
		t.Errorf("it is at %v", a.Addresses)
	}
	if _, known := n.Room(); known {
		t.Error("its room is known")
	}
	n.awaitReady(1)
	n.cfg.Network = "second"
	n.open()
	if a := n.claim("b"); !subnets("10.98.2.0/24")[0].Contains(a.Addresses[0]) {
		t.Errorf("it is at %v", a.Addresses)
	}
	// As it was before there were lists.
	if err := os.WriteFile(filepath.Join(n.cfg.ConfigDir, "00-one.conf"), []byte(`{"cniVersion": "0.4.0", "name": "one", "type": "ptp", "ipam":
	{"type": "host-local", "dataDir": "`+n.cfg.StateDir+`/own", "subnet": "10.98.3.0/24"}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	n.cfg.Network = "one"
	n.open()
	if a := n.claim("c"); !subnets("10.98.3.0/24")[0].Contains(a.Addresses[0]) {
		t.Errorf("it is at %v", a.Addresses)
	}
	n.cfg.Network = "third"
	n.open()
	if err := n.Check(); err == nil || !strings.Contains(err.Error(), `"third"`) || !strings.Contains(err.Error(), "one, first, second") {
		t.Errorf("error: %v", err)
	}
	n.cfg.Network = ""
	if err := os.WriteFile(filepath.Join(n.cfg.ConfigDir, "00-broken.conflist"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	n.open()
	if err := n.Check(); err == nil || !strings.Contains(err.Error(), "00-broken.conflist") {
		t.Errorf("error: %v", err)
	}
}

func (n *node) ownNetwork(file, name, subnet string) {
	n.t.Helper()
	data, err := json.MarshalIndent(map[string]any{
		"cniVersion": "1.0.0", "name": name, "plugins": []any{map[string]any{
			"type": "ptp", "ipam": map[string]any{
				"type": "host-local", "dataDir": filepath.Join(n.cfg.StateDir, "own"), "ranges": [][]any{{map[string]string{"subnet": subnet}}},
			},
		}},
	}, "", "  ")
	if err == nil {
		err = os.WriteFile(filepath.Join(n.cfg.ConfigDir, file), data, 0o600)
	}
	if err != nil {
		n.t.Fatal(err)
	}
}

// Subnets are chosen where the node has none, and stay.
func TestChosenSubnets(t *testing.T) {
	n := newNode(t, func(c *cni.Config) { c.Subnets, c.Pool = nil, 0 })
	a := n.claim("a")
	taken := netip.PrefixFrom(a.Addresses[0], 20).Masked()
	if !subnets("10.208.0.0/12")[0].Contains(a.Addresses[0]) || len(a.Addresses) != 2 || !subnets("fd00::/8")[0].Contains(a.Addresses[1]) {
		t.Errorf("it is at %v", a.Addresses)
	}
	n.open()
	if b := n.claim("b"); netip.PrefixFrom(b.Addresses[0], 20).Masked() != taken {
		t.Errorf("the subnet was %s, and it is at %v", taken, b.Addresses)
	}
	n.end()
	n.must("ip", "link", "add", "uplink0", "type", "bridge")
	t.Cleanup(func() { n.must("ip", "link", "del", "uplink0") })
	n.must("ip", "address", "add", taken.Addr().Next().String()+"/20", "dev", "uplink0")
	n.cfg.StateDir += "-other"
	n.open()
	if c := n.claim("c"); taken.Contains(c.Addresses[0]) {
		t.Errorf("it is at %v, in a network of the node's", c.Addresses)
	}
}

// A bridge that was there before is not removed.
func TestBridgeOfOthers(t *testing.T) {
	n := newNode(t, func(c *cni.Config) { c.Bridge = "uplink-br" })
	n.must("ip", "link", "add", "uplink-br", "type", "bridge")
	t.Cleanup(func() { n.must("ip", "link", "del", "uplink-br") })
	n.claim("a")
	n.end()
	if _, err := net.InterfaceByName("uplink-br"); err != nil {
		t.Error(err)
	}
	n.open()
}

// What leaves the bridge has the node's address, of both families.
func TestMasquerade(t *testing.T) {
	n := newNode(t, nil)
	a := n.claim("a")
	n.outside("192.0.2.1/24", "2001:db8::1/64", "192.0.2.2/24", "2001:db8::2/64")
	n.pings(a, netip.MustParseAddr("192.0.2.2"))
	n.pings(a, netip.MustParseAddr("2001:db8::2"))
	// As a reload of a firewall does it.
	n.must("sh", "-c", "command -v nft >/dev/null && nft flush ruleset || true")
	b := n.claim("b")
	n.pings(b, netip.MustParseAddr("192.0.2.2"))
}

// outside makes a host beyond an uplink of the node's, which knows nothing of the bridge.
func (n *node) outside(own4, own6, its4, its6 string) {
	n.t.Helper()
	host := exec.Command("unshare", "--net", "sleep", "1000")
	if err := host.Start(); err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() { host.Process.Kill(); host.Wait() })
	pid := fmt.Sprint(host.Process.Pid)
	ours, _ := os.Readlink("/proc/self/ns/net")
	if !rig.ComesTrue(5*time.Second, func() bool {
		theirs, err := os.Readlink("/proc/" + pid + "/ns/net")
		return err == nil && theirs != ours
	}) {
		n.t.Fatal("no other host")
	}
	n.must("ip", "link", "add", "uplink0", "type", "veth", "peer", "name", "uplink1", "netns", pid)
	n.t.Cleanup(func() { n.must("ip", "link", "del", "uplink0") })
	for _, command := range []string{
		"ip address add " + own4 + " dev uplink0", "ip address add " + own6 + " dev uplink0 nodad", "ip link set uplink0 up",
		"nsenter -t " + pid + " -n ip address add " + its4 + " dev uplink1", "nsenter -t " + pid + " -n ip address add " + its6 + " dev uplink1 nodad",
		"nsenter -t " + pid + " -n ip link set uplink1 up",
	} {
		n.must(strings.Fields(command)...)
	}
}

const killedHelper = "PURSER_TEST_CNI_KILLED"

// beKilled claims and releases until the process is killed.
func beKilled(dir string) {
	var cfg cni.Config
	data, err := os.ReadFile(filepath.Join(dir, "config.json"))
	if err == nil {
		err = json.Unmarshal(data, &cfg)
	}
	var n *cni.Network
	if err == nil {
		n, err = cni.Open(cfg)
	}
	for i := 0; err == nil; i++ {
		owner := fmt.Sprint(i % 3)
		if _, err = n.Claim(context.Background(), owner); err == nil {
			err = n.Release(context.Background(), owner)
		}
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(3)
}

// Whenever a process is killed, what it had begun is completed or undone by the next.
func TestKilled(t *testing.T) {
	n := newNode(t, func(c *cni.Config) { c.Pool = 1 })
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	n.Network = nil
	dir := filepath.Dir(n.cfg.RunDir)
	cfg := n.cfg
	cfg.Log = nil
	data, err := json.Marshal(cfg)
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "config.json"), data, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for i := range 8 {
		// Wherever it is by then.
		until, cancel := context.WithTimeout(t.Context(), time.Duration(100+60*i)*time.Millisecond)
		victim := exec.CommandContext(until, self)
		victim.Env = append(os.Environ(), killedHelper+"="+dir)
		victim.Stderr = t.Output()
		err := victim.Run()
		cancel()
		if victim.ProcessState.Exited() {
			t.Fatalf("it ended by itself: %v", err)
		}
		n.open()
		for _, owner := range n.Owners() {
			n.release(owner)
		}
		if !rig.ComesTrue(10*time.Second, func() bool { return n.Ready() == len(n.addresses()) && n.Ready() <= 1 }) {
			t.Fatalf("killed for the %d. time: %d are ready, in use are %v", i, n.Ready(), n.addresses())
		}
		if err := n.Close(); err != nil {
			t.Fatal(err)
		}
		n.Network = nil
	}
	n.open()
}
