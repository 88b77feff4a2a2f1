package rig

import (
	_ "embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/moby/sys/mountinfo"
)

//go:embed isolate.sh
var isolate []byte

// Isolation is where commands run that take the machine for their own, such as
// validation suites with cgroups of fixed names: each sees a cgroup of its own as
// the root of the hierarchies, an empty /run, and no process but those it starts,
// which end with it.
type Isolation struct {
	script string
	parent string // of the cgroups, relative to the hierarchies
	count  atomic.Int64
}

// Isolate prepares for commands to be isolated.
func Isolate(t testing.TB) *Isolation {
	t.Helper()
	dir := Dir(t)
	i := &Isolation{script: filepath.Join(dir, "isolate.sh"), parent: filepath.Base(dir)}
	if err := os.WriteFile(i.script, isolate, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := makeCgroup(i.parent); err != nil {
		t.Fatal(err)
	}
	return i
}

// Run runs a command, whose path is absolute, to the end of all that it started. How
// it ended is in its ProcessState; a process left in its cgroups is an error.
func (i *Isolation) Run(cmd *exec.Cmd) (err error) {
	name := filepath.Join(i.parent, fmt.Sprint(i.count.Add(1)))
	made, err := makeCgroup(name)
	defer func() { err = errors.Join(err, removeCgroups(made)) }()
	if err != nil {
		return err
	}
	cmd.Args = append([]string{"sh", i.script, name, cmd.Path}, cmd.Args[1:]...)
	cmd.Path = "/bin/sh"
	err = cmd.Run()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		return nil
	}
	return err
}

// makeCgroup makes a cgroup in each hierarchy, which processes may enter.
func makeCgroup(name string) (made []string, err error) {
	hierarchies, err := mountinfo.GetMounts(mountinfo.PrefixFilter("/sys/fs/cgroup"))
	if err != nil {
		return nil, fmt.Errorf("looking for the cgroup hierarchies: %w", err)
	}
	for _, h := range hierarchies {
		if !strings.HasPrefix(h.FSType, "cgroup") {
			continue
		}
		dir := filepath.Join(h.Mountpoint, name)
		if err := os.Mkdir(dir, 0o755); err != nil {
			return made, fmt.Errorf("making a cgroup: %w", err)
		}
		made = append(made, dir)
		if h.FSType == "cgroup" {
			err = inheritCPUs(dir)
		} else {
			err = inheritControllers(dir)
		}
		if err != nil {
			return made, fmt.Errorf("making cgroup %s: %w", dir, err)
		}
	}
	return made, nil
}

// inheritCPUs gives a cgroup of version 1 its parent's CPUs and memory nodes: it
// begins with none, and no process may enter it then.
func inheritCPUs(dir string) error {
	for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
		value, err := os.ReadFile(filepath.Join(filepath.Dir(dir), file))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, file), value, 0o644)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// inheritControllers lets a cgroup of version 2 have its parent's controllers.
func inheritControllers(dir string) error {
	value, err := os.ReadFile(filepath.Join(filepath.Dir(dir), "cgroup.controllers"))
	if err != nil || len(strings.Fields(string(value))) == 0 {
		return err
	}
	enable := "+" + strings.Join(strings.Fields(string(value)), " +")
	return os.WriteFile(filepath.Join(filepath.Dir(dir), "cgroup.subtree_control"), []byte(enable), 0o644)
}

// removeCgroups removes cgroups that nothing is in.
func removeCgroups(dirs []string) error {
	var err error
	for _, dir := range dirs {
		removeCgroup(dir)
		if isDir(dir) {
			err = errors.Join(err, fmt.Errorf("cgroup %s is left, with %v", dir, members(dir)))
		}
	}
	return err
}
