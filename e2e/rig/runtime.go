package rig

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// Runtime returns the path of an OCI runtime as it can be used on machines like
// those that the tests run on: a script that gives it what it needs there.
//
// crun 1.8 refuses a cgroup hierarchy that is version 1 with the unified one beside
// it, so that it is started where that is unmounted. runsc is given no network and
// no cgroups of its own.
func Runtime(t testing.TB, name string) string {
	t.Helper()
	var script string
	switch name {
	case "crun":
		script = `umount /sys/fs/cgroup/unified 2>/dev/null; exec "$0" "$@"`
		script = fmt.Sprintf("exec unshare --mount sh -c '%s' %s \"$@\"", script, need(t, "crun", "apt-get install crun"))
	case "runsc":
		runsc := need(t, filepath.Join(toolsDir(), "gvisor", "runsc"), "run `make test-tools`, or set PURSER_TEST_TOOLS to where it was put")
		script = fmt.Sprintf("exec %s --platform=systrap --network=none --ignore-cgroups \"$@\"", runsc)
	default:
		t.Fatalf("no runtime %s", name)
	}
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+script+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

// ValidationSuite returns the directory of the OCI's validation suite, from which
// its programs have to be run, and their names. They test the runtime that the
// variable RUNTIME names.
func ValidationSuite(t testing.TB) (dir string, programs []string) {
	t.Helper()
	dir = filepath.Join(toolsDir(), "runtime-tools-0ea5ed0382a2")
	need(t, filepath.Join(dir, "runtimetest"), "run `make test-tools`, or set PURSER_TEST_TOOLS to where it was put")
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if name := e.Name(); filepath.Ext(name) == "" && name != "runtimetest" {
			programs = append(programs, name)
		}
	}
	return dir, programs
}
