package runtime_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containerd/containerd/v2/core/snapshots"
	"golang.org/x/sys/unix"

	"github.com/purserd/purser/e2e/rig"
	"github.com/purserd/purser/runtime"
	"github.com/purserd/purser/runtime/private"
)

// records are a caller's of instances.
type records struct {
	mu  sync.Mutex
	all map[string]bool
}

func record(ids ...string) *records {
	r := &records{all: map[string]bool{}}
	for _, id := range ids {
		r.all[id] = true
	}
	return r
}

func (r *records) set(id string, known bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all[id] = known
}

func (r *records) known() runtime.Known {
	r.mu.Lock()
	defer r.mu.Unlock()
	return runtime.Known{Instances: maps.Clone(r.all), Logs: maps.Clone(r.all)}
}

// sweepAll sweeps until nothing is found, and returns what was. The first sweep must
// find nothing: it sees things for the first time.
func (n *node) sweepAll(s *runtime.Sweeper) []runtime.Leak {
	n.t.Helper()
	if first := n.sweep(s); len(first) != 0 {
		n.t.Fatalf("removed at first sight: %+v", first)
	}
	all := n.sweep(s)
	for more := n.sweep(s); len(more) > 0; more = n.sweep(s) {
		all = append(all, more...)
	}
	return all
}

func (n *node) sweep(s *runtime.Sweeper) []runtime.Leak {
	n.t.Helper()
	leaks, err := s.Sweep(n.t.Context())
	if err != nil {
		n.t.Fatal(err)
	}
	return leaks
}

func kinds(leaks []runtime.Leak) []string {
	var all []string
	for _, l := range leaks {
		all = append(all, l.Kind)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// plantSnapshot makes one as an agent of a node's name does.
func (n *node) plantSnapshot(key, node string, view bool) {
	n.t.Helper()
	ctx, release, err := n.client().WithLease(n.t.Context())
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() { _ = release(context.Background()) })
	sn := n.client().SnapshotService("overlayfs")
	labels := snapshots.WithLabels(map[string]string{"purser.node": node})
	make := sn.Prepare
	if view {
		make = sn.View
	}
	if _, err := make(ctx, key, "", labels); err != nil {
		n.t.Fatal(err)
	}
}

func (n *node) hasSnapshot(key string) bool {
	n.t.Helper()
	_, err := n.client().SnapshotService("overlayfs").Stat(n.t.Context(), key)
	return err == nil
}

// plantProcess leaves a process in a cgroup below the containers' parent.
func (n *node) plantProcess(name string) (cmd *exec.Cmd, dir string) {
	n.t.Helper()
	return rig.PlantProcess(n.t, filepath.Join(n.cfg.CgroupParent, name))
}

// end kills a process that was to live.
func end(t testing.TB, cmd *exec.Cmd, dir string) {
	t.Helper()
	if err := cmd.Process.Kill(); err != nil {
		t.Errorf("a process of somebody else's: %v", err)
	}
	_ = cmd.Wait()
	if !rig.ComesTrue(5*time.Second, func() bool { return os.Remove(dir) == nil }) {
		t.Errorf("%s cannot be removed", dir)
	}
}

// Each kind of leftover is found and removed, with what only looks like one left alone:
// what is of a container that somebody knows, of another node, or of nobody.
func TestSweepFindsWhatIsLeft(t *testing.T) { eachVersion(t, testSweepFindsWhatIsLeft) }

func testSweepFindsWhatIsLeft(t *testing.T, n *node) {
	n.start("known", spec("sleep", "1000"))
	n.start("stranger", spec("sleep", "1000"))
	n.plantLeft()
	left, dir := n.plantProcess("gone")
	spared := n.plantOthers()
	other, otherDir := n.plantProcess("others")
	defer end(t, other, otherDir)

	wantLeaksOfGone(t, n.sweepAll(n.Sweeper(record("known").known).Impatient()))
	if err := left.Wait(); err == nil || !strings.Contains(err.Error(), "killed") {
		t.Errorf("the process that was left: %v", err)
	}
	if _, err := os.Stat(dir); err == nil {
		t.Errorf("%s is still there", dir)
	}
	for _, key := range []string{"gone", "purser-look-1"} {
		if n.hasSnapshot(key) {
			t.Errorf("snapshot %s is still there", key)
		}
	}
	n.wantNoneNamed("gone", filepath.Join(n.states(), "others"))
	for _, path := range append(spared, n.runPath("instances", "known", "hosts"), n.runPath("instances", "stranger", "hosts")) {
		if _, err := os.Stat(path); err != nil {
			t.Errorf("what is not ours, or is known: %v", err)
		}
	}
	if !n.hasSnapshot("theirs") {
		t.Error("another node's snapshot is gone")
	}
	for _, id := range []string{"known", "stranger"} {
		n.wantState(id, runtime.StateRunning)
	}
	if err := n.client().SnapshotService("overlayfs").Remove(t.Context(), "theirs"); err != nil {
		t.Error(err)
	}
}

func (n *node) runPath(path ...string) string {
	return filepath.Join(append([]string{n.cfg.RunDir}, path...)...)
}

// states is where runc keeps its states, by namespace.
func (n *node) states() string { return n.runPath("private", "runtimes", "runc", "root") }

// plantLeft makes one of each kind of what is left, but for what runs.
func (n *node) plantLeft() {
	n.t.Helper()
	rig.Plant(n.t,
		n.runPath("instances", "gone", "stdout"), n.runPath("private", "files", "gone", "0", "KEY"), n.runPath("private", "holders", "gone"),
		filepath.Join(n.cfg.RootDir, "gone", "upper", "f"), filepath.Join(n.cfg.RootDir, "gone", "work", "f"),
		n.runPath("private", "logs", "instances", "gone", "spec.json"), filepath.Join(n.cfg.LogDir, "gone", "about.json"),
		filepath.Join(n.states(), n.cfg.Namespace, "gone", "state.json"), n.runPath("instances", "known", "exec-old", "stdout"),
		filepath.Join(n.cfg.RootDir, "trial-1", "upper", "f"),
	)
	about := filepath.Join(n.cfg.LogDir, "gone", "about.json")
	if err := os.WriteFile(about, []byte(`{"environment": "dev", "workload": "a/f"}`), 0o600); err != nil {
		n.t.Fatal(err)
	}
	mounted := n.runPath("image-1")
	if err := errors.Join(os.Mkdir(mounted, 0o700), unix.Mount("x", mounted, "tmpfs", 0, "size=64k")); err != nil {
		n.t.Fatal(err)
	}
	n.plantSnapshot("gone", n.cfg.Node, false)
	n.plantSnapshot("purser-look-1", n.cfg.Node, true)
}

// plantOthers makes what looks like something that was left, and returns the files.
func (n *node) plantOthers() []string {
	n.t.Helper()
	files := []string{
		n.runPath("own", "file"), filepath.Join(n.cfg.RootDir, "backup", "file"), filepath.Join(n.cfg.LogDir, "notes", "file"),
		filepath.Join(n.states(), "others", "gone", "state.json"),
	}
	rig.Plant(n.t, files...)
	n.plantSnapshot("theirs", "another", false)
	return files
}

// wantLeaksOfGone wants all that plantLeft makes, and a cgroup.
func wantLeaksOfGone(t *testing.T, leaks []runtime.Leak) {
	t.Helper()
	want := []string{
		runtime.LeakRuntimeState, runtime.LeakCgroup, runtime.LeakOutput, runtime.LeakFiles, runtime.LeakSecretFiles,
		runtime.LeakRootfs, runtime.LeakSnapshot, runtime.LeakLog, runtime.LeakExec, runtime.LeakView, runtime.LeakMount, runtime.LeakTrial,
	}
	if slices.Sort(want); !slices.Equal(kinds(leaks), want) {
		t.Errorf("got  %v\nwant %v", kinds(leaks), want)
	}
	for _, l := range leaks {
		if !l.Inherited || l.Instance != "" && l.Instance != "gone" {
			t.Errorf("%+v", l)
		}
		if l.Instance == "gone" && (l.About.Environment != "dev" || l.About.Workload != "a/f") {
			t.Errorf("%s of %+v", l.Kind, l.About)
		}
	}
}

// wantNoneNamed looks for files of a name in our directories, but for one.
func (n *node) wantNoneNamed(name, but string) {
	n.t.Helper()
	for _, root := range []string{n.cfg.RunDir, n.cfg.RootDir, n.cfg.LogDir} {
		_ = filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
			if err == nil && e.Name() == name && !strings.HasPrefix(path, but) {
				n.t.Errorf("%s is still there", path)
			}
			return nil
		})
	}
}

// What is there at first may have been left by an agent that was killed; what comes
// later may not. What is no container's is let alone for an hour.
func TestSweepTellsWhatIsInherited(t *testing.T) {
	n := newNodeOn(t, rig.Containerd(t, rig.V24), "")
	files := func(id string) string { return filepath.Join(n.cfg.RunDir, "instances", id, "stdout") }
	rig.Plant(t, files("before"), filepath.Join(n.cfg.RunDir, "trial-1", "f"))
	s := n.Sweeper(record().known).Impatient()
	s.Temporary(time.Hour)
	n.sweep(s)
	rig.Plant(t, files("after"))
	got := map[string]bool{}
	for range 3 {
		for _, l := range n.sweep(s) {
			got[l.Instance] = l.Inherited
		}
	}
	if want := map[string]bool{"before": true, "after": false}; !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// A task whose record somebody has removed is ended, with all that there is of it.
func TestSweepEndsUnrecordedTasks(t *testing.T) {
	eachVersion(t, func(t *testing.T, n *node) {
		n.start("unrecorded", spec("sleep", "1000"))
		if err := n.client().ContainerService().Delete(t.Context(), "unrecorded"); err != nil {
			t.Fatal(err)
		}
		leaks := n.sweepAll(n.Sweeper(record().known).Impatient())
		if got := kinds(leaks); !slices.Contains(got, runtime.LeakTask) {
			t.Errorf("removed %v", got)
		}
		n.wantNothing()
		n.awaitNoShim("unrecorded")
	})
}

// A shim that containerd has lost sight of goes, with its container's processes.
func TestSweepEndsLostShims(t *testing.T) {
	eachVersion(t, func(t *testing.T, n *node) {
		n.start("lost", spec("sleep", "1000"))
		n.loseShim("lost")
		if len(n.shimsOf("lost")) == 0 {
			t.Fatal("there is no shim to be found")
		}
		kept := n.sweepAll(n.Sweeper(record("lost").known).Impatient())
		if len(kept) != 0 || len(n.shimsOf("lost")) == 0 {
			t.Fatalf("of a container on record was removed: %+v", kept)
		}
		leaks := n.sweepAll(n.Sweeper(record().known).Impatient())
		for _, kind := range []string{runtime.LeakShim, runtime.LeakCgroup, runtime.LeakRuntimeState, runtime.LeakBundle, runtime.LeakRootfs} {
			if !slices.Contains(kinds(leaks), kind) {
				t.Errorf("no %s was found: %v", kind, kinds(leaks))
			}
		}
		n.wantNothing()
		n.awaitNoShim("lost")
	})
}

// With the other runtimes it is the same: of a sandbox, too, nothing is left.
func TestSweepEndsLostShimsOfOtherRuntimes(t *testing.T) {
	n := newNodeWith(t, rig.V24, "crun", "runsc")
	for name := range n.cfg.Runtimes {
		s := spec("sleep", "1000")
		s.Runtime = &name
		n.start(name, s)
		n.loseShim(name)
		if kept := n.sweepAll(n.Sweeper(record(name).known).Impatient()); len(kept) != 0 {
			t.Errorf("of a container on record was removed: %+v", kept)
		}
		leaks := n.sweepAll(n.Sweeper(record().known).Impatient())
		for _, kind := range []string{runtime.LeakShim, runtime.LeakRuntimeState, runtime.LeakBundle, runtime.LeakRootfs} {
			if !slices.Contains(kinds(leaks), kind) {
				t.Errorf("%s: no %s was found: %v", name, kind, kinds(leaks))
			}
		}
		n.awaitNoShim(name)
		n.wantNoneLeft(name)
	}
}

// wantNoneLeft looks for what OCI runtimes keep of a container.
func (n *node) wantNoneLeft(id string) {
	n.t.Helper()
	left, err := filepath.Glob(filepath.Join(n.cfg.RunDir, "private", "runtimes", "*", "root", n.cfg.Namespace, id+"*"))
	if err != nil || len(left) != 0 {
		n.t.Errorf("an OCI runtime keeps %v, %v", left, err)
	}
}

// loseShim has containerd start without seeing a container's shim, and forget its record.
func (n *node) loseShim(id string) {
	n.t.Helper()
	n.loseTask(id)
	if err := n.client().ContainerService().Delete(n.t.Context(), id); err != nil {
		n.t.Fatal(err)
	}
}

// loseTask has containerd start without seeing a container's shim.
func (n *node) loseTask(id string) {
	n.t.Helper()
	bundles := filepath.Join(n.daemon.Dir, "state", "io.containerd.runtime.v2.task", n.cfg.Namespace)
	n.daemon.Stop()
	if err := os.Rename(filepath.Join(bundles, id), filepath.Join(bundles, "."+id)); err != nil {
		n.t.Fatal(err)
	}
	n.daemon.Start()
	if err := os.Rename(filepath.Join(bundles, "."+id), filepath.Join(bundles, id)); err != nil {
		n.t.Fatal(err)
	}
}

// awaitNoShim gives a shim the moment that it takes to end.
// A container whose shim containerd has lost sight of is deleted with all that runs of it:
// its successor would run beside it otherwise.
func TestDeleteEndsWhatContainerdHasForgotten(t *testing.T) {
	eachVersion(t, func(t *testing.T, n *node) {
		n.start("forgotten", spec("sleep", "1000"))
		before, err := n.Inspect(t.Context(), "forgotten")
		if err != nil {
			t.Fatal(err)
		}
		n.loseTask("forgotten")
		if err := n.Delete(t.Context(), "forgotten"); err != nil {
			t.Fatal(err)
		}
		if err := unix.Kill(int(before.PID), 0); err == nil {
			t.Errorf("process %d runs on", before.PID)
		}
		n.wantNothing()
		n.awaitNoShim("forgotten")
	})
}

// A container of another containerd's that is named like one of ours is not touched when
// what is left of ours is looked for.
func TestDeleteLeavesAnotherContainerdAlone(t *testing.T) {
	ours, other := newNode(t, rig.V24), newNode(t, rig.V24)
	ours.start("twin", spec("sleep", "1000"))
	other.start("twin", spec("sleep", "1000"))
	before := other.wantState("twin", runtime.StateRunning)
	ours.loseTask("twin")
	if err := ours.Delete(t.Context(), "twin"); err != nil {
		t.Fatal(err)
	}
	ours.wantNothing()
	if after := other.wantState("twin", runtime.StateRunning); after.PID != before.PID {
		t.Errorf("it was %+v and is %+v", before, after)
	}
	if there := other.bundle("twin/config.json"); len(there) != 1 {
		t.Errorf("its bundle is %v", there)
	}
}

func (n *node) awaitNoShim(id string) {
	n.t.Helper()
	if !rig.ComesTrue(5*time.Second, func() bool { return len(n.shimsOf(id)) == 0 }) {
		n.t.Errorf("the shim of %s is still there", id)
	}
}

func (n *node) shimsOf(id string) []int {
	return rig.Processes(n.daemon.Dir, " -id "+id+" ")
}

// A container of another namespace is its shim's, whatever of ours is named like it.
func TestSweepLeavesTendedContainersAlone(t *testing.T) {
	n := newNode(t, rig.V24)
	other := &node{t: t, daemon: n.daemon, cfg: n.cfg}
	other.cfg.Namespace, other.cfg.Node = "others", "other"
	other.cfg.RunDir = filepath.Join(n.daemon.Dir, "run2")
	other.open()
	t.Cleanup(func() {
		other.Close()
		n.awaitNoShim("x")
		if err := private.Unmount(filepath.Join(other.cfg.RunDir, "private")); err != nil {
			t.Error(err)
		}
	})
	other.importTar(rig.Archive(t, rig.Busybox(t, rig.Image{})), runtime.ImportOptions{})
	// The writable layers' directory is the same for both.
	other.start("x", spec("sleep", "1000"))
	rig.Plant(t, filepath.Join(n.cfg.RunDir, "instances", "x", "stdout"))
	if leaks := n.sweepAll(n.Sweeper(record().known).Impatient()); len(leaks) != 0 {
		t.Errorf("removed %+v", leaks)
	}
	if f, err := other.Inspect(t.Context(), "x"); err != nil || f.State != runtime.StateRunning {
		t.Errorf("%+v, %v", f, err)
	}
}

// While containerd is away nobody can tell, so nothing is removed.
func TestSweepWithoutContainerd(t *testing.T) {
	n := newNodeOn(t, rig.Containerd(t, rig.V24), "")
	files := filepath.Join(n.cfg.RunDir, "instances", "gone", "stdout")
	rig.Plant(t, files)
	s := n.Sweeper(record().known).Impatient()
	n.sweep(s)
	n.daemon.Stop()
	for range 3 {
		if leaks, err := s.Sweep(t.Context()); !errors.Is(err, runtime.ErrUnavailable) || len(leaks) != 0 {
			t.Errorf("%+v, %v", leaks, err)
		}
	}
	if _, err := os.Stat(files); err != nil {
		t.Error(err)
	}
	n.daemon.Start()
	var leaks []runtime.Leak
	var err error
	rig.ComesTrue(10*time.Second, func() bool { // it connects again within a second
		leaks, err = s.Sweep(t.Context())
		return !errors.Is(err, runtime.ErrUnavailable)
	})
	if err != nil || len(leaks) != 1 {
		t.Errorf("removed %+v, %v", leaks, err)
	}
}

// A sweep that never stops hits no launch, at whatever moment of it, and finds nothing
// of what has been deleted, but for what takes a moment to go.
func TestSweepDuringLaunches(t *testing.T) {
	n := newNode(t, rig.V24)
	known := record()
	s := n.Sweeper(known.known).Impatient()
	lingering := []string{runtime.LeakShim, runtime.LeakBundle, runtime.LeakCgroup}
	done := make(chan struct{})
	var launches sync.WaitGroup
	for i := range 3 {
		launches.Go(func() {
			for j := range 5 {
				id := fmt.Sprintf("c%d-%d", i, j)
				known.set(id, true)
				err := n.Create(t.Context(), n.instance(id, spec("true")))
				if err == nil {
					_, err = n.Start(t.Context(), id)
				}
				if err == nil {
					_, err = n.Wait(t.Context(), id)
				}
				if err := errors.Join(err, n.Delete(t.Context(), id), n.Logs().Remove(id)); err != nil {
					t.Errorf("%s: %v", id, err)
				}
				known.set(id, false)
			}
		})
	}
	go func() {
		launches.Wait()
		close(done)
	}()
	for {
		for _, l := range n.sweep(s) {
			if !slices.Contains(lingering, l.Kind) {
				t.Errorf("removed %+v", l)
			}
		}
		select {
		case <-done:
			return
		default:
		}
	}
}
