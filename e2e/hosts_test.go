package e2e

import (
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"github.com/purserd/purser/e2e/rig"
)

// join lays a cable between two nodes, which get 192.0.2.1 and .2, and 2001:db8::1 and ::2.
func join(t *testing.T, nodes ...*node) {
	t.Helper()
	must := func(cmd *exec.Cmd) {
		t.Helper()
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", cmd.Args, err, out)
		}
	}
	must(nodes[0].onNetwork("ip", "link", "add", "cable", "type", "veth", "peer", "name", "cable", "netns", strconv.Itoa(nodes[1].network.Process.Pid)))
	t.Cleanup(func() { must(nodes[0].onNetwork("ip", "link", "del", "cable")) })
	for i, n := range nodes {
		must(n.onNetwork("ip", "addr", "add", fmt.Sprintf("192.0.2.%d/24", i+1), "dev", "cable"))
		must(n.onNetwork("ip", "addr", "add", fmt.Sprintf("2001:db8::%d/64", i+1), "dev", "cable", "nodad"))
		must(n.onNetwork("ip", "link", "set", "cable", "up"))
	}
}

// Two hosts, and the containers on them, reach each other's published ports.
func TestPortsOfTwoHosts(t *testing.T) {
	t.Parallel()
	var nodes []*node
	for _, v := range rig.Versions {
		n := networkNode(t, v, bridgeConfig)
		n.must("image", "import", serviceImage(t))
		n.deploy(published(8080, string(v)), "--wait")
		nodes = append(nodes, n)
	}
	join(t, nodes...)
	for i, n := range nodes {
		other := nodes[1-i].get("a/f").Instances[0].ID
		for _, host := range []string{fmt.Sprintf("192.0.2.%d", 2-i), fmt.Sprintf("[2001:db8::%d]", 2-i)} {
			url := fmt.Sprintf("http://%s:8080/", host)
			if out, err := n.onNetwork("curl", "-gsS", "-m", "10", url).CombinedOutput(); err != nil || !strings.HasPrefix(string(out), other+" ") {
				t.Errorf("from host %d, %s answers %q, %v", i+1, url, out, err)
			}
			if out := n.must("exec", "a/f", "--", "service", "-get", url); !strings.HasPrefix(out, other+" ") {
				t.Errorf("from a container of host %d, %s answers %q", i+1, url, out)
			}
		}
	}
}

// Many workloads have a bridge together; each is reached at its own address.
func TestManyOnABridge(t *testing.T) {
	t.Parallel()
	n := networkNode(t, rig.V24, strings.Replace(bridgeConfig, "pool = 2", "pool = 8", 1))
	const many = 200
	var app strings.Builder
	app.WriteString("app: a\ndefaults: {image: {ref: " + image + "}, command: [httpd, -f, -h, /etc], stop: {grace: 0s}, network: {mode: bridge}}\nfunctions:\n")
	for i := range many {
		fmt.Fprintf(&app, "  - {function: f%d}\n", i)
	}
	n.deploy(app.String())
	seen := map[string]bool{}
	running := func() bool {
		clear(seen)
		var answer struct{ Workloads []workload }
		n.json(&answer, "ps")
		for _, w := range answer.Workloads {
			if w.State == "running" && len(w.Instances) == 1 {
				for _, a := range w.Instances[0].Addresses {
					seen[a] = true
				}
			}
		}
		return len(seen) == 2*many
	}
	if !rig.ComesTrue(4*patience, running) {
		t.Fatalf("%d addresses are those of workloads that run, want %d", len(seen), 2*many)
	}
	for _, function := range []string{"f0", "f199"} {
		i := n.get("a/" + function).Instances[0]
		if out, err := n.onNetwork("curl", "-sS", "-m", "10", "http://"+i.Addresses[0]+"/hosts").CombinedOutput(); err != nil || !strings.Contains(string(out), i.ID) {
			t.Errorf("%s answers %q, %v", function, out, err)
		}
	}
}
