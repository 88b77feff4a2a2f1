package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/purserd/purser/e2e/rig"
)

// keyed is a spec of the service whose health is its key's, and which answers with it: with
// bad it exits at once, with slow it never serves, with brief it serves for a moment.
func keyed(secret string) string {
	return fmt.Sprintf(`
app: a
function: f
image: {ref: localhost/service:1}
command: [sh, -c, 'export PURSER_INSTANCE=$KEY; case $KEY in bad*) exit 7;; slow*) trap "exit 0" TERM; while :; do sleep 0.1; done;; brief*) service & sleep 0.7; exit 8;; esac; exec service']
secrets: [{name: %s, keys: {KEY: KEY}}]
network: {ports: [{container: 8080, host: %d}]}
probes: {ready: {tcp: {port: 8080}, period: 50ms}}
rotation: {min_ready: 1s, health_timeout: 5s}
restart: {backoff_min: 100ms, backoff_max: 1s}
`, secret, port)
}

// briskNode is a node with a container network that waits for changes of a secret for less
// long than others.
func briskNode(t testing.TB, v rig.Version) *node {
	t.Helper()
	n := networkNode(t, v, bridgeConfig+"[rotation]\nquiet = '100ms'\n")
	n.must("image", "import", serviceImage(t))
	return n
}

// brisk is onOne on such a node.
func brisk(t *testing.T, test func(t *testing.T, n *node)) {
	t.Helper()
	onVersions(t, oneFor(t), briskNode, test)
}

// versionStates are the states of a secret's versions, newest first.
func (n *node) versionStates(secret string) []string {
	n.t.Helper()
	var answer struct{ Versions []struct{ State string } }
	if err := n.call("Secrets/Describe", fmt.Sprintf(`{"name":%q}`, secret), &answer); err != nil {
		n.t.Fatal(err)
	}
	var states []string
	for _, v := range answer.Versions {
		states = append(states, v.State)
	}
	return states
}

// awaitQuarantine waits until the newest version of a secret is given to nobody.
func (n *node) awaitQuarantine(secret string) {
	n.t.Helper()
	n.eventually("the newest version of "+secret+" to be quarantined", func() bool { return n.versionStates(secret)[0] == "quarantined" })
}

// sequence follows the answers of a service, each of another kind than the one before.
func (n *node) sequence(t *testing.T, do func()) (kinds []string) {
	t.Helper()
	over, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			got, err := n.ask(port, "/")
			if kind, _, _ := strings.Cut(got, " "); err == nil && (len(kinds) == 0 || kinds[len(kinds)-1] != kind) {
				kinds = append(kinds, kind)
			}
			select {
			case <-over:
				return
			case <-time.After(20 * time.Millisecond):
			}
		}
	}()
	do()
	close(over)
	<-done
	return kinds
}

// wantNoLoss checks that no request of a load has failed, and that only these have answered.
func wantNoLoss(t *testing.T, report rig.LoadReport, answers ...string) {
	t.Helper()
	if len(report.Failures) > 0 {
		t.Errorf("requests were lost: %v", report)
	}
	for kind := range report.Answers {
		if !slices.Contains(answers, kind) {
			t.Errorf("it was answered with %s: %v", kind, report)
		}
	}
}

// However often the secret of a service changes, for the better or the worse, no request
// fails, and none is answered with what turned out bad.
func TestNoGap(t *testing.T) {
	brisk(t, func(t *testing.T, n *node) {
		n.must("secret", "set", "s", "KEY=good0")
		n.deploy(keyed("s"), "--wait")
		answers := []string{"good0"}
		version := 1
		var report rig.LoadReport
		seen := n.sequence(t, func() {
			report = n.loaded(t, func() {
				for i := range 10 {
					if bad, ok := map[int]string{2: "bad", 5: "slow", 8: "brief"}[i]; ok {
						n.must("secret", "set", "s", "KEY="+bad)
						version++
						n.awaitQuarantine("s")
						n.await("a/f", "on the version before", stayed(version-1))
					}
					good := fmt.Sprintf("good%d", i+1)
					n.must("secret", "set", "s", "KEY="+good)
					version++
					answers = append(answers, good)
					n.await("a/f", "moved to "+good, moved(version))
				}
			})
		})
		wantNoLoss(t, report, answers...)
		if !slices.Equal(seen, answers) {
			t.Errorf("the answers went over %v, not %v", seen, answers)
		}
		if got := n.metric(`purser_rotations_total{result="backed_out",strategy="rolling"}`); got != "3" {
			t.Errorf("%s moves are counted as backed out", got)
		}
	})
}

// A deploy that has another secret in the place of one is held to the same: what served
// serves on until the new one is healthy, and for good if that fails twice.
func TestNoGapWithANewSecret(t *testing.T) {
	brisk(t, func(t *testing.T, n *node) {
		for name, value := range map[string]string{"db": "one", "db-bad": "bad", "db-slow": "slow", "db-brief": "brief", "db-v2": "two"} {
			n.must("secret", "set", name, "KEY="+value)
		}
		n.deploy(keyed("db"), "--wait")
		first := n.get("a/f")
		var report rig.LoadReport
		seen := n.sequence(t, func() {
			report = n.loaded(t, func() {
				for i, name := range []string{"db-bad", "db-brief", "db-slow"} {
					n.deploy(keyed(name))
					n.await("a/f", "back on db", backedOut(i+2))
					n.await("a/f", "as it was", func(w workload) bool {
						return w.State == "ready" && len(w.Instances) == 1 && w.Instances[0].is(first.Instances[0]) && w.Pins[0].Secret == "db"
					})
				}
				n.deploy(keyed("db-v2"), "--wait")
				n.await("a/f", "replaced", func(w workload) bool { return w.State == "ready" && len(w.Instances) == 1 && w.BackedOut == nil })
			})
		})
		wantNoLoss(t, report, "one", "two")
		if !slices.Equal(seen, []string{"one", "two"}) {
			t.Errorf("the answers went over %v", seen)
		}
		if alive(first.pid()) {
			t.Error("what is replaced runs on")
		}
		for result, want := range map[string]string{"backed_out": "3", "healthy": "1"} {
			if got := n.metric(`purser_rollouts_total{result="` + result + `"}`); got != want {
				t.Errorf("%s rollouts are counted as %s, not %s", got, result, want)
			}
		}
	})
}

// backedOut says whether the spec of a generation failed, and an earlier one is in force.
func backedOut(generation int) func(workload) bool {
	return func(w workload) bool {
		return w.BackedOut != nil && w.BackedOut.Generation == fmt.Sprint(generation) && w.Generation == fmt.Sprint(generation)
	}
}
