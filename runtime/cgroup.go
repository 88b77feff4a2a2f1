package runtime

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/cgroups/v3"
	"golang.org/x/sys/unix"
)

// cgroupRoot is where cgroups are mounted.
const cgroupRoot = "/sys/fs/cgroup"

// cgroupsOf are the directories of a container's cgroup, one in each hierarchy that has
// it: none, as a rule, once the container's task has been deleted.
func (c Config) cgroupsOf(id string) []string {
	if cgroups.Mode() == cgroups.Unified {
		return existing(filepath.Join(cgroupRoot, c.CgroupParent, id))
	}
	// Version 1 has a hierarchy a directory, some of which are links to others.
	all, _ := filepath.Glob(filepath.Join(cgroupRoot, "*", c.CgroupParent, id))
	return existing(all...)
}

func existing(paths ...string) []string {
	var there []string
	for _, path := range paths {
		if exists(path) {
			there = append(there, path)
		}
	}
	return there
}

// clearCgroup ends what has outlived a container's task, whose shim has died and could
// not clean up, and removes its cgroup. What runs on would hold ports and volumes, and
// run beside its successor.
func (c Config) clearCgroup(id string) error {
	for deadline := time.Now().Add(endTime); ; {
		left := c.cgroupsOf(id)
		if len(left) == 0 {
			return nil
		}
		var failed []error
		for _, dir := range left {
			failed = append(failed, endCgroup(dir))
		}
		if err := errors.Join(failed...); err == nil || time.Now().After(deadline) {
			return err
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// endCgroup kills what is in a cgroup and in those under it, and removes them. It fails
// as long as a process that was killed has not ended.
func endCgroup(dir string) error {
	var dirs []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			dirs = append(dirs, path)
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, d := range dirs {
		pids, _ := os.ReadFile(filepath.Join(d, "cgroup.procs"))
		for pid := range strings.FieldsSeq(string(pids)) {
			if n, err := strconv.Atoi(pid); err == nil && n > 0 {
				_ = unix.Kill(n, unix.SIGKILL)
			}
		}
	}
	// Those within first.
	for i := len(dirs) - 1; i >= 0; i-- {
		if err := os.Remove(dirs[i]); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("removing cgroup %s: %w", dirs[i], err)
		}
	}
	return nil
}
