package runtime

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/containerd/cgroups/v3"

	"github.com/purserd/purser/e2e/rig"
)

// What is left in a container's cgroup, and in cgroups that it has made itself, ends
// with it; others' stay.
func TestClearCgroup(t *testing.T) {
	rig.Root(t)
	root := filepath.Join(cgroupRoot, "pids")
	if cgroups.Mode() == cgroups.Unified {
		root = cgroupRoot
	}
	c := Config{CgroupParent: "/purser-test-" + strconv.Itoa(os.Getpid())}
	parent := filepath.Join(root, c.CgroupParent)
	start := func(path string) *exec.Cmd {
		t.Helper()
		dir := filepath.Join(parent, path)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command("sleep", "1000")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
		if err := os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte(strconv.Itoa(cmd.Process.Pid)), 0); err != nil {
			t.Fatal(err)
		}
		return cmd
	}
	t.Cleanup(func() { _ = endCgroup(parent) })
	gone := []*exec.Cmd{start("one"), start("one/of/its/own")}
	stays := start("other")
	ended := make(chan error, len(gone))
	for _, cmd := range gone {
		go func() { ended <- cmd.Wait() }()
	}
	if err := c.clearCgroup("one"); err != nil {
		t.Fatal(err)
	}
	for range gone {
		if err := <-ended; err == nil || err.Error() != "signal: killed" {
			t.Errorf("it ended with %v", err)
		}
	}
	if exists(filepath.Join(parent, "one")) {
		t.Error("the cgroup is still there")
	}
	if !inCgroupOf("other", uint32(stays.Process.Pid)) {
		t.Error("another container was not left alone")
	}
	if err := c.clearCgroup("one"); err != nil {
		t.Errorf("again: %v", err)
	}
}
