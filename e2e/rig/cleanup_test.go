package rig

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestSweep leaves what a crashed test leaves: a directory with a mount, a
// cgroup and a process in it, named for a process that is gone.
func TestSweep(t *testing.T) {
	Root(t)
	gone := exec.Command("true")
	if err := gone.Run(); err != nil {
		t.Fatal(err)
	}
	dir := fmt.Sprintf("/tmp/%s%d-crashed", prefix, gone.ProcessState.Pid())
	mounted := filepath.Join(dir, "state", "rootfs")
	if err := os.MkdirAll(mounted, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", mounted, "tmpfs", 0, "size=64k"); err != nil {
		t.Fatal(err)
	}
	left, _ := PlantProcess(t, filepath.Join(filepath.Base(dir), "container"))
	sweep(t)
	if err := left.Wait(); err == nil || !strings.Contains(err.Error(), "killed") {
		t.Errorf("its process: %v", err)
	}
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("its directory: %v", err)
	}
	if m := mounts(dir); len(m) != 0 {
		t.Errorf("its mounts: %v", m)
	}
	if c := cgroups(filepath.Base(dir)); len(c) != 0 {
		t.Errorf("its cgroups: %v", c)
	}
}

// TestLiveTestsAreLeftAlone sweeps while this process has a directory.
func TestLiveTestsAreLeftAlone(t *testing.T) {
	Root(t)
	d := &Daemon{t: t}
	d.makeDir()
	defer os.RemoveAll(d.Dir)
	defer d.lock.Close()
	sweep(t)
	if !isDir(d.Dir) {
		t.Error("a live test's directory was removed")
	}
}
