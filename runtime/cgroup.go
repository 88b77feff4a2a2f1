package runtime

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/containerd/cgroups/v3"
)

// A container's cgroup has its ID for a name, under [Config.CgroupParent].

// cgroupRoot is where the hierarchy of version 2 is mounted, and below it those of
// version 1.
const cgroupRoot = "/sys/fs/cgroup"

// cgroup is that of a container, in every hierarchy.
type cgroup struct {
	path string // in the hierarchies
	dirs []string
}

// containerCgroups are those under our parent, by ID. Others may have theirs there.
func (c Config) containerCgroups() map[string]cgroup {
	all := map[string]cgroup{}
	for _, root := range []string{cgroupRoot, filepath.Join(cgroupRoot, "*")} {
		dirs, _ := filepath.Glob(filepath.Join(root, c.CgroupParent, "*"))
		for _, dir := range dirs {
			if info, err := os.Lstat(dir); err != nil || !info.IsDir() {
				continue
			}
			id := filepath.Base(dir)
			all[id] = cgroup{filepath.Join(c.CgroupParent, id), append(all[id].dirs, dir)}
		}
	}
	return all
}

// members are the processes in the cgroup and below it.
func (c cgroup) members() []int {
	var all []int
	for _, dir := range c.dirs {
		_ = filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
			if err != nil || e.Name() != "cgroup.procs" {
				return nil
			}
			text, _ := os.ReadFile(path)
			for _, field := range strings.Fields(string(text)) {
				if pid, err := strconv.Atoi(field); err == nil && pid > 0 && !slices.Contains(all, pid) {
					all = append(all, pid)
				}
			}
			return nil
		})
	}
	return all
}

// remove kills what is in the cgroup, and removes it.
func (c cgroup) remove(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, killTimeout)
	defer cancel()
	for members := c.members(); len(members) > 0; members = c.members() {
		for _, pid := range members {
			c.kill(pid)
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("killing processes %v: %w", members, ctx.Err())
		}
	}
	var err error
	for _, dir := range c.dirs {
		err = errors.Join(err, removeCgroup(dir))
	}
	return err
}

// kill kills a process that is in the cgroup still, once it is known by its time of
// birth: its ID may be another's by now.
func (c cgroup) kill(pid int) {
	if p, there := processOf(pid); there && inCgroup(pid, c.path) {
		nodeProcesses{}.signal(pid, p.born, syscall.SIGKILL)
	}
}

// removeCgroup removes a cgroup and those in it, in which no process is.
func removeCgroup(dir string) error {
	children, err := namesIn(dir, fs.DirEntry.IsDir)
	if err != nil {
		return err
	}
	for _, child := range children {
		if err := removeCgroup(filepath.Join(dir, child)); err != nil {
			return err
		}
	}
	if err := os.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// inCgroup says whether a process is in a cgroup whose path ends like that, or below it.
// What the path begins with depends on where we are ourselves.
func inCgroup(pid int, path string) bool {
	lines, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	return err == nil && (bytes.Contains(lines, []byte(path+"\n")) || bytes.Contains(lines, []byte(path+"/")))
}

// oomKills is how many processes of a container the kernel has killed for want of
// memory, by the counter of its cgroup, which is there until the container is deleted;
// containerd's events come late, or never. Where there is no cgroup it is zero.
func (r *Runtime) oomKills(id string) uint64 {
	return oomKillsIn(cgroupRoot, filepath.Join(r.cfg.CgroupParent, id), cgroups.Mode() == cgroups.Unified)
}

// oomKillsIn is oomKills of a cgroup, in the hierarchy of version 2 or in version 1's of
// memory.
func oomKillsIn(root, path string, unified bool) uint64 {
	file := filepath.Join(root, path, "memory.events")
	if !unified {
		file = filepath.Join(root, "memory", path, "memory.oom_control")
	}
	counters, err := os.ReadFile(file)
	if err != nil {
		return 0
	}
	return counter(counters, "oom_kill")
}

// counter finds a number among lines of "name number".
func counter(lines []byte, name string) uint64 {
	for scan := bufio.NewScanner(bytes.NewReader(lines)); scan.Scan(); {
		if value, ok := bytes.CutPrefix(scan.Bytes(), []byte(name+" ")); ok {
			n, _ := strconv.ParseUint(string(bytes.TrimSpace(value)), 10, 64)
			return n
		}
	}
	return 0
}
