package e2e

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/purserd/purser/e2e/rig"
)

// drained are workloads that end at once, never by themselves, and not at all.
const drained = `
app: a
defaults:
  image: {ref: ` + image + `}
functions:
  - function: kind
    command: [sh, -c, 'trap "exit 0" TERM; while :; do sleep 0.05; done']
    restart: {policy: never}
  - function: stubborn
    command: [sh, -c, 'trap "" TERM; while :; do sleep 0.05; done']
    stop: {grace: 1h}
  - function: job
    kind: job
    command: [sh, -c, 'trap "exit 3" TERM; while :; do sleep 0.05; done']
    retries: 1
  - function: done
    kind: job
    command: ["true"]
  - function: halted
    command: [sleep, "100000"]
    stop: {grace: 0s}
`

func TestDrain(t *testing.T) {
	onOne(t, func(t *testing.T, n *node) {
		n.deploy(drained)
		for _, id := range []string{"a/kind", "a/stubborn", "a/job"} {
			n.await(id, "running", inState("running"))
		}
		n.must("wait", "a/done")
		n.must("stop", "a/halted")
		if ready, body := n.ready(); !ready {
			t.Errorf("not ready: %s", body)
		}

		r := n.run("drain", "--deadline", "2s")
		if r.code != 0 || !strings.Contains(r.stdout, "the node is drained: 3 of 3 workloads stopped") || !strings.Contains(r.stderr, "still there: dev a/") {
			t.Fatalf("drain: %+v", r)
		}
		n.isDrained(t)

		// It stays so when the agent is killed, and what is kept can be used.
		n.killAgent()
		n.isDrained(t)
		if r := n.runWith("one", "secret", "set", "s", "KEY=-"); r.code != 0 {
			t.Errorf("a secret cannot be set: %s", r.stderr)
		}
		n.must("logs", "a/kind")
		n.must("rm", "a/halted")

		n.must("undrain")
		for _, id := range []string{"a/kind", "a/stubborn", "a/job"} {
			n.await(id, "running", inState("running"))
		}
		if w := n.get("a/done"); w.State != "completed" {
			t.Errorf("what was done is %s", w.State)
		}
		if got := n.metric("purser_node_draining"); got != "0" {
			t.Errorf("draining is %s", got)
		}
		n.must("rm", "-f", "a/stubborn", "a/job")
	})
}

// isDrained checks what there is to see of a drained node.
func (n *node) isDrained(t *testing.T) {
	t.Helper()
	for id, want := range map[string]string{"a/kind": "pending", "a/stubborn": "pending", "a/job": "pending", "a/done": "completed", "a/halted": "stopped"} {
		if w := n.get(id); w.State != want || len(w.Instances) > 0 || want == "pending" && w.Reason != "the node is drained" {
			t.Errorf("%s is %s (%s)", id, w.State, w.Reason)
		}
	}
	for _, args := range [][]string{{"start", "a/halted"}, {"restart", "a/kind"}, {"run", "--image", image, "--", "true"}} {
		if said := n.refused(args...); !strings.Contains(said, "the node has been drained since") || !strings.Contains(said, "purser undrain") {
			t.Errorf("%v: %q", args, said)
		}
	}
	if got := n.must("node"); !strings.Contains(got, "Drain:") {
		t.Errorf("node:\n%s", got)
	}
	if got := n.metric("purser_node_draining"); got != "1" {
		t.Errorf("draining is %s", got)
	}
	if ready, body := n.ready(); ready || !strings.Contains(body, `"accepts_launches","ok":false`) {
		t.Errorf("ready: %v %s", ready, body)
	}
}

// ready asks /readyz.
func (n *node) ready() (bool, string) {
	n.t.Helper()
	response, err := http.Get("http://" + n.metricsAddress() + "/readyz")
	if err != nil {
		n.t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil || !json.Valid(body) {
		n.t.Fatalf("%v in %s", err, body)
	}
	return response.StatusCode == http.StatusOK, string(body)
}

// A drain that is under way goes on without the command and under the next agent, and
// can be called off.
func TestDrainGoesOn(t *testing.T) {
	t.Parallel()
	n := newNode(t, rig.Versions[0])
	n.deploy(`
app: a
functions:
  - function: stubborn
    image: {ref: `+image+`}
    command: [sh, -c, 'trap "" TERM; while :; do sleep 0.05; done']
    stop: {grace: 1h}
`, "--wait")
	pid := n.get("a/stubborn").pid()

	cmd := n.command("drain")
	var said strings.Builder
	cmd.Stderr = &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	n.await("a/stubborn", "stopping", inState("stopping"))
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err == nil || !strings.Contains(said.String(), "the node goes on draining") {
		t.Errorf("interrupted: %v %q", err, said.String())
	}

	n.killAgent()
	if w := n.await("a/stubborn", "stopping", inState("stopping")); w.pid() != pid {
		t.Errorf("it is process %d and was %d", w.pid(), pid)
	}
	if got := n.must("drain", "--no-wait"); !strings.Contains(got, "draining: 1 workloads") {
		t.Errorf("again: %q", got)
	}
	// A deadline for what is under way already.
	began := time.Now()
	if got := n.must("drain", "--deadline", "100ms"); !strings.Contains(got, "1 of 1 workloads stopped") {
		t.Errorf("with a deadline: %q", got)
	}
	if took := time.Since(began); took > patience {
		t.Errorf("it took %v", took)
	}
	n.eventually("the events", func() bool {
		events := n.must("events")
		return strings.Contains(events, "Drained") && strings.Contains(events, "no workload runs")
	})
	n.must("undrain")
	n.await("a/stubborn", "running", inState("running"))
	n.must("rm", "-f", "a/stubborn")
}
