package ocispec

import (
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/purserd/purser/api/launchspec"
)

const (
	// cpuPeriod is the kernel's default, in microseconds.
	cpuPeriod = 100_000
	// minQuota is the smallest that the kernel takes, in microseconds.
	minQuota = 1000

	// Soft and hard limits of open files, where the node allows as much. Much
	// higher soft limits make programs slow that close all files one by one.
	openFilesSoft = 65_536
	openFilesHard = 524_288
)

// rlimits never go above what the node may set. Core dumps are limited to one
// byte, not to zero: with zero a handler behind a pipe still gets the dump,
// with its environment; with one the kernel skips it.
func rlimits(s *specs.Spec, p Params) error {
	files := min(openFilesHard, p.Host.MaxOpenFiles)
	core := min(1, p.Host.MaxCore)
	s.Process.Rlimits = []specs.POSIXRlimit{
		{Type: "RLIMIT_CORE", Soft: core, Hard: core},
		{Type: "RLIMIT_NOFILE", Soft: min(openFilesSoft, files), Hard: files},
	}
	return nil
}

func resources(s *specs.Spec, p Params) error {
	r := s.Linux.Resources
	// The OCI runtime allows the harmless devices again by itself.
	r.Devices = []specs.LinuxDeviceCgroup{{Allow: false, Access: "rwm"}}
	pids := launchspec.Pids(p.Spec)
	r.Pids = &specs.LinuxPids{Limit: &pids}
	if cores, ok := launchspec.CPU(p.Spec); ok {
		r.CPU = cpu(cores)
	}
	if limit, ok := launchspec.Memory(p.Spec); ok {
		r.Memory = memory(limit, p.Host)
	}
	if p.NoSwap {
		noSwap(r, p.Host)
	}
	return nil
}

// noSwap keeps all memory of the container's cgroup out of swap space, with a limit
// of memory or without one.
func noSwap(r *specs.LinuxResources, h Host) {
	if h.CgroupV2 {
		r.Unified = map[string]string{"memory.swap.max": "0"}
		return
	}
	if r.Memory == nil {
		r.Memory = &specs.LinuxMemory{}
	}
	r.Memory.Swappiness = new(uint64(0))
}

func cpu(cores float64) *specs.LinuxCPU {
	period := uint64(cpuPeriod)
	quota := max(minQuota, int64(cores*cpuPeriod))
	// A share of the node in proportion, for when it is short of CPU.
	shares := uint64(min(262_144, max(2, cores*1024)))
	return &specs.LinuxCPU{Period: &period, Quota: &quota, Shares: &shares}
}

// memory allows no swap beyond the limit: swap would hold secrets, and would
// make a container slow instead of killing it.
func memory(limit int64, h Host) *specs.LinuxMemory {
	m := &specs.LinuxMemory{Limit: &limit}
	if h.SwapAccounting {
		m.Swap = &limit
	}
	return m
}
