package e2e

import (
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/purserd/purser/e2e/rig"
)

// What the containers of these tests try to reach: the node, and two addresses of it that
// stand for others far away, of which one is allowed.
var (
	farFriends   = []string{"192.0.2.7", "2001:db8:1::7"}
	farStrangers = []string{"198.51.100.7", "2001:db8:2::7"}
	nodeItself   = []string{"10.96.0.1", "fd00:96::1"}
)

const limitedApp = `app: a
defaults:
  image: {ref: ` + image + `}
  stop: {grace: 0s}
  command: [sh, -c, 'mkdir /www; echo fine > /www/ok; exec httpd -f -p 80 -h /www']
functions:
  - {function: free}
  - {function: some, network: {cidr_allowlist: [192.0.2.0/24, "2001:db8:1::/48"]}}
  - {function: blocked, network: {block_network: true}}
`

// A container reaches what its spec allows, and is reached, whether the agent that made it
// lives or not.
func TestEgress(t *testing.T) {
	t.Parallel()
	for _, v := range rig.Versions {
		t.Run("containerd "+string(v), func(t *testing.T) {
			t.Parallel()
			n := networkNode(t, v, bridgeConfig)
			n.farAway()
			testEgress(t, n)
		})
	}
}

// farAway gives the node the addresses, and has it serve at all of its own.
func (n *node) farAway() {
	n.t.Helper()
	for _, a := range slices.Concat(farFriends, farStrangers) {
		if out, err := n.onNetwork("busybox", "ip", "addr", "add", a, "dev", "lo").CombinedOutput(); err != nil {
			n.t.Fatalf("adding %s: %v: %s", a, err, out)
		}
	}
	dir := n.t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "ok"), []byte("fine\n"), 0o644); err != nil {
		n.t.Fatal(err)
	}
	server := n.onNetwork("busybox", "httpd", "-f", "-p", "[::]:80", "-h", dir)
	if err := server.Start(); err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() { server.Process.Kill(); server.Wait() })
	n.eventually("the node to serve", func() bool {
		_, err := n.fetches(farFriends[0])
		return err == nil
	})
}

func testEgress(t *testing.T, n *node) {
	all := slices.Concat(farFriends, farStrangers, nodeItself)
	may := map[string][]string{"a/free": all, "a/some": farFriends, "a/blocked": nil}
	n.deploy(limitedApp, "--wait")
	before := map[string]workload{}
	hold := func() {
		t.Helper()
		for id, want := range may {
			w := n.await(id, "running", inState("running"))
			n.reached(w.Instances[0].Addresses)
			if got := n.reaches(id, all); !slices.Equal(got, want) {
				t.Errorf("%s reaches %v, not %v", id, got, want)
			}
			if was, ok := before[id]; ok && was.pid() != w.pid() {
				t.Errorf("%s was %+v and is %+v", id, was, w)
			}
			before[id] = w
		}
	}
	hold()
	n.killAgent()
	hold()
	const metric = "purser_workload_egress_dropped_packets_total{"
	for function, dropped := range map[string]int{"some": 8, "blocked": 12} {
		got, err := strconv.Atoi(n.metric(metric + `app="a",environment="dev",function="` + function + `"}`))
		if err != nil || got < dropped {
			t.Errorf("of %s %d packets were dropped, not %d: %v", function, got, dropped, err)
		}
	}
	if got := strings.Count(n.scrape(), metric); got != 2 {
		t.Errorf("%d workloads are said to be limited", got)
	}
	// What may be reached changes with the spec.
	n.deploy(strings.ReplaceAll(limitedApp, "block_network: true", "cidr_allowlist: [198.51.100.0/24]"), "--wait")
	if got := n.reaches("a/blocked", all); !slices.Equal(got, farStrangers[:1]) {
		t.Errorf("with another list it reaches %v", got)
	}
}

// reaches tries addresses from inside. What is not reached is refused at once, and not
// waited for.
func (n *node) reaches(id string, addresses []string) (reached []string) {
	n.t.Helper()
	for _, a := range addresses {
		switch r := n.run("exec", id, "--", "wget", "-qO-", "http://"+net.JoinHostPort(a, "80")+"/ok"); {
		case r.stdout == "fine\n":
			reached = append(reached, a)
		case !strings.Contains(r.stderr, "Connection refused"):
			n.t.Errorf("%s: %s: %s", id, a, r.stderr)
		}
	}
	return reached
}
