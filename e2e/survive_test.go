package e2e

import (
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/purserd/purser/e2e/rig"
)

const sleeper = `
app: a
functions:
  - function: f
    image: {ref: ` + image + `}
    secrets: [{name: s}]
    command: [sh, -c, 'echo $KEY; exec sleep 100000']
    stop: {grace: 1s}
    rotation: {min_ready: 0s}
`

func (n *node) deploySleeper() workload {
	n.t.Helper()
	if r := n.runWith("one", "secret", "set", "s", "KEY=-"); r.code != 0 {
		n.t.Fatal(r.stderr)
	}
	n.deploy(sleeper, "--wait")
	return n.get("a/f")
}

// A container outlives the agent: the next one takes it over as it is, goes on
// reading what it writes, and learns how it ended.
func TestAgentIsKilled(t *testing.T) {
	onEach(t, func(t *testing.T, n *node) {
		n.must("secret", "set", "s", "--from-json", file(t, "s.json", `{"KEY": "one"}`))
		n.deploy(`
app: a
functions:
  - function: f
    image: {ref: `+image+`}
    command: [sh, -c, 'trap "echo bye; exit 7" TERM; i=0; while :; do echo $i; i=$((i+1)); sleep 0.1; done']
    restart: {policy: never}
`, "--wait")
		before := n.get("a/f")
		for range 3 {
			agent := n.pidOf(t, "purser agent")
			if err := syscall.Kill(agent, syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
			n.eventually("a new agent", func() bool {
				return !alive(agent) && n.serves()
			})
			after := n.await("a/f", "running", inState("running"))
			if after.pid() != before.pid() || after.Instances[0].ID != before.Instances[0].ID {
				t.Fatalf("it was %+v and is %+v", before, after)
			}
		}
		n.awaitEvents("Adopted")
		n.must("signal", "a/f", "TERM")
		w := n.await("a/f", "failed", inState("failed"))
		if w.LastExit.Code != 7 || w.Restarts != 0 {
			t.Errorf("the exit after the agents' deaths: %+v", w.LastExit)
		}
		lines := strings.Fields(n.must("logs", "a/f"))
		if lines[len(lines)-1] != "bye" {
			t.Errorf("the last line is %q", lines[len(lines)-1])
		}
	})
}

// An agent that is asked to end does so and leaves containers running, which the next one
// takes over.
func TestAgentIsStopped(t *testing.T) {
	onEach(t, func(t *testing.T, n *node) {
		dir := filepath.Join(n.dir, "second")
		t.Cleanup(func() { leaveNothing(n, dir) })
		socket := filepath.Join(n.dir, "containerd.sock")
		second, end := n.endableAgentOn(dir, "state", socket)
		second.runWith("one", "secret", "set", "s", "KEY=-")
		second.deploy(ticking, "--wait")
		service, job := second.get("a/f"), second.await("a/job", "running", inState("running"))
		if err := end(syscall.SIGTERM); err != nil {
			t.Errorf("the agent ended with %v", err)
		}
		for _, w := range []workload{service, job} {
			if !alive(w.pid()) {
				t.Errorf("%s has ended with the agent", w.ID)
			}
		}
		second, _ = n.endableAgentOn(dir, "state", socket)
		second.wantAdopted("a/f", service)
		second.wantAdopted("a/job", job)
		second.wantTicking("a/f")
		second.must("app", "rm", "-f", "a")
		second.eventually("its containers to go", func() bool { return len(n.containers()) == 0 })
	})
}

// An exit while no agent runs is known to the next one.
func TestExitWhileTheAgentIsAway(t *testing.T) {
	onEach(t, func(t *testing.T, n *node) {
		n.deploy(`
app: a
functions:
  - {function: f, kind: job, image: {ref: `+image+`}, command: [sh, -c, 'sleep 1000; exit 9'], retries: 0}
`, "--wait")
		pid := n.get("a/f").pid()
		agent := n.pidOf(t, "purser agent")
		syscall.Kill(agent, syscall.SIGSTOP) // so that purser dev does not start another yet
		syscall.Kill(pid, syscall.SIGKILL)
		syscall.Kill(agent, syscall.SIGKILL)
		n.eventually("a new agent", func() bool { return !alive(agent) && n.serves() })
		if w := n.await("a/f", "failed", inState("failed")); w.LastExit.Code != 137 {
			t.Errorf("exit status %d, want 137", w.LastExit.Code)
		}
	})
}

// Of what is lost while no agent runs, with the shim that knew, nobody can tell how it
// ended. That is said, is not taken for a reboot, and the policy is applied once.
func TestShimIsKilledWhileTheAgentIsAway(t *testing.T) {
	onEach(t, func(t *testing.T, n *node) {
		n.deploy(`
app: a
defaults: {image: {ref: `+image+`}, command: [sleep, "1000000"]}
functions:
  - {function: never, restart: {policy: never}}
  - {function: always, restart: {backoff_min: 100ms}}
  - {function: job, kind: job, retries: 1}
`, "--wait")
		before := map[string]workload{}
		for _, id := range []string{"a/never", "a/always", "a/job"} {
			before[id] = n.await(id, "running", inState("running"))
		}
		n.betweenAgents(func() {
			for id, w := range before {
				kill(t, rig.Parent(t, w.pid()))
				n.eventually(id+" to end", func() bool { return !alive(w.pid()) })
			}
		})
		w := n.await("a/never", "failed", inState("failed"))
		if e := w.LastExit; e.Code != 255 || e.Cause != "lost" || !strings.Contains(e.Reason, "unknown") || e.Instance != before["a/never"].Instances[0].ID {
			t.Errorf("what is not to be restarted: %+v", e)
		}
		w = n.await("a/always", "running anew", func(w workload) bool { return w.State == "running" && w.pid() != before["a/always"].pid() })
		if w.Restarts != 1 || w.LastExit.Code != 255 {
			t.Errorf("what is restarted: %d times, %+v", w.Restarts, w.LastExit)
		}
		w = n.await("a/job", "running anew", func(w workload) bool { return w.State == "running" && w.pid() != before["a/job"].pid() })
		if w.LastExit.Code != 255 {
			t.Errorf("the job: %+v", w.LastExit)
		}
		if got := n.containers(); len(got) != 2 {
			t.Errorf("containers: %v", got)
		}
	})
}

// A second start on the same directory finds secrets, images and workloads;
// services come back, and only what the first node had running.
func TestNodeIsStoppedAndStarted(t *testing.T) {
	onEach(t, func(t *testing.T, n *node) {
		before := n.deploySleeper()
		n.must("secret", "hold", "s") // which lasts, too
		n.must("secret", "set", "s", "--from-json", file(t, "s.json", `{"KEY": "two"}`))
		n.stop()
		if alive(before.pid()) {
			t.Error("the container outlived purser dev")
		}
		for _, leak := range rig.Leaks(n.dir) {
			t.Errorf("a stopped node left %s", leak)
		}
		n.start()
		after := n.await("a/f", "running", inState("running"))
		if after.pid() == before.pid() {
			t.Error("the container is the same")
		}
		if after.Pins[0].Version != 1 {
			t.Errorf("it came back on version %d, its pin is 1", after.Pins[0].Version)
		}
		n.eventually("its output", func() bool { return n.must("logs", "a/f") == "one\n" })
		if out := n.must("image", "list"); !strings.Contains(out, image) {
			t.Errorf("the image is gone: %s", out)
		}
		if out := n.must("secret", "versions", "s"); !strings.Contains(out, "2") || !strings.Contains(out, "held") {
			t.Errorf("the secret's versions: %s", out)
		}
		n.must("secret", "release", "s")
		n.eventually("what is released", func() bool { return n.must("logs", "a/f") == "two\n" })
	})
}

// purser dev that is killed with SIGKILL leaves containers running, and the
// next start on the directory takes them over.
func TestNodeIsKilled(t *testing.T) {
	onEach(t, func(t *testing.T, n *node) {
		before := n.deploySleeper()
		n.dev.Process.Kill()
		<-n.ended
		n.eventually("the children to end", func() bool { return len(rig.Processes(n.dir, "containerd --config", "purser agent")) == 0 })
		if !alive(before.pid()) {
			t.Fatal("the container died with purser dev")
		}
		n.start()
		after := n.await("a/f", "running", inState("running"))
		if after.pid() != before.pid() {
			t.Errorf("the container was replaced: %d, now %d", before.pid(), after.pid())
		}
	})
}

// A containerd that dies takes nothing along, and is started again.
func TestContainerdIsKilled(t *testing.T) {
	onEach(t, func(t *testing.T, n *node) {
		before := n.deploySleeper()
		containerd := n.pidOf(t, "containerd --config")
		syscall.Kill(containerd, syscall.SIGKILL)
		n.eventually("a new containerd", func() bool {
			return !alive(containerd) && strings.Contains(n.must("node", "-o", "json"), `"connected": true`)
		})
		if w := n.get("a/f"); w.pid() != before.pid() || w.State != "running" {
			t.Errorf("it was %+v and is %+v", before, w)
		}
		n.must("restart", "a/f")
		n.await("a/f", "running anew", func(w workload) bool { return w.State == "running" && w.pid() != before.pid() })
		if r := n.run("run", "--image", image, "--", "true"); r.code != 0 {
			t.Errorf("a launch after it: %d %s", r.code, r.stderr)
		}
	})
}

func TestTwoNodesSideBySide(t *testing.T) {
	onEach(t, func(t *testing.T, n *node) {
		other := newNode(t, n.version)
		n.deploySleeper()
		other.deploySleeper()
		n.stop()
		if w := other.get("a/f"); w.State != "running" || !alive(w.pid()) {
			t.Errorf("the other node's workload is %+v", w)
		}
		r := finish(t, other.command("dev", "--dir", other.dir))
		if r.code == 0 || !strings.Contains(r.stderr, other.dir) {
			t.Errorf("a second node on one directory: %d %s", r.code, r.stderr)
		}
	})
}
