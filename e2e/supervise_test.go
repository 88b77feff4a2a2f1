package e2e

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	"github.com/purserd/purser/agent/state"
	"github.com/purserd/purser/e2e/rig"
	"github.com/purserd/purser/runtime"
)

func kill(t *testing.T, pid int) {
	t.Helper()
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
}

// Want of memory is told from other kills.
func TestWantOfMemory(t *testing.T) {
	onEach(t, func(t *testing.T, n *node) {
		n.deploy(`
app: a
defaults: {image: {ref: ` + image + `}, kind: job}
functions:
  - {function: hungry, command: [tail, /dev/zero], resources: {memory: 16Mi}}
  - {function: parent, command: [sh, -c, 'tail /dev/zero; exit 3'], resources: {memory: 16Mi}}
  - {function: killed, command: [sleep, "1000000"]}
`)
		if w := n.await("a/hungry", "killed", inState("failed")); w.LastExit.Code != 137 || w.LastExit.Cause != "oom_killed" || !strings.Contains(w.LastExit.Reason, "memory") {
			t.Errorf("of one that needed too much: %+v", w.LastExit)
		}
		if w := n.await("a/parent", "killed", inState("failed")); w.LastExit.Code != 3 || w.LastExit.Cause != "exited" || !strings.Contains(w.LastExit.Reason, "memory") {
			t.Errorf("of one whose child needed too much: %+v", w.LastExit)
		}
		kill(t, n.await("a/killed", "running", inState("running")).pid())
		if w := n.await("a/killed", "killed", inState("failed")); w.LastExit.Code != 137 || w.LastExit.Cause != "exited" {
			t.Errorf("of one that was killed: %+v", w.LastExit)
		}
		if events := n.must("events"); strings.Count(events, "OOMKilled") != 1 {
			t.Errorf("events:\n%s", events)
		}
		for function, want := range map[string]string{"hungry": "1", "parent": "1", "killed": "0"} {
			if got := n.metric(`purser_workload_oom_kills_total{app="a",environment="dev",function="` + function + `"}`); got != want {
				t.Errorf("processes of a/%s killed for want of memory by the metric: %s, want %s", function, got, want)
			}
		}
	})
}

// kernelTells says whether this kernel tells who holds a process how it ended.
func kernelTells(t *testing.T) bool {
	t.Helper()
	fd, err := unix.PidfdOpen(os.Getpid(), 0)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	err = unix.IoctlPidfdInfo(fd, &unix.PidfdInfo{Mask: unix.PIDFD_INFO_EXIT})
	return err == nil || errors.Is(err, unix.ESRCH) // as it has not ended
}

// A container whose shim dies is cleaned up, whatever of it runs on, and comes back.
func TestShimIsKilled(t *testing.T) {
	onEach(t, func(t *testing.T, n *node) {
		before := n.deploySleeper()
		kill(t, rig.Parent(t, before.pid()))
		after := n.await("a/f", "running anew", func(w workload) bool { return w.State == "running" && w.pid() != before.pid() })
		if s, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", before.pid())); err == nil && !strings.Contains(string(s), "State:\tZ") {
			t.Errorf("two of them run: %s", s)
		}
		if after.LastExit.Cause != "lost" || kernelTells(t) && after.LastExit.Code != 137 {
			t.Errorf("last exit %+v", after.LastExit)
		}
		if got := n.containers(); len(got) != 1 {
			t.Errorf("containers: %v", got)
		}
		if events := n.must("events"); !strings.Contains(events, "ContainerLost") {
			t.Errorf("events:\n%s", events)
		}
	})
}

// A shim that hangs keeps nothing from being stopped, and is ended.
func TestShimHangs(t *testing.T) {
	onEach(t, func(t *testing.T, n *node) {
		before := n.deploySleeper()
		shim := rig.Parent(t, before.pid())
		if err := syscall.Kill(shim, syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = syscall.Kill(shim, syscall.SIGCONT) })
		began := time.Now()
		n.must("stop", "a/f")
		w := n.await("a/f", "stopped", inState("stopped"))
		t.Logf("stopped after %v: %+v", time.Since(began), w.LastExit)
		if w.LastExit.Cause != "lost" || !strings.Contains(w.LastExit.Reason, "did not answer") || kernelTells(t) && w.LastExit.Code != 137 {
			t.Errorf("last exit %+v", w.LastExit)
		}
		n.awaitEvents("ShimHangs")
		n.eventually("the container and its shim to go", func() bool {
			return !alive(before.pid()) && !alive(shim) && len(n.containers()) == 0
		})
		n.must("start", "a/f")
		n.await("a/f", "running anew", func(w workload) bool { return w.State == "running" && w.pid() != before.pid() })
		if got := n.containers(); len(got) != 1 {
			t.Errorf("containers: %v", got)
		}
	})
}

// What ends while containerd is down has the exit status that it ended with, where
// containerd or the kernel has kept it.
func TestExitWhileContainerdIsDown(t *testing.T) {
	onEach(t, func(t *testing.T, n *node) {
		n.deploy(`
app: a
functions:
  - {function: f, kind: job, image: {ref: `+image+`}, command: [sh, -c, 'trap "exit 9" TERM; while :; do sleep 0.05; done']}
`, "--wait")
		pid := n.get("a/f").pid()
		containerd := n.pidOf(t, "containerd --config")
		// Stopped first, so that purser dev does not start another one meanwhile.
		if err := syscall.Kill(containerd, syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		if err := syscall.Kill(pid, syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		n.eventually("the container to end", func() bool { return !alive(pid) })
		kill(t, containerd)
		w := n.await("a/f", "failed", inState("failed"))
		if kernelTells(t) && w.LastExit.Code != 9 {
			t.Errorf("last exit %+v", w.LastExit)
		}
	})
}

// After a reboot nothing of before runs, and services come back on their pins.
func TestReboot(t *testing.T) {
	onEach(t, func(t *testing.T, n *node) {
		if r := n.runWith("one", "secret", "set", "s", "KEY=-"); r.code != 0 {
			t.Fatal(r.stderr)
		}
		n.deploy(`
app: a
defaults: {image: {ref: `+image+`}, command: [sh, -c, 'exec sleep 1000000'], secrets: [{name: s}]}
functions:
  - {function: never, restart: {policy: never}}
  - {function: stopped}
  - {function: job, kind: job}
  - {function: retried, kind: job, retries: 1}
`, "--wait")
		n.must("stop", "a/stopped")
		if r := n.runWith("two", "secret", "set", "s", "KEY=-"); r.code != 0 {
			t.Fatal(r.stderr)
		}
		n.reboot()
		w := n.await("a/never", "running", inState("running"))
		if w.Pins[0].Version != 1 || w.LastExit.Cause != "rebooted" {
			t.Errorf("it came back as %+v", w)
		}
		if w := n.await("a/job", "failed", inState("failed")); w.LastExit.Cause != "rebooted" {
			t.Errorf("the job is %+v", w)
		}
		n.await("a/retried", "running", inState("running"))
		if w := n.get("a/stopped"); w.State != "stopped" {
			t.Errorf("what was stopped is %+v", w)
		}
		n.eventually("the leftovers to go", func() bool { return len(n.containers()) == 2 })
	})
}

// reboot ends all of a node at once, and starts it as after a reboot: what lies in
// memory is gone, and the kernel has another boot ID than the records of instances.
func (n *node) reboot() {
	n.t.Helper()
	n.dev.Process.Kill()
	<-n.ended
	rig.PowerOff(n.t, n.dir, filepath.Join(n.dir, "run"), filepath.Join(n.dir, "containerd", "state"))
	n.forgetBoot()
	n.start()
}

// forgetBoot makes the records of all instances those of another boot. They are of this one.
func (n *node) forgetBoot() {
	n.t.Helper()
	db, err := state.Open(filepath.Join(n.dir, "state", "state.db"))
	if err != nil {
		n.t.Fatal(err)
	}
	defer db.Close()
	boot, err := runtime.Boot()
	if err != nil {
		n.t.Fatal(err)
	}
	all, err := db.Workloads()
	if err != nil {
		n.t.Fatal(err)
	}
	for _, w := range all {
		s := proto.CloneOf(w.GetStatus())
		for _, i := range s.GetInstances() {
			if i.GetBoot() != boot {
				n.t.Errorf("%s was started in boot %q by its record, and that is %s", w.GetId(), i.GetBoot(), boot)
			}
			i.Boot = "another"
		}
		if err := db.Update(func(tx *state.Tx) error { return tx.PutStatus(state.Key(w.GetEnvironment(), w.GetId()), s) }); err != nil {
			n.t.Fatal(err)
		}
	}
}
