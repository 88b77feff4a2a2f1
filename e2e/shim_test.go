package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/purserd/purser/e2e/rig"
)

// onEachSharing runs a test on nodes where the instances of an app share a shim.
func onEachSharing(t *testing.T, test func(t *testing.T, n *node)) {
	t.Helper()
	for _, on := range []struct {
		version rig.Version
		runtime string
	}{{rig.V16, "runc"}, {rig.V24, "runc"}, {rig.V24, "crun"}} {
		t.Run("containerd "+string(on.version)+" "+on.runtime, func(t *testing.T) {
			t.Parallel()
			n := &node{t: t, version: on.version, dir: rig.Dir(t),
				config: "default_runtime = \"" + on.runtime + "\"\n[containerd]\nshim_sharing = \"app\"\n"}
			if on.runtime != "runc" {
				n.env = append(os.Environ(), "PATH="+filepath.Dir(rig.Runtime(t, on.runtime))+":"+os.Getenv("PATH"))
			}
			n.start()
			t.Cleanup(n.cleanup)
			n.must("image", "import", boxImage(t))
			test(t, n)
		})
	}
}

// sleepers is an app of functions that sleep, and are there again at once.
func sleepers(app string, functions ...string) string {
	file := "app: " + app + "\nfunctions:\n"
	for _, f := range functions {
		file += fmt.Sprintf("  - {function: %s, image: {ref: %s}, command: [sh, -c, 'echo %s; exec sleep 100000'], stop: {grace: 0s}, restart: {backoff_min: 100ms}}\n", f, image, f)
	}
	return file
}

// shim is the process ID of a workload's shim.
func (n *node) shim(id string) int {
	n.t.Helper()
	return rig.Parent(n.t, n.get(id).pid())
}

// wantShims waits until so many shims are there, with what holds them, and so many
// containers beside.
func (n *node) wantShims(want, containers int) {
	n.t.Helper()
	var held []string
	if !n.eventuallyIs(func() bool {
		held = n.containers()
		sandboxes := want
		if n.version != rig.V16 { // which has none
			sandboxes = len(n.containerd("sandboxes", "list"))
		}
		shims := rig.Processes(n.dir, "containerd-shim-runc-v2 -namespace")
		return len(shims) == want && sandboxes == want && len(held) == want+containers
	}) {
		n.t.Fatalf("waited for %d shims and %d containers; there are the containers %q", want, containers, held)
	}
}

// The instances of an app share a shim, with which all can be done that is done with
// one of its own; it goes with the last of them.
func TestShimOfAnApp(t *testing.T) {
	t.Parallel()
	onEachSharing(t, func(t *testing.T, n *node) {
		n.deploy(sleepers("a", "f", "g"), "--wait")
		n.deploy(sleepers("b", "h"), "--wait")
		shim, before := n.shim("a/f"), n.get("a/g")
		if shim != n.shim("a/g") || shim == n.shim("b/h") {
			t.Errorf("shims %d, %d and, of another app, %d", shim, n.shim("a/g"), n.shim("b/h"))
		}
		same := func(after string) {
			t.Helper()
			if w := n.get("a/g"); w.pid() != before.pid() || w.State != "running" || n.shim("a/g") != shim {
				t.Fatalf("after %s it is %+v, and was %+v", after, w, before)
			}
			if out := n.must("exec", "a/g", "--", "echo", "here"); out != "here\n" {
				t.Errorf("after %s, exec gives %q", after, out)
			}
		}
		same("its launch")
		n.eventually("output", func() bool { return n.must("logs", "a/f") == "f\n" })
		n.must("restart", "a/f")
		n.await("a/f", "running anew", inState("running"))
		if n.shim("a/f") != shim {
			t.Error("a restarted instance has another shim")
		}
		n.must("rm", "--force", "a/f")
		same("the removal of the other instance")
		n.killAgent()
		same("the death of the agent")
		n.deploy(sleepers("a", "f", "g"), "--wait")
		if n.shim("a/f") != shim {
			t.Error("the next agent starts another shim")
		}
		containerd := n.pidOf(t, "containerd --config")
		syscall.Kill(containerd, syscall.SIGKILL)
		n.eventually("a new containerd", func() bool {
			return !alive(containerd) && strings.Contains(n.must("node", "-o", "json"), `"connected": true`)
		})
		same("the death of containerd")
		n.must("restart", "a/f")
		n.await("a/f", "running anew", inState("running"))
		if n.shim("a/f") != shim {
			t.Error("with the next containerd there is another shim")
		}
		n.wantShims(2, 3)
		n.must("app", "stop", "a")
		n.wantShims(1, 1)
		n.must("rm", "--force", "b/h")
		n.wantShims(0, 0)
	})
}

// A shared shim that dies takes its instances with it. They are restarted, on one that
// they share again, and nothing is left of the first.
func TestShimOfAnAppDies(t *testing.T) {
	t.Parallel()
	onEachSharing(t, func(t *testing.T, n *node) {
		n.deploy(sleepers("a", "f", "g"), "--wait")
		n.deploy(sleepers("b", "h"), "--wait")
		shim, other := n.shim("a/f"), n.get("b/h")
		pids := map[string]int{"a/f": n.get("a/f").pid(), "a/g": n.get("a/g").pid()}
		if err := syscall.Kill(shim, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		for id, pid := range pids {
			w := n.await(id, "running again", func(w workload) bool { return w.State == "running" && w.pid() != pid })
			if w.Restarts != 1 {
				t.Errorf("%s was restarted %d times", id, w.Restarts)
			}
			n.eventually(fmt.Sprintf("the end of process %d", pid), func() bool { return !alive(pid) })
		}
		if n.shim("a/f") == shim || n.shim("a/f") != n.shim("a/g") {
			t.Errorf("after shim %d there are %d and %d", shim, n.shim("a/f"), n.shim("a/g"))
		}
		if w := n.get("b/h"); w.pid() != other.pid() {
			t.Errorf("the other app was %+v and is %+v", other, w)
		}
		n.wantShims(2, 3)
		n.must("app", "stop", "a")
		n.must("rm", "--force", "b/h")
		n.wantShims(0, 0)
	})
}
