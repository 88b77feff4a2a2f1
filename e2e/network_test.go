package e2e

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/nftables"

	"github.com/purserd/purser/e2e/rig"
)

// bridgeConfig has small subnets for a node that has a network namespace of its own.
const bridgeConfig = "[network]\nsubnets = ['10.96.0.0/24', 'fd00:96::/64']\npool = 2\n"

// networkNode starts a node in a network namespace of its own, so that nothing of the
// machine's is touched. When the test ends, what it has left there is an error.
func networkNode(t testing.TB, v rig.Version, config string) *node {
	t.Helper()
	n := &node{t: t, version: v, dir: rig.Dir(t), config: config}
	n.startOnNetwork()
	return n
}

// startOnNetwork does so for a node that is prepared.
func (n *node) startOnNetwork() {
	t := n.t
	t.Helper()
	rig.Root(t)
	rig.Plugins(t)
	n.network = exec.Command("unshare", "--net", "sh", "-c", "busybox ip link set lo up && echo up && exec sleep 1000000")
	n.network.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	up, err := n.network.StdoutPipe()
	if err == nil {
		err = n.network.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.network.Process.Kill(); n.network.Wait() })
	if _, err := up.Read(make([]byte, 3)); err != nil {
		t.Fatalf("making a network namespace: %v", err)
	}
	n.launcher = n.onNetwork().Args
	n.start()
	t.Cleanup(n.cleanup)
	t.Cleanup(n.checkNetworkGone)
	n.must("image", "import", boxImage(t))
}

// onNetwork makes a command that runs in the node's network namespace.
func (n *node) onNetwork(command ...string) *exec.Cmd {
	if n.network != nil {
		command = append([]string{"nsenter", fmt.Sprintf("--net=/proc/%d/ns/net", n.network.Process.Pid), "--"}, command...)
	}
	return exec.Command(command[0], command[1:]...)
}

// checkNetworkGone stops the node, after which nothing of its network is left.
func (n *node) checkNetworkGone() {
	n.stop()
	if left := n.attachments(); len(left) > 0 {
		n.t.Errorf("left: %v", left)
	}
	for _, look := range [][]string{{"iptables-save"}, {"ip6tables-save"}} {
		if out, err := n.onNetwork(look...).CombinedOutput(); err != nil || strings.TrimSpace(string(out)) != "" {
			n.t.Errorf("%v: %v: %s", look, err, out)
		}
	}
	if tables := n.tables(); len(tables) > 0 {
		n.t.Errorf("left in nftables: %v", tables)
	}
	links, err := n.onNetwork("busybox", "ip", "-o", "link").Output()
	if err != nil || strings.Count(string(links), "\n") != 1 {
		n.t.Errorf("links: %v: %s", err, links)
	}
}

// tables are those of nftables in the node's network namespace: iptables-save shows only its
// own.
func (n *node) tables() []string {
	n.t.Helper()
	ns, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", n.network.Process.Pid))
	if err != nil {
		n.t.Fatal(err)
	}
	defer ns.Close()
	nft, err := nftables.New(nftables.WithNetNSFd(int(ns.Fd())))
	if err != nil {
		n.t.Fatal(err)
	}
	all, err := nft.ListTables()
	if err != nil {
		n.t.Fatal(err)
	}
	var names []string
	for _, table := range all {
		names = append(names, table.Name)
	}
	return names
}

// attached is how many files there are of one connected network namespace by bridgeConfig:
// those that attachments lists.
const attached = 4

// attachments is what there is of connected network namespaces, in use or ready: the
// namespaces, the records and the addresses of both families.
func (n *node) attachments() []string {
	var all []string
	for _, pattern := range []string{"run/network/netns/*", "state/network/attachments/*", "run/network/addresses/*/[0-9a-f]*[.:]*"} {
		files, _ := filepath.Glob(filepath.Join(n.dir, pattern))
		all = append(all, files...)
	}
	return all
}

// fetches fetches from a web server, in the node's network namespace.
func (n *node) fetches(address string) (string, error) {
	out, err := n.onNetwork("curl", "-sf", "--max-time", "2", "http://"+net.JoinHostPort(address, "80")+"/ok").Output()
	return string(out), err
}

const webApp = `app: a
functions:
  - {function: web, image: {ref: ` + image + `}, stop: {grace: 0s}, command: [sh, -c, 'mkdir /www; echo fine > /www/ok; exec httpd -f -p 80 -h /www']}
`

// A service on the bridge has addresses, is reached there and reaches the node, and keeps
// them when the agent is killed.
func TestBridge(t *testing.T) {
	t.Parallel()
	for _, v := range rig.Versions {
		t.Run("containerd "+string(v), func(t *testing.T) {
			t.Parallel()
			testBridge(t, networkNode(t, v, bridgeConfig))
		})
	}
}

func testBridge(t *testing.T, n *node) {
	n.deploy(webApp)
	w := n.await("a/web", "running", inState("running"))
	addresses := w.Instances[0].Addresses
	if len(addresses) != 2 || !strings.HasPrefix(addresses[0], "10.96.0.") || !strings.HasPrefix(addresses[1], "fd00:96::") {
		t.Fatalf("it is at %v", addresses)
	}
	if shown := n.must("get", "a/web"); !strings.Contains(shown, ", at "+addresses[0]+" and "+addresses[1]) {
		t.Errorf("get shows no addresses:\n%s", shown)
	}
	if listed := n.must("ps"); !strings.Contains(listed, "ADDRESS") || !strings.Contains(listed, addresses[0]) {
		t.Errorf("ps shows no address:\n%s", listed)
	}
	n.reached(addresses)
	ours := func(table string) bool { return strings.HasPrefix(table, "purser-") }
	if tables := n.tables(); len(tables) != 2 || !slices.ContainsFunc(tables, ours) {
		t.Errorf("tables of nftables, of which there is one for each family: %v", tables)
	}
	if out := n.must("exec", "a/web", "--", "ip", "route"); !strings.Contains(out, "default via 10.96.0.1 dev eth0") {
		t.Errorf("routes: %s", out)
	}
	// The node has nothing to listen there, and says so.
	if r := n.run("exec", "a/web", "--", "nc", "-w", "5", "10.96.0.1", "1"); !strings.Contains(r.stderr, "refused") {
		t.Errorf("from inside the node answers %q", r.stderr)
	}
	n.killAgent()
	n.reached(addresses)
	after := n.await("a/web", "adopted", inState("running"))
	if after.pid() != w.pid() || !slices.Equal(after.Instances[0].Addresses, addresses) {
		t.Errorf("it was %+v and is %+v", w, after)
	}
	n.must("restart", "a/web")
	again := n.await("a/web", "restarted", func(w workload) bool { return w.State == "running" && w.pid() != after.pid() })
	n.reached(again.Instances[0].Addresses)
	n.eventually("the pool", func() bool { return n.metric("purser_networks_ready") == "2" })
	if n.metric(`purser_network_duration_seconds_count{operation="del",result="error"}`) != "0" {
		t.Error("something was not disconnected")
	}
	n.must("rm", "--force", "a/web")
	n.eventually("two to be ready, and nothing else", func() bool { return len(n.attachments()) == 2*attached })
	// The same file again changes nothing; the mode that was filled in is in the spec.
	n.deploy(webApp)
	if out := n.deploy(webApp); !strings.Contains(out, "unchanged") {
		t.Errorf("deployed again: %s", out)
	}
	if shown := n.must("get", "a/web"); !strings.Contains(shown, "mode: bridge") {
		t.Errorf("the mode is not shown:\n%s", shown)
	}
}

// reached waits until a web server answers at all addresses.
func (n *node) reached(addresses []string) {
	n.t.Helper()
	for _, a := range addresses {
		n.eventually("an answer at "+a, func() bool {
			text, err := n.fetches(a)
			return err == nil && text == "fine\n"
		})
	}
}

// A node that has no address left refuses, and has one again when something is removed.
func TestAddressesExhausted(t *testing.T) {
	t.Parallel()
	n := networkNode(t, rig.V24, "[network]\nsubnets = ['10.96.0.0/29']\n")
	launch := func(i int) []string {
		spec := fmt.Sprintf("app: a\nfunction: f%d\nimage: {ref: %s}\nstop: {grace: 0s}\n", i, image)
		return []string{"deploy", file(t, "f.yaml", spec)}
	}
	for i := range 5 {
		n.must(launch(i)...)
		n.await(fmt.Sprintf("a/f%d", i), "running", inState("running"))
	}
	text := n.refused(launch(5)...)
	for _, want := range []string{"addresses for 5 containers", "6 would need one", "network.subnets"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in: %s", want, text)
		}
	}
	if got := n.metric(`purser_not_admitted_total{reason="addresses"}`); got != "1" {
		t.Errorf("%s were refused", got)
	}
	n.rollsWithoutAddress()
	n.must("rm", "--force", "a/f2")
	n.must(launch(5)...)
	n.await("a/f5", "running", inState("running"))
}

// rollsWithoutAddress has a/f0 roll where no address is left: it says what it waits for,
// and is done once something is stopped.
func (n *node) rollsWithoutAddress() {
	n.must("restart", "a/f0")
	waits := n.await("a/f0", "without an address", inState("backing_off"))
	for _, want := range []string{"a rolling change needs an address more", "rotation.strategy restart", "serves meanwhile"} {
		if !strings.Contains(waits.Reason, want) {
			n.t.Errorf("%q is not in: %s", want, waits.Reason)
		}
	}
	n.must("stop", "a/f1")
	n.await("a/f0", "replaced", func(w workload) bool { return w.State == "running" && len(w.Instances) == 1 && w.pid() != waits.pid() })
	n.must("start", "a/f1")
	n.await("a/f1", "running again", inState("running"))
}

// Without plugins a bridge is refused, and what names no mode has none.
func TestNoPlugins(t *testing.T) {
	t.Parallel()
	n := networkNode(t, rig.V24, "[network]\ncni_plugin_dirs = ['/none']\n")
	text := n.refused("run", "--network", "bridge", "--image", image, "--", "true")
	for _, want := range []string{"network.mode bridge", "bridge, host-local", "/none", "apt-get install containernetworking-plugins"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in: %s", want, text)
		}
	}
	if out := n.must("run", "--image", image, "--", "ls", "/sys/class/net"); out != "lo\n" {
		t.Errorf("interfaces: %s", out)
	}
}

// However often the agent is killed while containers come and go, each address is free
// when they are gone.
func TestBridgeLeavesNothing(t *testing.T) {
	t.Parallel()
	n := networkNode(t, rig.V24, bridgeConfig+"[sweep]\nperiod = '1s'\n")
	const jobs, rounds = 6, 4
	for round := range rounds {
		var app strings.Builder
		app.WriteString("app: a\nfunctions:\n")
		for job := range jobs {
			fmt.Fprintf(&app, "  - {function: f%d, kind: job, image: {ref: %s}, command: [sh, -c, 'exit 0'], env: {ROUND: \"%d\"}, retries: 5}\n", job, image, round)
		}
		n.deploy(app.String())
		n.killAgent()
		for job := range jobs {
			n.await(fmt.Sprintf("a/f%d", job), "completed", inState("completed"))
		}
	}
	n.eventually("two to be ready, and nothing else", func() bool { return len(n.attachments()) == 2*attached })
	log, err := os.ReadFile(filepath.Join(n.dir, "log", "agent.log"))
	if leaked := grep(string(log), `"event":"Leaked"`); err != nil || leaked != "" {
		t.Errorf("something was left: %v\n%s", err, leaked)
	}
}

// After a reboot every address is free, and what runs again has one.
func TestBridgeAfterAReboot(t *testing.T) {
	t.Parallel()
	n := networkNode(t, rig.V24, bridgeConfig)
	n.deploy(webApp)
	before := n.await("a/web", "running", inState("running"))
	n.eventually("two to be ready", func() bool { return len(n.attachments()) == 3*attached })
	n.reboot()
	after := n.await("a/web", "running anew", func(w workload) bool { return w.State == "running" && w.pid() != before.pid() })
	n.reached(after.Instances[0].Addresses)
	n.eventually("two to be ready, and one in use", func() bool { return len(n.attachments()) == 3*attached })
}
