package private

import (
	"errors"
	"fmt"
	"log/slog"

	"github.com/containerd/cgroups/v3"
	"github.com/containerd/cgroups/v3/cgroup1"
	"github.com/containerd/cgroups/v3/cgroup2"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// Cgroup is a cgroup of processes whose memory stays out of swap space: those of
// OCI runtimes from when they are given secrets. A container has such a cgroup of
// its own, but its runtime is at work before that, and one that makes no cgroups,
// as gVisor's with --ignore-cgroups, stays where it was started.
//
// The zero Cgroup takes no processes.
type Cgroup struct {
	add    func(pid int) error
	remove func() error
}

// MakeCgroup makes the cgroup at path, from the root of the hierarchy, or takes the
// one that is there. It is an error that none can be made only while there is swap
// space, and not with allowSwap; the Cgroup is the zero one then.
func MakeCgroup(path string, allowSwap bool, log *slog.Logger) (Cgroup, error) {
	v2 := cgroups.Mode() == cgroups.Unified
	c, err := makeV1(path)
	if v2 {
		c, err = makeV2(path)
	}
	swap := swapOn()
	switch {
	case err != nil && swap && !allowSwap:
		return Cgroup{}, fmt.Errorf("making a cgroup without swap for OCI runtimes, which hold secrets for a moment: %w; switch swap off, or set allow_swap in the configuration", err)
	case err != nil:
		log.Info("OCI runtimes get no cgroup without swap", "error", err)
		return Cgroup{}, nil
	case swap && !v2:
		log.Warn("there is swap space, and with cgroups of version 1 the kernel may use it for any process when all memory is used up, for those with secrets too; switch swap off or use version 2")
	}
	return c, nil
}

func makeV1(path string) (Cgroup, error) {
	mounts, err := cgroup1.Default()
	if err != nil {
		return Cgroup{}, err
	}
	memory := func() (found []cgroup1.Subsystem, err error) {
		for _, s := range mounts {
			if s.Name() == cgroup1.Memory {
				found = append(found, s)
			}
		}
		return found, nil
	}
	c, err := cgroup1.New(cgroup1.StaticPath(path),
		&specs.LinuxResources{Memory: &specs.LinuxMemory{Swappiness: new(uint64(0))}}, cgroup1.WithHierarchy(memory))
	if err != nil {
		return Cgroup{}, err
	}
	if len(c.Subsystems()) == 0 {
		return Cgroup{}, errors.New("no memory controller is mounted")
	}
	return Cgroup{add: func(pid int) error { return c.AddProc(uint64(pid)) }, remove: c.Delete}, nil
}

func makeV2(path string) (Cgroup, error) {
	c, err := cgroup2.NewManager("/sys/fs/cgroup", path, &cgroup2.Resources{Memory: &cgroup2.Memory{Swap: new(int64(0))}})
	if err != nil {
		return Cgroup{}, err
	}
	return Cgroup{add: func(pid int) error { return c.AddProc(uint64(pid)) }, remove: c.Delete}, nil
}

// Add moves a process into the cgroup, with all its threads and what it starts.
func (c Cgroup) Add(pid int) error {
	if c.add == nil {
		return nil
	}
	if err := c.add(pid); err != nil {
		return fmt.Errorf("keeping process %d out of swap space: %w", pid, err)
	}
	return nil
}

// Remove removes the cgroup unless there is a process in it.
func (c Cgroup) Remove() {
	if c.remove != nil {
		_ = c.remove()
	}
}
