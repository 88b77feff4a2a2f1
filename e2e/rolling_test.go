package e2e

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

// serve is the beginning of a script that answers probes with files of /tmp.
const serve = `httpd -p 127.0.0.1:8080 -h /tmp; `

// rolled is a service that is ready once the file /tmp/ok is there, which command makes.
func rolled(command string) string {
	return `
app: a
functions:
  - function: f
    image: {ref: ` + image + `}
    command: [sh, -c, '` + serve + command + `']
    probes: {ready: {http: {port: 8080, path: /ok}, period: 100ms}}
    restart: {backoff_max: 1s}
    stop: {grace: 1s}
    network: {mode: none}
`
}

// What runs is stopped when what takes its place is ready, and not before.
func TestRolling(t *testing.T) {
	onEach(t, func(t *testing.T, n *node) {
		n.deploy(rolled(`touch /tmp/ok; trap "exit 0" TERM; while :; do sleep 0.1; done # first`), "--wait")
		first := n.get("a/f")
		n.deploy(rolled(`while ! cat /tmp/go; do sleep 0.1; done; touch /tmp/ok; sleep 1000`))
		both := n.await("a/f", "two instances", func(w workload) bool { return w.State == "running" && len(w.Instances) == 2 })
		if !both.Instances[1].is(first.Instances[0]) || !alive(first.pid()) {
			t.Errorf("of %+v there is %+v", first.Instances, both.Instances)
		}
		if !strings.HasSuffix(both.Reason, "the instance of generation 1 serves meanwhile") {
			t.Errorf("its reason is %q", both.Reason)
		}
		// What is meant for the workload goes to the one that serves.
		n.must("exec", "a/f", "--", "cat", "/tmp/ok")
		letGo(t, both)
		n.must("wait", "a/f", "--until", "ready")
		second := n.await("a/f", "one instance", func(w workload) bool { return w.State == "ready" && len(w.Instances) == 1 })
		if second.pid() != both.pid() || alive(first.pid()) || second.Restarts != 0 || second.LastExit.Instance != first.Instances[0].ID {
			t.Errorf("it was %+v and is %+v", both, second)
		}
		events := n.must("events")
		for _, kind := range []string{"Rolling", "Promoted"} {
			if !strings.Contains(events, kind) {
				t.Errorf("no event %s:\n%s", kind, events)
			}
		}
		// A restart is a change, too.
		n.must("restart", "a/f")
		n.await("a/f", "two instances", func(w workload) bool { return w.State == "running" && len(w.Instances) == 2 })
		n.must("stop", "a/f")
		if w := n.get("a/f"); w.State != "stopped" || len(w.Instances) > 0 || alive(second.pid()) {
			t.Errorf("after a stop: %+v", w)
		}
	})
}

// What never becomes ready takes nothing away.
func TestRollingToWhatFails(t *testing.T) {
	onOne(t, func(t *testing.T, n *node) {
		n.deploy(rolled(`touch /tmp/ok; sleep 1000`), "--wait")
		first := n.get("a/f")
		serves := func(what string) {
			t.Helper()
			w := n.get("a/f")
			if old := w.Instances[len(w.Instances)-1]; !old.is(first.Instances[0]) || !alive(first.pid()) {
				t.Fatalf("%s: of %+v there is %+v", what, first.Instances, w.Instances)
			}
		}
		n.deploy(rolled(`exit 3`))
		n.await("a/f", "backed out", backedOut(2))
		serves("one that exits")
		n.deploy(rolled(`echo never ready; sleep 1000`))
		n.await("a/f", "runs", inState("running"))
		<-time.After(time.Second)
		serves("one that is never ready")
		n.eventually("its output", func() bool { return strings.Contains(n.must("logs", "a/f"), "never ready") })
		n.deploy(strings.Replace(rolled(`echo never; sleep 1000`), "command:", "user: nobody-of-the-kind\n    command:", 1))
		n.await("a/f", "backed out", backedOut(4))
		serves("one that cannot be made")
		n.must("app", "rollback", "a", "1")
		last := n.await("a/f", "rolled back", func(w workload) bool { return w.State == "ready" && len(w.Instances) == 1 })
		if last.pid() != first.pid() || last.BackedOut != nil {
			t.Errorf("it was %+v and is %+v", first, last)
		}
	})
}

// An agent that dies in a change leaves both instances, and the next goes on with it.
func TestAgentIsKilledInARollingChange(t *testing.T) {
	onEach(t, func(t *testing.T, n *node) {
		n.deploy(rolled(`touch /tmp/ok; trap "sleep 2; exit 0" TERM; while :; do sleep 0.1; done`), "--wait")
		first := n.get("a/f")
		n.deploy(strings.Replace(rolled(`while ! cat /tmp/go; do sleep 0.1; done; touch /tmp/ok; sleep 1000`), "grace: 1s", "grace: 10s", 1))
		two := func(w workload) bool { return w.State == "running" && len(w.Instances) == 2 }
		both := n.await("a/f", "two instances", two)
		n.killAgent()
		after := n.await("a/f", "two instances", two)
		if !after.Instances[0].is(both.Instances[0]) || !after.Instances[1].is(both.Instances[1]) || !alive(first.pid()) {
			t.Fatalf("there were %+v and are %+v", both.Instances, after.Instances)
		}
		letGo(t, both)
		n.await("a/f", "ready", inState("ready"))
		n.killAgent() // as the old one ends, or is to
		last := n.await("a/f", "one instance", func(w workload) bool { return w.State == "ready" && len(w.Instances) == 1 })
		if !last.Instances[0].is(both.Instances[0]) || alive(first.pid()) {
			t.Errorf("there were %+v and are %+v", both.Instances, last.Instances)
		}
	})
}

// letGo makes the file that the first instance of a workload waits for.
func letGo(t *testing.T, w workload) {
	t.Helper()
	if err := os.WriteFile(fmt.Sprintf("/proc/%d/root/tmp/go", w.pid()), nil, 0o644); err != nil {
		t.Fatal(err)
	}
}

// Both halves of a change are taken up without the database: from the containers alone,
// or by one that knows the first of them.
func TestDatabaseIsLostInARollingChange(t *testing.T) {
	onEach(t, func(t *testing.T, n *node) {
		n.deploy(rolled(`touch /tmp/ok; sleep 1000`), "--wait")
		first := n.get("a/f")
		var before []byte
		n.betweenAgents(func() {
			var err error
			if before, err = os.ReadFile(n.state("state.db")); err != nil {
				t.Fatal(err)
			}
		})
		n.deploy(rolled(`while ! cat /tmp/go; do sleep 0.1; done; touch /tmp/ok; sleep 1000`))
		two := func(w workload) bool { return w.State == "running" && len(w.Instances) == 2 }
		both := n.await("a/f", "two instances", two)
		wantBoth := func(what string) {
			t.Helper()
			n.awaitKnown("a/f")
			w := n.await("a/f", "two instances", func(w workload) bool { return two(w) && w.pid() == both.pid() })
			if !w.Instances[1].is(first.Instances[0]) || !alive(first.pid()) || w.Generation != "2" {
				t.Fatalf("%s: there were %+v and are %+v", what, both, w)
			}
		}
		n.betweenAgents(func() { os.Remove(n.state("state.db")) })
		wantBoth("gone")
		n.betweenAgents(func() {
			if err := os.WriteFile(n.state("state.db"), before, 0o600); err != nil {
				t.Fatal(err)
			}
		})
		wantBoth("an old one")
		letGo(t, both)
		last := n.await("a/f", "one instance", func(w workload) bool { return w.State == "ready" && len(w.Instances) == 1 })
		if !last.Instances[0].is(both.Instances[0]) || alive(first.pid()) {
			t.Errorf("there were %+v and are %+v", both.Instances, last.Instances)
		}
	})
}
