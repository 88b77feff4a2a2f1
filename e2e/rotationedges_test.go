package e2e

import (
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/purserd/purser/e2e/rig"
)

// trying is a service that a rotation tries something with, and takes its time to.
func (n *node) trying(rotation string) (before workload) {
	n.t.Helper()
	n.must("secret", "set", "s", "KEY=good-one")
	n.deploy(functions("a", map[string]string{"f": rotation}), "--wait")
	before = n.await("a/f", "well", moved(1))
	n.must("secret", "set", "s", "KEY=slow-bad")
	n.await("a/f", "trying", func(w workload) bool { return w.Rotation.State == "rotating" && len(w.Instances) == 2 })
	return before
}

// A node that is stopped while something is tried comes back on what is known to be well.
func TestNodeIsStoppedInATrial(t *testing.T) {
	onOne(t, func(t *testing.T, n *node) {
		// It is tried once more as soon as the workload has been well for min_ready.
		n.trying("rotation: {min_ready: 5s, health_timeout: 1h}")
		n.stop()
		n.start()
		n.await("a/f", "back as it was", func(w workload) bool { return w.State == "ready" && w.Pins[0].Version == 1 && len(w.Instances) == 1 })
	})
}

// An app that is rolled back while it tries something goes back at once, and stays.
func TestAppRollbackInATrial(t *testing.T) {
	onOne(t, func(t *testing.T, n *node) {
		before := n.trying("rotation: {min_ready: 200ms, health_timeout: 1h}")
		n.must("app", "rollback", "a", "1")
		w := n.await("a/f", "as it was", func(w workload) bool {
			return w.State == "ready" && len(w.Instances) == 1 && w.Rotation.State == "held"
		})
		if !w.Instances[0].is(before.Instances[0]) || w.Pins[0].Version != 1 {
			t.Errorf("it is %+v, and was %+v", w, before)
		}
	})
}

// What serves may end while something is tried beside it: it is started again at once.
func TestWhatServesEndsInATrial(t *testing.T) {
	onOne(t, func(t *testing.T, n *node) {
		before := n.trying("rotation: {min_ready: 200ms, health_timeout: 1h}")
		if err := syscall.Kill(before.pid(), syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		n.await("a/f", "serving again", func(w workload) bool {
			return w.State == "ready" && w.Pins[0].Version == 1 && !w.Instances[0].is(before.Instances[0])
		})
	})
}

// A workload is not stopped for another instance whose image cannot be had.
func TestNoImageForTheNextInstance(t *testing.T) {
	onOne(t, func(t *testing.T, n *node) {
		n.must("secret", "set", "s", "KEY=good-one")
		n.deploy(functions("a", map[string]string{"f": "rotation: {strategy: restart, min_ready: 200ms}"}), "--wait")
		before := n.await("a/f", "well", moved(1))
		ctr := filepath.Join(filepath.Dir(rig.ContainerdPath(n.t, n.version)), "ctr")
		images := func(verb string, name ...string) {
			t.Helper()
			args := slices.Concat([]string{"--address", n.dir + "/containerd.sock", "--namespace", "purser", "images", verb}, name)
			if out, err := exec.Command(ctr, args...).CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
		}
		images("tag", image, "localhost/kept:1")
		images("rm", image)
		n.must("secret", "set", "s", "KEY=good-two")
		w := n.await("a/f", "put off", func(w workload) bool { return strings.Contains(w.Rotation.Reason, "is not on this node") })
		if !w.Instances[0].is(before.Instances[0]) {
			t.Errorf("it is %+v, and was %+v", w, before)
		}
		images("tag", "localhost/kept:1", image)
		n.await("a/f", "moved", moved(2))
	})
}

// Who asks for the latest gets it, and keeps what it had if that is bad.
func TestRestartOntoABadVersion(t *testing.T) {
	onOne(t, func(t *testing.T, n *node) {
		n.must("secret", "set", "s", "KEY=good-one")
		n.deploy(functions("a", map[string]string{"f": "rotation: {strategy: manual, min_ready: 200ms}"}), "--wait")
		n.await("a/f", "well", func(w workload) bool { return w.State == "ready" })
		before := n.get("a/f")
		n.must("secret", "set", "s", "KEY=bad")
		n.await("a/f", "stale", rotationOf("stale"))
		n.must("restart", "--secrets", "a/f")
		w := n.await("a/f", "back, and held", func(w workload) bool {
			return w.State == "ready" && w.Rotation.State == "held" && len(w.Instances) == 1
		})
		if !w.Instances[0].is(before.Instances[0]) || w.Pins[0].Version != 1 {
			t.Errorf("it is %+v, and was %+v", w, before)
		}
		if got := n.versionStates("s"); !slices.Equal(got, []string{"current", "pinned"}) {
			t.Errorf("what one has asked for is held against all: %v", got)
		}
		n.must("secret", "set", "s", "KEY=good-three")
		n.await("a/f", "stale", rotationOf("stale"))
		n.must("restart", "--secrets", "a/f")
		n.await("a/f", "moved", moved(3))
	})
}
