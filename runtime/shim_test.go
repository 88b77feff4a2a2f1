package runtime_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/errdefs"
	"golang.org/x/sync/errgroup"

	"github.com/purserd/purser/e2e/rig"
	"github.com/purserd/purser/runtime"
)

// combination is a containerd and an OCI runtime.
type combination struct {
	version rig.Version
	runtime string
}

var combinations = []combination{{rig.V16, "runc"}, {rig.V24, "runc"}, {rig.V24, "crun"}}

func (c combination) String() string { return string(c.version) + " " + c.runtime }

// node makes one whose containers share shims, or not.
func (c combination) node(t testing.TB, share bool) *node {
	t.Helper()
	n := newNode(t, c.version)
	n.Close()
	n.cfg.ShareShims = share
	if c.runtime != "runc" {
		n.cfg.Runtimes = map[string]runtime.RuntimeConfig{c.runtime: {Path: rig.Runtime(t, c.runtime)}}
	}
	n.open()
	return n
}

// eachSharing runs a test where the instances of an app share a shim, beside others.
func eachSharing(t *testing.T, test func(*testing.T, *node)) {
	t.Parallel()
	for _, c := range combinations {
		t.Run(c.String(), func(t *testing.T) { test(t, c.node(t, true)) })
	}
}

// shimOf is the parent of a container's first process.
func (n *node) shimOf(id string) int {
	n.t.Helper()
	return rig.Parent(n.t, int(n.wantState(id, runtime.StateRunning).PID))
}

// wantNoShim checks that neither shims nor what holds them is left.
func (n *node) wantNoShim() {
	n.t.Helper()
	n.wantNothing()
	c := n.client()
	ctx := namespaced(n)
	if all, err := c.Containers(ctx); err != nil || len(all) != 0 {
		n.t.Errorf("records left: %v, %v", all, err)
	}
	if all, err := c.SandboxStore().List(ctx); !errdefs.IsNotImplemented(err) && err != nil || len(all) != 0 {
		n.t.Errorf("sandboxes left: %v, %v", all, err)
	}
	// containerd cleans up after a shim when that has ended.
	if !rig.ComesTrue(10*time.Second, func() bool { return n.leftOfShims() == nil }) {
		n.t.Errorf("left of shims: %v", n.leftOfShims())
	}
}

// leftOfShims are processes and bundles.
func (n *node) leftOfShims() []string {
	n.t.Helper()
	left := n.bundle("*")
	for _, pid := range rig.Processes(n.daemon.Dir, "containerd-shim") {
		left = append(left, fmt.Sprintf("process %d", pid))
	}
	return left
}

// bundle is where containerd has a file of a container's bundle.
func (n *node) bundle(path string) []string {
	n.t.Helper()
	found, err := filepath.Glob(filepath.Join(n.daemon.Dir, "*", "io.containerd.runtime.v2.task", n.cfg.Namespace, path))
	if err != nil {
		n.t.Fatal(err)
	}
	return found
}

func TestSharedShim(t *testing.T) {
	eachSharing(t, func(t *testing.T, n *node) {
		sleeper := spec("sleep", "1000")
		n.start("a", sleeper)
		n.start("b", sleeper)
		other := spec("sleep", "1000")
		other.App = new("other")
		n.start("c", other)
		shim := n.shimOf("a")
		if shim != n.shimOf("b") || shim == n.shimOf("c") {
			t.Errorf("shims %d, %d and, of another app, %d", shim, n.shimOf("b"), n.shimOf("c"))
		}
		// Of one in a sandbox containerd notes that; no shim was started for it.
		if there := n.bundle("b/sandbox"); n.daemon.Version != rig.V16 && len(there) != 1 {
			t.Error("the container was not started in a sandbox")
		}
		if all, err := n.List(t.Context()); err != nil || len(all) != 3 {
			t.Errorf("of 3 containers, listed are %v, %v", all, err)
		}
		before := n.wantState("b", runtime.StateRunning)
		n.delete("a")
		if after := n.wantState("b", runtime.StateRunning); after.PID != before.PID || n.shimOf("b") != shim {
			t.Errorf("it was %+v and is %+v", before, after)
		}
		t.Run("another agent and containerd", func(t *testing.T) {
			n.Close()
			n.daemon.Stop()
			n.daemon.Start()
			n.open()
			if after := n.wantState("b", runtime.StateRunning); after.PID != before.PID {
				t.Errorf("it was %+v and is %+v", before, after)
			}
			n.start("d", sleeper)
			if n.shimOf("d") != shim {
				t.Error("the next agent starts another shim")
			}
			n.delete("d")
			if code, out, _ := n.run("e", spec("sh", "-c", "echo out; exit 5")); code != 5 || out != "out\n" {
				t.Errorf("status %d, output %q", code, out)
			}
			if removed := n.sweptShims(); removed != 0 {
				t.Errorf("of those in use, %d were removed", removed)
			}
		})
		n.delete("b")
		n.delete("c")
		n.wantNoShim()
	})
}

// The death of a shared shim is that of what it serves; nothing is left of it, and the
// next container has another.
func TestSharedShimDies(t *testing.T) {
	eachSharing(t, func(t *testing.T, n *node) {
		sleeper := spec("sleep", "1000")
		n.start("a", sleeper)
		n.start("b", sleeper)
		shim := n.shimOf("a")
		if err := syscall.Kill(shim, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		for _, id := range []string{"a", "b"} {
			// Of one that is waited for late an old kernel knows nothing.
			if exit, err := n.Wait(t.Context(), id); !errors.Is(err, runtime.ErrNotFound) {
				wantKilled(t, exit, err)
			}
		}
		n.start("c", sleeper) // while a and b have records still
		if n.shimOf("c") == shim {
			t.Error("it has the shim that is dead")
		}
		for _, id := range []string{"a", "b", "c"} {
			n.delete(id)
		}
		n.wantNoShim()
	})
}

func TestSharedShimsManyAtOnce(t *testing.T) {
	eachSharing(t, func(t *testing.T, n *node) {
		var g errgroup.Group
		for i := range 20 {
			in := n.instance(fmt.Sprintf("many%d", i), spec("sh", "-c", fmt.Sprintf("exit %d", i)))
			g.Go(func() error { return n.live(t.Context(), in, uint32(i)) })
		}
		if err := g.Wait(); err != nil {
			t.Error(err)
		}
		n.wantNoShim()
	})
}

// All containers of a shim can be stopped at the same time, as an agent does that ends.
func TestSharedShimStopsManyAtOnce(t *testing.T) {
	n := combination{rig.V24, "runc"}.node(t, true)
	var starts, ends errgroup.Group
	starts.SetLimit(8)
	var ids []string
	for i := range 60 {
		in := n.instance(fmt.Sprintf("many%d", i), spec("sleep", "1000"))
		ids = append(ids, in.ID)
		starts.Go(func() error {
			if err := n.Create(t.Context(), in); err != nil {
				return err
			}
			_, err := n.Start(t.Context(), in.ID)
			return err
		})
	}
	if err := starts.Wait(); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	for _, id := range ids {
		ends.Go(func() error {
			err := n.Kill(t.Context(), id, syscall.SIGKILL)
			if err == nil {
				_, err = n.Wait(t.Context(), id)
			}
			return errors.Join(err, n.Delete(t.Context(), id))
		})
	}
	if err := ends.Wait(); err != nil {
		t.Error(err)
	}
	// A shim that is asked all at once takes a second or more for each.
	if took := time.Since(began); took > 30*time.Second {
		t.Errorf("to stop %d took %v", len(ids), took)
	}
	n.wantNoShim()
}

// That a container was there is no reason to keep its shim once it is gone, whoever has
// removed it.
func TestSharedShimGoesWithItsLast(t *testing.T) {
	eachSharing(t, func(t *testing.T, n *node) {
		for _, id := range []string{"a", "b", "c"} {
			n.start(id, spec("sleep", "1000"))
		}
		n.delete("a") // which has all of them known
		n.forget("b")
		n.delete("c")
		// Of the others nothing is left in containerd.
		n.delete("b")
		n.wantNoShim()
	})
}

// A shim that a container is about to be made on does not go with the last one there is.
func TestSharedShimIsHeld(t *testing.T) {
	eachSharing(t, func(t *testing.T, n *node) {
		n.start("a", spec("sleep", "1000"))
		shim := n.shimOf("a")
		letGo, err := n.HoldShim(t.Context(), n.instance("b", spec("true")))
		if err != nil {
			t.Fatal(err)
		}
		n.delete("a")
		n.start("c", spec("sleep", "1000"))
		if n.shimOf("c") != shim {
			t.Error("the shim has gone")
		}
		n.delete("c")
		if removed := n.sweptShims(); removed != 0 {
			t.Errorf("of those about to be used, %d were removed", removed)
		}
		if err := letGo(); err != nil {
			t.Fatal(err)
		}
		n.wantNoShim()
	})
}

// Whatever moment a create is given up at, no shim stays without a container.
func TestSharedShimOfACancelledCreate(t *testing.T) {
	eachSharing(t, func(t *testing.T, n *node) {
		in := n.instance("c", spec("sleep", "1000"))
		for wait := time.Millisecond; wait < 200*time.Millisecond; wait = wait * 2 {
			ctx, cancel := context.WithTimeout(t.Context(), wait)
			err := n.Create(ctx, in)
			cancel()
			if err == nil {
				n.delete("c")
			} else if !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("after %v: %v", wait, err)
			}
			n.wantNoShim()
		}
	})
}

// An app's shim goes, too, when the only container could not be made, and when an agent
// left it before there was one.
func TestSharedShimWithoutContainer(t *testing.T) {
	eachSharing(t, func(t *testing.T, n *node) {
		var refused *runtime.StartError
		if err := n.Create(t.Context(), n.instance("x", spec("no-such-command"))); err == nil {
			n.delete("x")
		} else if !errors.As(err, &refused) {
			t.Error(err)
		}
		n.wantNoShim()
		n.start("a", spec("sleep", "1000"))
		n.forget("a")
		n.Close()
		n.open()
		if removed := n.sweptShims(); removed != 1 {
			t.Errorf("%d removed, want 1", removed)
		}
		n.delete("a")
		n.wantNoShim()
	})
}

// sweptShims sweeps, and returns how many shims were removed.
func (n *node) sweptShims() (count int) {
	n.t.Helper()
	for _, l := range n.sweepAll(n.Sweeper(record().known).Impatient()) {
		if l.Kind == runtime.LeakShim {
			count++
		}
	}
	return count
}

// forget removes a container from containerd, not by us.
func (n *node) forget(id string) {
	n.t.Helper()
	c := n.client()
	ctx := namespaced(n)
	container, err := c.LoadContainer(ctx, id)
	if err != nil {
		n.t.Fatal(err)
	}
	task, err := container.Task(ctx, nil)
	if err != nil {
		n.t.Fatal(err)
	}
	if _, err := task.Delete(ctx, client.WithProcessKill); err != nil {
		n.t.Fatal(err)
	}
	if err := container.Delete(ctx); err != nil {
		n.t.Fatal(err)
	}
}
