package e2e

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
)

// restarted is an app file of a service of strategy restart that exits with a status after a
// while, or goes on.
func restarted(command string) string {
	return `
app: a
functions:
  - {function: f, image: {ref: localhost/box:1}, command: [sh, -c, '` + command + `'], rotation: {strategy: restart, min_ready: 1s}, restart: {backoff_min: 100ms}, stop: {grace: 0s}}
`
}

// A new spec that fails twice is gone back from, also where nothing serves meanwhile and the
// agent is another one by then; what is told of it tells what to do.
func TestBackOutOfASpec(t *testing.T) {
	onOne(t, func(t *testing.T, n *node) {
		n.deploy(restarted("exec sleep 1000"), "--wait")
		n.await("a/f", "well for long enough", func(w workload) bool { return w.State == "running" })
		n.betweenAgents(func() {})
		n.await("a/f", "taken over", func(w workload) bool { return w.State == "running" })

		said := n.refused("deploy", file(t, "app.yaml", restarted("sleep 0.2; exit 9")), "--wait")
		if !strings.Contains(said, "generation 2 failed, and generation 1 is in force again: exited with status 9") {
			t.Errorf("deploy --wait says %s", said)
		}
		n.awaitEvents("RolloutFailed", "BackedOut")
		w := n.get("a/f")
		if w.BackedOut == nil || w.BackedOut.RunsGeneration != "1" || w.Generation != "2" {
			t.Errorf("it is %+v", w)
		}
		n.await("a/f", "running on what was before", func(w workload) bool { return w.State == "running" && len(w.Instances) == 1 })
		runs := n.get("a/f")

		n.betweenAgents(func() {})
		n.await("a/f", "as it was", func(w workload) bool {
			return w.State == "running" && len(w.Instances) == 1 && w.Instances[0].is(runs.Instances[0]) && w.BackedOut != nil
		})
		if out := n.must("ps"); !strings.Contains(out, "generation 2 failed") {
			t.Errorf("ps says\n%s", out)
		}
		if got := n.metric(`purser_workloads_backed_out{environment="dev"}`); got != "1" {
			t.Errorf("%s workloads are counted as backed out", got)
		}
		n.deploy(restarted("exec sleep 1000"), "--wait")
		if w := n.get("a/f"); w.BackedOut != nil || w.Generation != "3" || !w.Instances[0].is(runs.Instances[0]) {
			t.Errorf("once what runs was asked for it is %+v, of %+v", w, runs)
		}
		n.deploy(restarted("exec sleep 2000"), "--wait")
		n.awaitEvents("RolledOut")
	})
}

// Who follows a service through a change that is gone back from reads each line once.
func TestFollowedThroughABackOut(t *testing.T) {
	onOne(t, func(t *testing.T, n *node) {
		counts := `i=0; while :; do echo line $i; i=$((i+1)); sleep 0.05; done`
		spec := func(command string) string {
			return strings.Replace(restarted(command), "strategy: restart", "strategy: rolling", 1)
		}
		n.deploy(spec(counts), "--wait")
		follow := n.command("logs", "-f", "a/f")
		out, err := follow.StdoutPipe()
		if err == nil {
			err = follow.Start()
		}
		if err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		seen := map[string]int{}
		next := func() string {
			if !lines.Scan() {
				t.Fatalf("the log ends: %v", lines.Err())
			}
			seen[lines.Text()]++
			return lines.Text()
		}
		next()
		n.deploy(spec(`echo failing; exit 9`))
		n.await("a/f", "backed out", backedOut(2))
		last := strings.Count(n.must("logs", "a/f"), "line ")
		for next() != fmt.Sprintf("line %d", last+20) {
		}
		if err := errors.Join(follow.Process.Signal(os.Interrupt), follow.Wait()); err != nil {
			t.Logf("logs -f: %v", err)
		}
		for line, times := range seen {
			if want := map[bool]int{true: 2, false: 1}[line == "failing"]; times != want {
				t.Errorf("%q is read %d times", line, times)
			}
		}
	})
}
