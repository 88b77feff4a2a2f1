package capacity

import (
	"bufio"
	"bytes"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path"
	"runtime"
	"strconv"
	"strings"
)

// machine is where the kernel tells of itself.
type machine struct {
	files fs.FS // from the root
	cpus  int   // that this process may run on, by its affinity and so its cpuset
	// parent is the cgroup that containers get theirs in.
	parent string
}

// Found is what the node has: what the machine has, or what the cgroups may use of this
// process, of parent, in which containers get theirs, and of those around them, if that
// is less.
func Found(parent string) (Amounts, error) {
	return machine{files: os.DirFS("/"), cpus: runtime.NumCPU(), parent: parent}.amounts()
}

func (m machine) amounts() (Amounts, error) {
	memory, err := m.memory()
	if err != nil {
		return Amounts{}, err
	}
	pids, err := m.number("proc/sys/kernel/pid_max")
	if err != nil {
		return Amounts{}, fmt.Errorf("looking for the number of processes that the node can have: %w", err)
	}
	a := Amounts{CPU: int64(m.cpus) * 1000, Memory: memory, Pids: pids}
	for _, dir := range m.cgroups() {
		a.limit(CPU, m.quota(dir))
		a.limit(Memory, m.limit(dir, "memory.max", "memory.limit_in_bytes"))
		a.limit(Pids, m.limit(dir, "pids.max"))
	}
	return a, nil
}

// limit lowers an amount.
func (a *Amounts) limit(r Resource, n int64) { a[r] = min(a[r], n) }

// unlimited is the limit of a cgroup that has none.
const unlimited = math.MaxInt64

// memory is what the machine has in all.
func (m machine) memory() (int64, error) {
	data, err := fs.ReadFile(m.files, "proc/meminfo")
	if err != nil {
		return 0, fmt.Errorf("looking for the node's memory: %w", err)
	}
	for lines := bufio.NewScanner(bytes.NewReader(data)); lines.Scan(); {
		if fields := strings.Fields(lines.Text()); len(fields) > 1 && fields[0] == "MemTotal:" {
			kib, err := strconv.ParseInt(fields[1], 10, 64)
			return kib << 10, err
		}
	}
	return 0, fmt.Errorf("looking for the node's memory: /proc/meminfo has no MemTotal")
}

// cgroups are the directories, in every hierarchy, of the cgroups that limit what the
// node has. Containers are not below the agent's, but where that or one around it is
// limited, as in a container or a virtual machine's slice, so is the node.
func (m machine) cgroups() []string {
	data, err := fs.ReadFile(m.files, "proc/self/cgroup")
	if err != nil {
		return nil
	}
	var dirs []string
	for lines := bufio.NewScanner(bytes.NewReader(data)); lines.Scan(); {
		// 4:cpu,cpuacct:/system.slice, or 0::/system.slice for version 2
		fields := strings.SplitN(lines.Text(), ":", 3)
		if len(fields) != 3 {
			continue
		}
		root := path.Join("sys/fs/cgroup", strings.TrimPrefix(fields[1], "name="))
		dirs = append(dirs, upTo(root, fields[2])...)
		dirs = append(dirs, upTo(root, m.parent)...)
	}
	return dirs
}

// upTo are the directories of a cgroup and of those around it.
func upTo(root, cgroup string) []string {
	dirs := []string{root}
	for p := path.Clean("/" + cgroup); p != "/"; p = path.Dir(p) {
		dirs = append(dirs, path.Join(root, p))
	}
	return dirs
}

// quota is the CPU time that a cgroup may use, in thousandths of a core.
func (m machine) quota(dir string) int64 {
	if quota, period, ok := m.pair(path.Join(dir, "cpu.max")); ok {
		return millicores(quota, period)
	}
	quota, err := m.number(path.Join(dir, "cpu.cfs_quota_us"))
	period, err2 := m.number(path.Join(dir, "cpu.cfs_period_us"))
	if err != nil || err2 != nil {
		return unlimited
	}
	return millicores(quota, period)
}

// millicores is a quota, which is negative for none, in thousandths of a core.
func millicores(quota, period int64) int64 {
	if quota <= 0 || period <= 0 {
		return unlimited
	}
	return max(1, quota*1000/period)
}

// pair reads cpu.max: "max 100000" or "50000 100000".
func (m machine) pair(name string) (quota, period int64, ok bool) {
	data, err := fs.ReadFile(m.files, name)
	if err != nil {
		return 0, 0, false
	}
	if n, _ := fmt.Sscan(string(data), &quota, &period); n != 2 {
		return -1, 1, true
	}
	return quota, period, true
}

// limit reads the first of some files that is there; "max" is none.
func (m machine) limit(dir string, names ...string) int64 {
	for _, name := range names {
		if n, err := m.number(path.Join(dir, name)); err == nil && n >= 0 {
			return n
		}
	}
	return unlimited
}

func (m machine) number(name string) (int64, error) {
	data, err := fs.ReadFile(m.files, name)
	if err != nil {
		return 0, err
	}
	return strconv.ParseInt(strings.TrimSpace(string(data)), 10, 64)
}
