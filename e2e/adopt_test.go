package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/purserd/purser/e2e/rig"
)

// betweenAgents does something while no agent runs and containers do.
func (n *node) betweenAgents(do func()) {
	n.t.Helper()
	agent := n.pidOf(n.t, "purser agent")
	syscall.Kill(agent, syscall.SIGSTOP) // so that purser dev does not start another yet
	do()
	if err := syscall.Kill(agent, syscall.SIGKILL); err != nil {
		n.t.Fatal(err)
	}
	n.eventually("a new agent", func() bool { return !alive(agent) && n.serves() })
}

// state is a path in the state directory.
func (n *node) state(name string) string { return filepath.Join(n.dir, "state", name) }

func copyFile(t testing.TB, from, to string) {
	t.Helper()
	data, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

const ticking = `
app: a
defaults: {image: {ref: ` + image + `}, stop: {grace: 0s}}
functions:
  - {function: f, secrets: [{name: s}], rotation: {strategy: manual}, restart: {backoff_min: 1s}, command: [sh, -c, 'i=0; while :; do echo tick $i; i=$((i+1)); sleep 0.2; done']}
  - {function: job, kind: job, command: [sleep, '100000']}
`

// deployTicking runs a service on the first version of a secret that has more by now,
// and a job.
func (n *node) deployTicking() (service, job workload) {
	n.t.Helper()
	for _, value := range []string{"one", "two"} {
		if r := n.runWith(value, "secret", "set", "s", "KEY=-"); r.code != 0 {
			n.t.Fatal(r.stderr)
		}
		if value == "one" {
			n.deploy(ticking, "--wait")
		}
	}
	return n.get("a/f"), n.await("a/job", "running", inState("running"))
}

// awaitKnown waits until a workload is there: an agent without a database serves before
// it knows its containers.
func (n *node) awaitKnown(id string) {
	n.t.Helper()
	n.eventually(id+" to be known", func() bool { return n.knows(id) })
}

// wantAdopted checks that a workload runs on as it did.
func (n *node) wantAdopted(id string, before workload) {
	n.t.Helper()
	n.awaitKnown(id)
	after := n.await(id, "running", inState("running"))
	if after.pid() != before.pid() || after.Instances[0].ID != before.Instances[0].ID {
		n.t.Errorf("%s was %+v and is %+v", id, before, after)
	}
	if fmt.Sprint(after.Pins) != fmt.Sprint(before.Pins) || after.Generation != before.Generation {
		n.t.Errorf("%s: pins %v of generation %s, they were %v of %s", id, after.Pins, after.Generation, before.Pins, before.Generation)
	}
}

// wantTicking checks that a log begins with the first line and goes on.
func (n *node) wantTicking(id string) {
	n.t.Helper()
	lines := strings.Split(strings.TrimSpace(n.must("logs", id)), "\n")
	if lines[0] != "tick 0" {
		n.t.Errorf("the log begins with %q", lines[0])
	}
	n.eventually("more output", func() bool {
		return len(strings.Split(strings.TrimSpace(n.must("logs", id)), "\n")) > len(lines)
	})
}

// wantUsable checks that a service that was taken over can be worked with.
func (n *node) wantUsable(id string) {
	n.t.Helper()
	if got := n.must("exec", id, "--", "sh", "-c", `printf %s "${KEY#?}"`); got != "ne" {
		n.t.Errorf("exec got %q", got)
	}
	before := n.get(id)
	n.must("stop", id)
	n.must("start", id)
	after := n.await(id, "running anew", func(w workload) bool { return w.State == "running" && w.pid() != before.pid() })
	if after.Pins[0].Version != 1 {
		n.t.Errorf("it came back on %v", after.Pins)
	}
}

// A lost database is rebuilt from what runs.
func TestDatabaseIsDeleted(t *testing.T) {
	onEach(t, func(t *testing.T, n *node) {
		service, job := n.deployTicking()
		n.betweenAgents(func() { os.Remove(n.state("state.db")) })
		n.wantAdopted("a/f", service)
		n.wantAdopted("a/job", job)
		n.awaitEvents("StateLost", "Recovered", "Adopted", "AuditDamaged")
		n.wantTicking("a/f")
		n.wantUsable("a/f")
		if out := n.must("app", "list"); !strings.Contains(out, "a ") {
			t.Errorf("the app is not there: %s", out)
		}
		n.deploy(ticking)
		if w := n.get("a/job"); w.pid() != job.pid() {
			t.Errorf("a deploy of the same has replaced %+v by %+v", job, w)
		}
		if got := n.metric("purser_state_losses_total"); got != "1" {
			t.Errorf("%s losses of state, want 1", got)
		}
		if got := n.metric(`purser_adoptions_total{result="recovered"}`); got != "2" {
			t.Errorf("%s containers recovered, want 2", got)
		}
		n.must("rm", "a/f")
		n.must("rm", "--force", "a/job")
		n.eventually("no container", func() bool { return len(n.containers()) == 0 })
	})
}

// A container whose process ended while there was neither agent nor database is
// settled by the policy, once.
func TestExitWithoutDatabase(t *testing.T) {
	onEach(t, func(t *testing.T, n *node) {
		service, job := n.deployTicking()
		n.betweenAgents(func() {
			os.Remove(n.state("state.db"))
			syscall.Kill(service.pid(), syscall.SIGKILL)
			syscall.Kill(job.pid(), syscall.SIGKILL)
		})
		n.awaitKnown("a/f")
		n.awaitKnown("a/job")
		after := n.await("a/f", "running again", func(w workload) bool { return w.State == "running" && w.pid() != service.pid() })
		if after.LastExit == nil || after.LastExit.Code != 137 || after.Restarts != 1 || after.Pins[0].Version != 1 {
			t.Errorf("the service: %+v, exit %+v", after, after.LastExit)
		}
		if w := n.await("a/job", "failed", inState("failed")); w.LastExit.Code != 137 {
			t.Errorf("the job: %+v", w.LastExit)
		}
	})
}

// A database that was put back undoes nothing that runs.
func TestOlderDatabase(t *testing.T) {
	onEach(t, func(t *testing.T, n *node) {
		n.deployTicking()
		n.must("stop", "a/f")
		old := filepath.Join(t.TempDir(), "state.db")
		n.betweenAgents(func() { copyFile(t, n.state("state.db"), old) })
		n.await("a/job", "adopted", inState("running"))
		n.must("start", "a/f")
		n.must("restart", "--secrets", "a/f")
		n.deploy(strings.Replace(ticking, "'100000'", "'200000'", 1) + "  - {function: late, command: [sleep, '1000000']}\n")
		n.must("rm", "--force", "a/job")
		n.deploy(strings.Replace(ticking, "'100000'", "'300000'", 1) + "  - {function: late, command: [sleep, '1000000']}\n")
		all := map[string]workload{}
		for _, id := range []string{"a/f", "a/job", "a/late"} {
			all[id] = n.await(id, "running", func(w workload) bool {
				return w.State == "running" && w.pid() != 0 && (id != "a/f" || w.Pins[0].Version == 2)
			})
		}
		n.betweenAgents(func() { copyFile(t, old, n.state("state.db")) })
		n.awaitEvents("Recovered")
		for id, before := range all {
			n.wantAdopted(id, before)
		}
	})
}

// What runs on a node whose database was put back from when it was drained is taken
// over, and stopped.
func TestOlderDatabaseOfADrainedNode(t *testing.T) {
	onOne(t, func(t *testing.T, n *node) {
		service, _ := n.deployTicking()
		n.must("drain", "--deadline", "1s")
		old := filepath.Join(t.TempDir(), "state.db")
		n.betweenAgents(func() { copyFile(t, n.state("state.db"), old) })
		n.must("undrain")
		n.await("a/f", "running again", func(w workload) bool { return w.State == "running" && w.pid() != service.pid() })
		n.betweenAgents(func() { copyFile(t, old, n.state("state.db")) })
		n.awaitEvents("Recovered")
		n.await("a/f", "stopped by the drain", func(w workload) bool { return w.State == "pending" && len(w.Instances) == 0 })
		n.eventually("no container", func() bool { return len(n.containers()) == 0 })
	})
}

// A damaged database is put aside, and rebuilt from what runs.
func TestDatabaseIsDamaged(t *testing.T) {
	t.Parallel()
	for kind, damage := range map[string]func([]byte) []byte{
		"cut off": func(b []byte) []byte { return b[:len(b)/3] },
		"zeroed":  func(b []byte) []byte { clear(b[2*4096:]); return b },
		"garbage": func(b []byte) []byte { return []byte(strings.Repeat("no database ", 3000)) },
	} {
		t.Run(kind, func(t *testing.T) {
			onEach(t, func(t *testing.T, n *node) {
				service, job := n.deployTicking()
				n.betweenAgents(func() {
					data, err := os.ReadFile(n.state("state.db"))
					if err != nil {
						t.Fatal(err)
					}
					if err := os.WriteFile(n.state("new"), damage(data), 0o600); err != nil {
						t.Fatal(err)
					}
					if err := os.Rename(n.state("new"), n.state("state.db")); err != nil {
						t.Fatal(err)
					}
				})
				n.wantAdopted("a/f", service)
				n.wantAdopted("a/job", job)
				n.awaitEvents("StateLost", "Recovered")
				n.wantTicking("a/f")
				if kept, _ := filepath.Glob(n.state("state.db.damaged-*")); len(kept) != 1 || !strings.Contains(n.must("events"), kept[0]) {
					t.Errorf("put aside: %v", kept)
				}
			})
		})
	}
}

// While containerd is away nothing is started, as nobody knows what runs; all else
// goes on. What was launched meanwhile is what counts.
func TestDatabaseIsDeletedWhileContainerdIsAway(t *testing.T) {
	onEach(t, func(t *testing.T, n *node) {
		service, job := n.deployTicking()
		containerd := n.pidOf(t, "containerd --config")
		n.betweenAgents(func() {
			os.Remove(n.state("state.db"))
			syscall.Kill(containerd, syscall.SIGSTOP)
		})
		resume := func() { syscall.Kill(containerd, syscall.SIGCONT) }
		t.Cleanup(resume)
		n.must("events")
		for i := range 12 { // more than are kept
			if r := n.runWith(fmt.Sprint("later", i), "secret", "set", "s", "KEY=-"); r.code != 0 {
				t.Error(r.stderr)
			}
		}
		resume()
		n.wantAdopted("a/f", service)
		n.wantAdopted("a/job", job)
		if out := n.must("secret", "versions", "s"); strings.Contains(out, "\n2 ") {
			t.Errorf("nothing was pruned afterwards:\n%s", out)
		}
		n.wantUsable("a/f")
	})
}

// A start waits until the containers are known, and says so; it can be called off.
func TestStartWaitsForContainerd(t *testing.T) {
	onEach(t, func(t *testing.T, n *node) {
		dir := filepath.Join(n.dir, "second")
		t.Cleanup(func() { leaveNothing(n, dir) })
		socket := filepath.Join(dir, "containerd.sock") // not there yet
		second, kill := n.agentOn(dir, "state", socket)
		defer kill()
		second.deploy(`
app: a
defaults: {image: {ref: ` + image + `}, stop: {grace: 0s}, command: [sleep, '100000']}
functions: [{function: f}, {function: g}, {function: h}]
`)
		for _, id := range []string{"a/f", "a/g", "a/h"} {
			w := second.await(id, "waiting", func(w workload) bool { return strings.HasPrefix(w.Reason, "waiting for containerd: ") })
			if w.State != "creating" {
				t.Errorf("%s waits in state %s", id, w.State)
			}
		}
		second.must("stop", "a/g")
		second.must("rm", "a/h")
		if err := os.Symlink(filepath.Join(n.dir, "containerd.sock"), socket); err != nil {
			t.Fatal(err)
		}
		second.await("a/f", "running", inState("running"))
		if w := second.get("a/g"); w.State != "stopped" {
			t.Errorf("what was stopped is %s", w.State)
		}
		second.must("app", "rm", "-f", "a")
		second.eventually("its container to go", func() bool { return len(n.containers()) == 0 })
	})
}

// agentOn starts an agent of its own on a containerd, with directories of its own
// under dir, and returns the node as that agent's clients see it.
func (n *node) agentOn(dir, stateDir, containerd string) (second *node, kill func()) {
	n.t.Helper()
	second, end := n.endableAgentOn(dir, stateDir, containerd)
	return second, func() { _ = end(syscall.SIGKILL) }
}

// endableAgentOn does so for an agent that may be ended by any signal; end returns how it
// ended.
func (n *node) endableAgentOn(dir, stateDir, containerd string) (second *node, end func(syscall.Signal) error) {
	n.t.Helper()
	config := fmt.Sprintf(`
state_dir = %q
run_dir = %q
socket = %q
cgroup_parent = %q
[containerd]
address = %q
[metrics]
address = ""
[network]
default_mode = "none"
`, filepath.Join(dir, stateDir), filepath.Join(dir, "run"), filepath.Join(dir, "purser.sock"), "/purser-dev-"+filepath.Base(dir), containerd)
	cmd := exec.Command(n.purser(), "agent", "--config", file(n.t, "agent.toml", config))
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	if err := cmd.Start(); err != nil {
		n.t.Fatal(err)
	}
	ended := sync.OnceValue(cmd.Wait)
	end = func(sig syscall.Signal) error {
		_ = cmd.Process.Signal(sig)
		return ended()
	}
	n.t.Cleanup(func() { _ = end(syscall.SIGKILL) })
	second = &node{t: n.t, version: n.version, dir: dir, host: "unix://" + filepath.Join(dir, "purser.sock")}
	second.eventually("the second agent", func() bool { return second.serves() })
	return second, end
}

// leaveNothing ends what agents on dir have left for those after them.
func leaveNothing(n *node, dir string) {
	for _, pid := range rig.Processes(dir, "log-helper") {
		syscall.Kill(pid, syscall.SIGKILL)
	}
	n.eventuallyIs(func() bool { return len(rig.Processes(dir, "log-helper")) == 0 })
	for _, m := range rig.Mounts(dir) {
		syscall.Unmount(m, syscall.MNT_DETACH)
	}
}

// runForeign runs a container that is none of purser's in its namespace.
func (n *node) runForeign() (id string) {
	n.t.Helper()
	id = "foreign-" + filepath.Base(n.dir) // ctr's runtimes share a directory
	n.containerd("run", "-d", image, id, "sleep", "1000000")
	n.t.Cleanup(func() {
		n.containerd("tasks", "kill", "-s", "9", id)
		n.eventually("its end", func() bool { return strings.Contains(strings.Join(n.containerd("tasks", "list"), " "), "STOPPED") })
		n.containerd("tasks", "delete", id)
		n.containerd("containers", "delete", id)
	})
	return id
}

// Two nodes share a containerd and a namespace, with the same workloads, and the
// container of somebody else: none touches another's, whatever it has lost.
func TestTwoNodesOnOneContainerd(t *testing.T) {
	onEach(t, func(t *testing.T, n *node) {
		service, job := n.deployTicking()
		foreign := n.runForeign()
		dir := filepath.Join(n.dir, "second")
		t.Cleanup(func() { leaveNothing(n, dir) })
		socket := filepath.Join(n.dir, "containerd.sock")
		second, kill := n.agentOn(dir, "state", socket)
		second.runWith("one", "secret", "set", "s", "KEY=-")
		second.deploy(ticking, "--wait")
		theirs := second.get("a/f")
		kill()
		n.betweenAgents(func() { os.Remove(n.state("state.db")) })
		os.Remove(filepath.Join(dir, "state", "state.db"))
		n.wantAdopted("a/f", service)
		n.wantAdopted("a/job", job)
		if !alive(theirs.pid()) {
			t.Fatal("the first node has ended what the second one runs")
		}
		second, kill = n.agentOn(dir, "state", socket)
		second.wantAdopted("a/f", theirs)
		second.wantTicking("a/f")
		kill()

		// Under a wrong state directory it is another node, which has nothing.
		wrong, kill := n.agentOn(dir, "wrong", socket)
		wrong.must("run", "--image", image, "--", "true") // once the containers are known
		wrong.eventually("its own container to go", func() bool { return len(n.containers()) == 5 })
		if out := wrong.must("events"); strings.Contains(out, "Recovered") || strings.Contains(out, "Undone") || strings.Contains(out, "Unexplained") {
			t.Errorf("it takes others' for its own:\n%s", out)
		}
		if !alive(theirs.pid()) || !alive(service.pid()) {
			t.Error("it has ended what it does not know")
		}
		kill()

		second, kill = n.agentOn(dir, "state", socket)
		second.wantAdopted("a/f", theirs)
		second.wantTicking("a/f")
		second.wantUsable("a/f")
		second.must("app", "rm", "-f", "a")
		second.eventually("its containers to go", func() bool { return len(n.containers()) == 3 })
		kill()
		n.wantAdopted("a/f", service)
		n.wantTicking("a/f")
		if !slices.ContainsFunc(n.containers(), func(row string) bool { return strings.HasPrefix(row, foreign+" ") }) {
			t.Error("the container of somebody else is gone")
		}
	})
}

// Agents of one node would take each other's containers for their own.
func TestTwoAgentsOnOneRunDirectory(t *testing.T) {
	t.Parallel()
	n := emptyNode(t, rig.V24)
	config := fmt.Sprintf("state_dir = %q\nrun_dir = %q\nsocket = %q\n[containerd]\naddress = %q\n[metrics]\naddress = \"\"\n",
		filepath.Join(t.TempDir(), "state"), filepath.Join(n.dir, "run"), filepath.Join(n.dir, "other.sock"), filepath.Join(n.dir, "containerd.sock"))
	if text := n.refused("agent", "--config", file(t, "agent.toml", config)); !strings.Contains(text, "another agent runs on this run directory") {
		t.Errorf("a second agent on the run directory: %s", text)
	}
	n.must("node")
}
