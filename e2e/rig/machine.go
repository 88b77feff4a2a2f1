package rig

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// Exclusive waits until no other test changes what the whole machine has only once,
// as its swap space, and keeps others waiting until the test has ended.
func Exclusive(t testing.TB) {
	t.Helper()
	f, err := os.Open(toolsDir())
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		t.Fatalf("waiting for other tests: %v", err)
	}
	t.Cleanup(func() { f.Close() })
}

// Swap makes a new file swap space, before all other, until the test ends.
func Swap(t testing.TB, path string, size int) {
	t.Helper()
	for _, command := range [][]string{
		{"dd", "if=/dev/zero", "of=" + path, "bs=1M", "count=" + strconv.Itoa(size>>20), "status=none"},
		{"chmod", "600", path},
		{"mkswap", path},
		{"swapon", "--priority", "32767", path},
	} {
		if out, err := exec.Command(command[0], command[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("making swap space: %v: %v: %s", command, err, out)
		}
	}
	t.Cleanup(func() {
		if err := swapOff(filepath.Dir(path)); err != nil {
			t.Error(err)
		}
	})
}

// swapOff ends the use of all swap files below a directory.
func swapOff(dir string) error {
	table, err := os.ReadFile("/proc/swaps")
	if err != nil {
		return fmt.Errorf("reading what is swap space: %w", err)
	}
	var errs []error
	for line := range strings.Lines(string(table)) {
		if path, _, _ := strings.Cut(line, " "); strings.HasPrefix(path, dir+"/") {
			if out, err := exec.Command("swapoff", path).CombinedOutput(); err != nil {
				errs = append(errs, fmt.Errorf("ending the use of swap space: %w: %s", err, out))
			}
		}
	}
	return errors.Join(errs...)
}

// SmallDisk mounts a file system of a size, such as 64k, which goes with the test.
func SmallDisk(t testing.TB, size string) string {
	t.Helper()
	Root(t)
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size="+size); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Errorf("unmounting %s: %v", dir, err)
		}
	})
	return dir
}

// MemoryCgroup makes a cgroup of the memory controller and returns its directory.
// It goes with dir, a directory that Dir has made.
func MemoryCgroup(t testing.TB, dir string) string {
	t.Helper()
	path := filepath.Join("/sys/fs/cgroup/memory", filepath.Base(dir))
	if err := os.MkdirAll(path, 0o755); err != nil {
		t.Fatalf("making a cgroup of version 1: %v", err)
	}
	return path
}

// MemoryCgroupOf returns the directory of a process's memory cgroup.
func MemoryCgroupOf(t testing.TB, pid int) string {
	t.Helper()
	table, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(table)) {
		if _, path, ok := strings.Cut(strings.TrimSpace(line), ":memory:"); ok {
			return filepath.Join("/sys/fs/cgroup/memory", path)
		}
	}
	t.Fatalf("process %d is in no memory cgroup: %s", pid, table)
	return ""
}

// Reclaim has the kernel take from a cgroup, and those in it, what memory it can:
// the file reclaims once by its definition (cgroup-v1/memory.rst, "5.1 force_empty").
func Reclaim(t testing.TB, cgroup string) {
	t.Helper()
	for range 3 {
		// It is an error when something could not be reclaimed.
		if err := os.WriteFile(filepath.Join(cgroup, "memory.force_empty"), []byte("0"), 0); errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
	}
}

// Swapped returns how much of a process is in swap space, in KiB.
func Swapped(t testing.TB, pid int) int {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range bytes.Lines(status) {
		var n int
		if _, err := fmt.Sscanf(string(line), "VmSwap: %d kB", &n); err == nil {
			return n
		}
	}
	t.Fatalf("no VmSwap in %s", status)
	return 0
}

// corePattern says what becomes of a process's core; see core(5).
const corePattern = "/proc/sys/kernel/core_pattern"

// savedPattern is a file beside a handler, with the pattern that was before it.
const savedPattern = "core_pattern.before"

// CoreHandler has the cores of the whole machine, with the environments of the
// processes that they are of, written below a directory that Dir has made, until the
// test ends. Where that cannot be set the test ends here.
func CoreHandler(t testing.TB, dir string) {
	t.Helper()
	before, err := os.ReadFile(corePattern)
	if err != nil {
		t.Fatal(err)
	}
	handler := filepath.Join(dir, "core-handler")
	script := fmt.Sprintf("#!/bin/sh\ncat /proc/$1/environ > %s/environ-$1\nhead -c 64M > %s/core-$1\n", dir, dir)
	if err := errors.Join(os.WriteFile(handler, []byte(script), 0o755), os.WriteFile(filepath.Join(dir, savedPattern), before, 0o600)); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(corePattern, []byte("|"+handler+" %P"), 0); err != nil {
		Lacking(t, "the right to say what becomes of cores (/proc/sys/kernel/core_pattern): %v", err)
	}
	t.Cleanup(func() {
		if err := restorePattern(dir); err != nil {
			t.Error(err)
		}
	})
}

// restorePattern undoes CoreHandler.
func restorePattern(dir string) error {
	now, err := os.ReadFile(corePattern)
	if err != nil || !strings.HasPrefix(string(now), "|"+dir+"/") {
		return err
	}
	before, err := os.ReadFile(filepath.Join(dir, savedPattern))
	if err != nil {
		return fmt.Errorf("restoring the core pattern: %w", err)
	}
	if err := os.WriteFile(corePattern, before, 0); err != nil {
		return fmt.Errorf("restoring the core pattern: %w", err)
	}
	return nil
}
