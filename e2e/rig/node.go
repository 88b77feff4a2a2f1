package rig

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// Dir makes a directory for a node that a test starts by itself, with a path
// short enough for sockets. What is left of the node when the test ends is
// ended and removed.
func Dir(t testing.TB) string {
	t.Helper()
	Root(t)
	sweepOnce(t)
	dir, err := os.MkdirTemp("/tmp", fmt.Sprintf("%s%d-", prefix, os.Getpid()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := wipe(dir); err != nil {
			t.Errorf("cleaning up: %v", err)
		}
	})
	return dir
}

// ContainerdPath is the path of a containerd of that version.
func ContainerdPath(t testing.TB, v Version) string {
	t.Helper()
	return filepath.Join(binDir(t, v), "containerd")
}

// Leaks are the processes, mounts and cgroups that a node which was stopped
// has left. Shims get a moment to exit.
func Leaks(dir string) []string {
	return await(5*time.Second, func() []string { return leaksOf(dir) })
}

func leaksOf(dir string) []string {
	var found []string
	for _, p := range owned(dir) {
		found = append(found, fmt.Sprintf("process %d (%s)", p.pid, p.cmdline))
	}
	for _, m := range mounts(dir) {
		found = append(found, "mount "+m)
	}
	for _, name := range cgroupNames(dir) {
		for _, c := range cgroups(name) {
			found = append(found, "cgroup "+c)
		}
	}
	return found
}

// Mounts are the mount points in a directory, in order.
func Mounts(dir string) []string {
	all := mounts(dir)
	slices.Sort(all)
	return all
}

// Processes are those of a node whose command line holds one of words.
func Processes(dir string, words ...string) []int {
	var found []int
	for _, p := range processes(func(p process) bool { return strings.Contains(p.cmdline, dir+"/") }) {
		if slices.ContainsFunc(words, func(w string) bool { return strings.Contains(p.cmdline, w) }) {
			found = append(found, p.pid)
		}
	}
	return found
}

// Parent is the parent of a process: the shim of a container's first one.
func Parent(t testing.TB, pid int) int {
	t.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	// After the name, which may contain anything.
	var state string
	var parent int
	rest := string(stat)[strings.LastIndex(string(stat), ")")+1:]
	if _, err := fmt.Sscan(rest, &state, &parent); err != nil || parent < 2 {
		t.Fatalf("the parent of process %d: %d, %v", pid, parent, err)
	}
	return parent
}

// WrittenBy are the regular files that processes of a node have open for writing,
// those in containers left out.
func WrittenBy(dir string) []string {
	var found []string
	ours, _ := os.Readlink("/proc/self/ns/mnt")
	for _, p := range append(processes(func(p process) bool { return strings.Contains(p.cmdline, dir+"/") }), owned(filepath.Join(dir, "n"))...) {
		// Paths mean something else in another mount namespace.
		if theirs, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/mnt", p.pid)); err != nil || theirs != ours {
			continue
		}
		fds, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", p.pid))
		for _, fd := range fds {
			// Where it leads names the file as the process sees it.
			info, err := os.Lstat(fd)
			if err != nil || info.Mode().Perm()&0o200 == 0 {
				continue
			}
			if path, err := os.Readlink(fd); err == nil && strings.HasPrefix(path, "/") && !strings.HasPrefix(path, "/memfd:") {
				found = append(found, path)
			}
		}
	}
	return found
}

// GRPCurl makes grpcurl, of the version that .ci/tools pins, and returns its path.
func GRPCurl(t testing.TB) string {
	t.Helper()
	path, err := exec.Command("go", "tool", "-C", "..", "-modfile=.ci/tools/go.mod", "-n", "grpcurl").Output()
	if err != nil {
		t.Fatalf("making grpcurl: %v", err)
	}
	return strings.TrimSpace(string(path))
}

// PowerOff ends at once all that runs of a node, and empties what is in memory and
// what a system clears when it boots: given directories, and cgroups. Who starts
// processes of it anew has to be ended before.
func PowerOff(t testing.TB, dir string, cleared ...string) {
	t.Helper()
	if left := endOwned(dir); len(left) > 0 {
		t.Fatalf("processes do not end: %v", left)
	}
	if err := unmake(dir); err != nil {
		t.Fatal(err)
	}
	for _, path := range cleared {
		if err := os.RemoveAll(path); err != nil {
			t.Fatal(err)
		}
	}
}
