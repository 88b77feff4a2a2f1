package rig

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// Root ends the test here when it does not run as root: skipped, or failed
// under CI=true.
func Root(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		Lacking(t, "root: run it with sudo")
	}
}

// Lacking ends the test here for want of something: skipped, or failed under CI=true.
func Lacking(t testing.TB, what string, args ...any) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf("this test needs "+what+" (CI=true promises it)", args...)
	}
	t.Skipf("SKIPPED: this test needs "+what, args...)
}

// Program returns the path of a program, or ends the test here for want of it; hint says
// how to get it.
func Program(t testing.TB, name, hint string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		Lacking(t, "%s, which is not installed: %s", name, hint)
	}
	return path
}

// need returns the path of a program, or fails the test saying where it comes from.
func need(t testing.TB, program, hint string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	if err != nil {
		t.Fatalf("%s is missing: %s", program, hint)
	}
	return path
}

// toolsDir is where `make test-tools` puts what Debian does not have.
func toolsDir() string {
	if dir := os.Getenv("PURSER_TEST_TOOLS"); dir != "" {
		return dir
	}
	return "/opt/purser-test"
}

// binDir returns the directory of a containerd's executables.
func binDir(t testing.TB, v Version) string {
	t.Helper()
	if v == V16 {
		return filepath.Dir(need(t, "/usr/bin/containerd", "apt-get install containerd runc"))
	}
	dir := filepath.Join(toolsDir(), "containerd-2.4.2", "bin")
	for _, program := range []string{"containerd", "containerd-shim-runc-v2"} {
		need(t, filepath.Join(dir, program), "run `make test-tools`, or set PURSER_TEST_TOOLS to where it was put")
	}
	return dir
}
