package rig

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// isolated is set where OwnNetwork has been.
const isolated = "PURSER_TEST_OWN_NETWORK"

// OwnNetwork moves this process, with all that it starts, to a network namespace of its
// own, so that tests make bridges, rules and settings of nobody else's. It is to be called
// at the beginning of TestMain, as the process executes itself anew; without root it does
// nothing.
func OwnNetwork() {
	if os.Geteuid() != 0 {
		return
	}
	if os.Getenv(isolated) == "" {
		must(moveToOwnNetwork())
	}
	must(Loopback())
}

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "moving to a network namespace of the test's own:", err)
		os.Exit(1)
	}
}

func moveToOwnNetwork() error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	// What a thread executes is in the thread's namespace.
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return err
	}
	return unix.Exec(self, os.Args, append(os.Environ(), isolated+"=1"))
}

// Loopback starts the loopback interface of this process's network namespace.
func Loopback() error {
	out, err := exec.Command("busybox", "ip", "link", "set", "lo", "up").CombinedOutput()
	if err != nil {
		return fmt.Errorf("starting the loopback interface: %w: %s", err, out)
	}
	return nil
}

// Plugins returns the directory of the CNI plugins, or ends the test here for want of them.
func Plugins(t testing.TB) string {
	t.Helper()
	for _, dir := range []string{"/usr/lib/cni", "/opt/cni/bin", "/usr/libexec/cni"} {
		if _, err := os.Stat(filepath.Join(dir, "host-local")); err == nil {
			return dir
		}
	}
	Lacking(t, "CNI plugins: apt-get install containernetworking-plugins")
	return ""
}
