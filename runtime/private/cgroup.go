package private

import (
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"

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
// The zero Cgroup is none.
type Cgroup struct {
	// Join is the file of the kernel's that a thread writes "0" to before it becomes
	// an OCI runtime: it is in the cgroup then, and so is what it executes. Empty for
	// the zero Cgroup.
	//
	// With cgroups of version 1 it is the list of threads: a thread that moves itself
	// waits for nobody, while moving a process waits for all CPUs, several
	// milliseconds on an idle machine (cgroup_procs_write_start in
	// kernel/cgroup/cgroup.c). Version 2 has no such way.
	Join   string
	remove func() error
}

// MakeCgroup makes the cgroup at path, from the root of the hierarchy, or takes the
// one that is there. Failing is an error only where there is swap space and allowSwap
// is not set; elsewhere it returns the zero Cgroup.
func MakeCgroup(path string, allowSwap bool, log *slog.Logger) (Cgroup, error) {
	swap, v2 := swapOn(), cgroups.Mode() == cgroups.Unified
	create := makeV1
	if v2 {
		create = makeV2
	}
	c, err := create(path)
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
	for _, m := range mounts {
		memory, ok := m.(interface{ Path(path string) string })
		if m.Name() != cgroup1.Memory || !ok {
			continue
		}
		c, err := cgroup1.New(cgroup1.StaticPath(path),
			&specs.LinuxResources{Memory: &specs.LinuxMemory{Swappiness: new(uint64(0))}},
			cgroup1.WithHierarchy(func() ([]cgroup1.Subsystem, error) { return []cgroup1.Subsystem{m}, nil }))
		if err != nil {
			return Cgroup{}, err
		}
		return Cgroup{Join: filepath.Join(memory.Path(path), "tasks"), remove: c.Delete}, nil
	}
	return Cgroup{}, errors.New("no memory controller is mounted")
}

// unified is where systems mount cgroups of version 2.
const unified = "/sys/fs/cgroup"

func makeV2(path string) (Cgroup, error) {
	c, err := cgroup2.NewManager(unified, path, &cgroup2.Resources{Memory: &cgroup2.Memory{Swap: new(int64(0))}})
	if err != nil {
		return Cgroup{}, err
	}
	return Cgroup{Join: filepath.Join(unified, path, "cgroup.procs"), remove: c.Delete}, nil
}

// Remove removes the cgroup unless there is a process in it.
func (c Cgroup) Remove() {
	if c.remove != nil {
		_ = c.remove()
	}
}
