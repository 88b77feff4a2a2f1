package rig

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// Plant makes files that look as if somebody had left them, with the directories that
// they are in.
func Plant(t testing.TB, paths ...string) {
	t.Helper()
	for _, path := range paths {
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte("{}"), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
}

// PlantProcess starts a process that nobody ends, in a cgroup, and returns that one's
// directory.
func PlantProcess(t testing.TB, cgroup string) (cmd *exec.Cmd, dir string) {
	t.Helper()
	hierarchy := "/sys/fs/cgroup/pids"
	if !isDir(hierarchy) {
		hierarchy = "/sys/fs/cgroup"
	}
	dir = filepath.Join(hierarchy, cgroup)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd = exec.Command("sleep", "1000")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	if err := os.WriteFile(filepath.Join(dir, "cgroup.procs"), fmt.Append(nil, cmd.Process.Pid), 0); err != nil {
		t.Fatal(err)
	}
	return cmd, dir
}
