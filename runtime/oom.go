package runtime

import (
	"bufio"
	"bytes"
	"os"
	"path/filepath"
	"strconv"

	"github.com/containerd/cgroups/v3"
)

// cgroupRoot is where the hierarchy of version 2 is mounted, and those of version 1.
const cgroupRoot = "/sys/fs/cgroup"

// oomKills is how many processes of a container the kernel has killed for want of
// memory, by the counter of its cgroup, which is there until the container is deleted;
// containerd's events come late, or never. Where there is no cgroup it is zero.
func (r *Runtime) oomKills(id string) uint64 {
	path := filepath.Join(cgroupRoot, r.cfg.CgroupParent, id, "memory.events")
	if cgroups.Mode() != cgroups.Unified {
		path = filepath.Join(cgroupRoot, "memory", r.cfg.CgroupParent, id, "memory.oom_control")
	}
	counters, err := os.ReadFile(path)
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
