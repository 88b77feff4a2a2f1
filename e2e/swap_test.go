package e2e

import (
	"crypto/rand"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/purserd/purser/e2e/rig"
)

// swapNode is a node on a device with swap space of its own, and in a cgroup from
// which memory can be reclaimed.
type swapNode struct {
	*diskNode
	cgroup string
}

// newSwapNode makes one. Only one test at a time may have one: it would get the
// other's memory in its swap space.
func newSwapNode(t *testing.T, launcher ...string) *swapNode {
	t.Helper()
	d := makeDisk(t, rig.V24)
	s := &swapNode{diskNode: d, cgroup: rig.MemoryCgroup(t, filepath.Dir(d.mount))}
	rig.Swap(t, filepath.Join(d.mount, "swap"), 128<<20)
	d.node.launcher = append([]string{"sh", "-c", `echo $$ > "$0/cgroup.procs" && exec "$@"`, s.cgroup}, launcher...)
	return s
}

// squeeze reclaims what can be of the node and of a workload's processes.
func (s *swapNode) squeeze(t *testing.T, processes ...int) {
	t.Helper()
	rig.Reclaim(t, s.cgroup)
	for _, pid := range processes {
		rig.Reclaim(t, rig.MemoryCgroupOf(t, pid))
	}
}

const sleeperWithSecret = `
app: a
functions:
  - {function: f, image: {ref: ` + image + `}, secrets: [{name: s}], command: [sh, -c, 'exec sleep 100000'], runtime: RUNTIME, stop: {grace: 0s}}
`

// While memory is reclaimed by force, the values of secrets are not written to the
// swap space: not from the agent, not from a container, and not from a runtime that
// makes no cgroups. Other memory of the same node is, and so are the values once
// what protects them is taken away.
func TestNoTraceInSwap(t *testing.T) {
	rig.Exclusive(t)
	s := newSwapNode(t)
	s.begin(t)
	secrets := []string{"canary-swap-" + rand.Text(), "canary-gone-" + rand.Text()}
	s.runWith(secrets[0], "secret", "set", "s", "KEY=-")
	pids := map[string]int{"the agent": s.pidOf(t, "purser agent")}
	for _, runtime := range []string{"runc", "crun", "runsc"} {
		id := "a-" + runtime
		s.deploy(strings.NewReplacer("RUNTIME", runtime, "app: a", "app: "+id).Replace(sleeperWithSecret), "--wait")
		pids[runtime] = s.get(id + "/f").pid()
		s.must("exec", id+"/f", "--", "sh", "-c", `test -n "$KEY"`)
	}
	for name, pid := range pids {
		s.squeeze(t, pid)
		if n := rig.Swapped(t, pid); n > 0 {
			t.Errorf("%d KiB of %s are in the swap space", n, name)
		}
	}
	if n := rig.Swapped(t, s.pidOf(t, "/containerd ")); n == 0 {
		t.Error("nothing of containerd is in the swap space: it has not been under pressure")
	}
	s.clean("under pressure", secrets...)

	s.runWith(secrets[1], "secret", "set", "s", "KEY=-")
	s.must("restart", "--secrets", "a-runc/f")
	w := s.await("a-runc/f", "on the new version", func(w workload) bool { return w.State == "running" && w.Pins[0].Version == 2 })
	s.clean("before the protection is gone", secrets...)
	swappiness := filepath.Join(rig.MemoryCgroupOf(t, w.pid()), "memory.swappiness")
	if err := os.WriteFile(swappiness, []byte("100"), 0); err != nil {
		t.Fatal(err)
	}
	// Of what was used lately the kernel takes nothing yet.
	if !s.eventuallyIs(func() bool {
		s.squeeze(t, w.pid())
		unix.Sync()
		return len(s.find(secrets[1])) > 0
	}) {
		t.Error("without protection the value of a container is not in the swap space: the test shows nothing")
	}
	s.clean("what is still protected", secrets[0])
}

// Where the agent's memory cannot be locked, it does not start; and what it would
// have written then is written, once it is told to start all the same.
func TestSwapOfTheAgent(t *testing.T) {
	rig.Exclusive(t)
	s := newSwapNode(t, "setpriv", "--bounding-set=-ipc_lock,-sys_resource")
	value := "canary-agent-" + rand.Text()
	if r := finish(t, s.devCommand()); r.code == 0 || !strings.Contains(r.stderr, "CAP_IPC_LOCK, switch swap off, or set allow_swap") {
		t.Errorf("status %d: %s", r.code, r.stderr)
	}
	s.config = "allow_swap = true\n"
	s.begin(t)
	s.runWith(value, "secret", "set", "s", "KEY=-")
	s.deploy(strings.ReplaceAll(sleeperWithSecret, "RUNTIME", "runc"), "--wait")
	if !s.eventuallyIs(func() bool {
		s.squeeze(t)
		unix.Sync()
		return rig.Swapped(t, s.pidOf(t, "purser agent")) > 0 && len(s.find(value)) > 0
	}) {
		t.Error("without protection the value is not in the swap space: the other test shows nothing")
	}
}
