package rig

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// prefix starts the names of all directories and cgroups that are made.
const prefix = "purser-test-"

// makeDir makes the daemon's directory, and holds a lock in it for as long as
// this process lives: what tells it from one left by a crash.
func (d *Daemon) makeDir() {
	d.t.Helper()
	dir, err := os.MkdirTemp("/tmp", fmt.Sprintf("%s%d-", prefix, os.Getpid()))
	if err != nil {
		d.t.Fatal(err)
	}
	d.Dir = dir
	d.Address = d.path("c.sock")
	d.CgroupParent = "/" + filepath.Base(dir)
	if d.lock, err = lock(dir); err != nil {
		d.t.Fatalf("locking %s: %v", dir, err)
	}
}

func lock(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// cleanup fails the test for what it left, and removes it.
func (d *Daemon) cleanup() {
	d.t.Helper()
	for _, leak := range d.awaitNoLeaks(5 * time.Second) {
		d.t.Errorf("the test left %s", leak)
	}
	d.Stop()
	if d.t.Failed() {
		if log, err := os.ReadFile(d.path("containerd.log")); err == nil {
			d.t.Logf("end of containerd's log:\n%s", log[max(0, len(log)-4000):])
		}
	}
	if err := wipe(d.Dir); err != nil {
		d.t.Errorf("cleaning up: %v", err)
	}
	d.lock.Close()
}

// AwaitEnd waits, for a few seconds at most, until no shim and no cgroup of a
// container is left. containerd itself cleans up after a shim that died, with the
// runtime's state, which has to be there until then.
func (d *Daemon) AwaitEnd() {
	await(5*time.Second, func() []string {
		return slices.DeleteFunc(d.leaks(), func(leak string) bool { return strings.HasPrefix(leak, "mount ") })
	})
}

// awaitNoLeaks gives shims the moment they take to exit.
func (d *Daemon) awaitNoLeaks(limit time.Duration) []string {
	return await(limit, d.leaks)
}

// await waits until nothing is left, and returns what is all the same.
func await(limit time.Duration, left func() []string) (leaks []string) {
	ComesTrue(limit, func() bool {
		leaks = left()
		return len(leaks) == 0
	})
	return leaks
}

// leaks are what containers leave when they are not removed properly.
func (d *Daemon) leaks() []string {
	var found []string
	for _, p := range shims(d.Dir) {
		found = append(found, fmt.Sprintf("shim %d (%s)", p.pid, p.cmdline))
	}
	for _, p := range helpers(d.Dir) {
		found = append(found, fmt.Sprintf("helper %d (%s)", p.pid, p.cmdline))
	}
	for _, m := range mounts(d.Dir) {
		found = append(found, "mount "+m)
	}
	for _, c := range d.Cgroups() {
		found = append(found, "cgroup "+c)
	}
	return found
}

// Cgroups are the directories of containers' cgroups, in every hierarchy.
func (d *Daemon) Cgroups() []string {
	var all []string
	for _, parent := range cgroups(filepath.Base(d.Dir)) {
		children, _ := os.ReadDir(parent)
		for _, child := range children {
			if child.IsDir() {
				all = append(all, filepath.Join(parent, child.Name()))
			}
		}
	}
	return all
}

var swept sync.Once

// sweepOnce sweeps when this process starts its first containerd.
func sweepOnce(t testing.TB) {
	t.Helper()
	swept.Do(func() { sweep(t) })
}

// sweep wipes what test binaries left that are not alive any more.
func sweep(t testing.TB) {
	t.Helper()
	dirs, _ := filepath.Glob("/tmp/" + prefix + "*")
	for _, dir := range dirs {
		if alive(dir) {
			continue
		}
		l, err := lock(dir)
		if err != nil {
			continue
		}
		t.Logf("cleaning up %s, which a crashed test left", dir)
		if err := wipe(dir); err != nil {
			t.Logf("cleaning up: %v", err)
		}
		l.Close()
	}
}

// alive reports whether the test binary that made dir, which has its process
// ID in its name, still runs. The lock alone would not do: it is taken a moment
// after the directory is made.
func alive(dir string) bool {
	var pid int
	if _, err := fmt.Sscanf(strings.TrimPrefix(filepath.Base(dir), prefix), "%d-", &pid); err != nil {
		return false
	}
	// A zombie, which nobody has waited for, has none.
	cmdline, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	return err == nil && len(cmdline) > 0
}

// wipe ends every process that belongs to dir, and removes its mounts, its
// cgroups and itself.
func wipe(dir string) error {
	endOwned(dir)
	if err := errors.Join(swapOff(dir), restorePattern(dir)); err != nil {
		return err
	}
	if err := unmake(dir); err != nil {
		return err
	}
	return os.RemoveAll(dir)
}

// endOwned ends every process that belongs to dir, and returns those that do not end.
func endOwned(dir string) []process {
	// Again and again: a shim that dies may let another process out.
	var left []process
	ComesTrue(20*time.Second, func() bool {
		left = owned(dir)
		for _, p := range left {
			_ = syscall.Kill(p.pid, syscall.SIGKILL)
		}
		return len(left) == 0
	})
	return left
}

// unmake removes the mounts and the cgroups of dir.
func unmake(dir string) error {
	all := mounts(dir)
	slices.Reverse(all) // the last mounted first
	for _, m := range all {
		if err := unix.Unmount(m, unix.MNT_DETACH); err != nil {
			return fmt.Errorf("unmounting %s: %w", m, err)
		}
	}
	for _, name := range cgroupNames(dir) {
		for _, c := range cgroups(name) {
			removeCgroup(c)
		}
	}
	return nil
}

type process struct {
	pid     int
	cmdline string
}

// owned are the processes that belong to dir: its containerd, agent and
// helpers, its shims, and what is in its cgroups.
func owned(dir string) []process {
	all := shims(dir)
	all = append(all, processes(func(p process) bool {
		return strings.Contains(p.cmdline, " --config "+dir+"/")
	})...)
	all = append(all, helpers(dir)...)
	for _, name := range cgroupNames(dir) {
		for _, c := range cgroups(name) {
			all = append(all, members(c)...)
		}
	}
	return all
}

// cgroupNames are the cgroups that a directory's containers are under: its
// name's, and that of the node in it.
func cgroupNames(dir string) []string {
	names := []string{filepath.Base(dir)}
	data, err := os.ReadFile(filepath.Join(dir, "agent.toml"))
	if m := cgroupParent.FindSubmatch(data); err == nil && m != nil {
		names = append(names, string(m[1]))
	}
	return names
}

var cgroupParent = regexp.MustCompile(`(?m)^cgroup_parent = ['"]/([^'"/]+)`)

// helpers are the processes that outlive an agent.
func helpers(dir string) []process {
	return processes(func(p process) bool {
		return strings.Contains(p.cmdline, " log-helper --dir "+dir+"/") || strings.Contains(p.cmdline, " port-forwarder --dir "+dir+"/")
	})
}

func shims(dir string) []process {
	return processes(func(p process) bool {
		return strings.Contains(p.cmdline, "containerd-shim") && strings.Contains(p.cmdline, "-address "+dir+"/")
	})
}

// processes returns those that the kernel shows now. Ones that end meanwhile,
// and zombies, are not among them.
func processes(match func(process) bool) []process {
	proc, err := os.Open("/proc")
	if err != nil {
		return nil
	}
	defer proc.Close()
	names, _ := proc.Readdirnames(-1)
	var all []process
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err != nil || pid == os.Getpid() {
			continue
		}
		data, err := os.ReadFile("/proc/" + name + "/cmdline")
		if err != nil || len(data) == 0 {
			continue
		}
		p := process{pid: pid, cmdline: strings.TrimSpace(strings.ReplaceAll(string(data), "\x00", " "))}
		if match(p) {
			all = append(all, p)
		}
	}
	return all
}

func mounts(dir string) []string {
	infos, err := mountinfo.GetMounts(mountinfo.PrefixFilter(dir))
	if err != nil {
		return nil
	}
	var all []string
	for _, m := range infos {
		all = append(all, m.Mountpoint)
	}
	return all
}

// cgroups are the directories of that name in every hierarchy.
func cgroups(name string) []string {
	all, _ := filepath.Glob("/sys/fs/cgroup/*/" + name)
	if unified := "/sys/fs/cgroup/" + name; isDir(unified) {
		all = append(all, unified)
	}
	return all
}

func isDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

// members are the processes in a cgroup and below it.
func members(dir string) []process {
	var all []process
	_ = filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.Name() != "cgroup.procs" {
			return nil
		}
		data, _ := os.ReadFile(path)
		for _, pid := range strings.Fields(string(data)) {
			var p process
			if _, err := fmt.Sscan(pid, &p.pid); err == nil && p.pid > 0 {
				all = append(all, p)
			}
		}
		return nil
	})
	return all
}

// removeCgroup removes a cgroup and those in it, which only an empty one allows.
func removeCgroup(dir string) {
	children, _ := os.ReadDir(dir)
	for _, c := range children {
		if c.IsDir() {
			removeCgroup(filepath.Join(dir, c.Name()))
		}
	}
	_ = os.Remove(dir)
}
