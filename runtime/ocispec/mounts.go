package ocispec

import (
	"slices"
	"strconv"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/purserd/purser/api/launchspec"
	purserv1 "github.com/purserd/purser/api/purser/v1"
)

// kernelMounts are the file systems that programs expect of Linux. /run is the
// image's own.
func kernelMounts(s *specs.Spec, _ Params) error {
	s.Mounts = []specs.Mount{
		{Destination: "/proc", Type: "proc", Source: "proc", Options: []string{"nosuid", "noexec", "nodev"}},
		{Destination: "/dev", Type: "tmpfs", Source: "tmpfs",
			Options: []string{"nosuid", "strictatime", "mode=755", "size=65536k"}},
		{Destination: "/dev/pts", Type: "devpts", Source: "devpts",
			Options: []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"}},
		{Destination: "/dev/shm", Type: "tmpfs", Source: "shm",
			Options: []string{"nosuid", "noexec", "nodev", "mode=1777", "size=65536k"}},
		{Destination: "/dev/mqueue", Type: "mqueue", Source: "mqueue", Options: []string{"nosuid", "noexec", "nodev"}},
		{Destination: "/sys", Type: "sysfs", Source: "sysfs", Options: []string{"nosuid", "noexec", "nodev", "ro"}},
	}
	return nil
}

// cgroupMount shows the container's cgroup read-only, which is where language
// runtimes look for its limits. With cgroup v1 it takes a mount for each of ten
// hierarchies, so there it is left out when there are no limits to find.
func cgroupMount(s *specs.Spec, p Params) error {
	_, cpu := launchspec.CPU(p.Spec)
	_, memory := launchspec.Memory(p.Spec)
	if p.Host.CgroupV2 || cpu || memory {
		s.Mounts = append(s.Mounts, specs.Mount{
			Destination: "/sys/fs/cgroup", Type: "cgroup", Source: "cgroup",
			Options: []string{"nosuid", "noexec", "nodev", "relatime", "ro"},
		})
	}
	return nil
}

// networkFiles puts the generated files in, but where the spec mounts its own.
// A container without a network has no name server, and is spared the mount.
func networkFiles(s *specs.Spec, p Params) error {
	type generated struct{ target, source string }
	files := []generated{{"/etc/hosts", p.Files.Hosts}}
	if hostNetwork(p.Spec) || p.NetNS != "" {
		files = append(files, generated{"/etc/resolv.conf", p.Files.ResolvConf})
	}
	for _, f := range files {
		own := slices.ContainsFunc(p.Mounts, func(m *purserv1.Mount) bool { return m.GetTarget() == f.target })
		if f.source != "" && !own {
			s.Mounts = append(s.Mounts, bind(f.source, f.target, true))
		}
	}
	return nil
}

// userMounts orders a directory before what lies in it, whatever the spec's order.
func userMounts(s *specs.Spec, p Params) error {
	mounts := slices.Clone(p.Mounts)
	slices.SortStableFunc(mounts, func(a, b *purserv1.Mount) int {
		return strings.Count(a.GetTarget(), "/") - strings.Count(b.GetTarget(), "/")
	})
	for _, m := range mounts {
		if launchspec.MountType(m) == launchspec.MountTmpfs {
			s.Mounts = append(s.Mounts, tmpfs(m))
			continue
		}
		s.Mounts = append(s.Mounts, bind(m.GetSource(), m.GetTarget(), m.GetReadOnly()))
	}
	return nil
}

// secretMounts come last: what a spec mounts does not hide them.
func secretMounts(s *specs.Spec, p Params) error {
	for _, m := range p.SecretMounts {
		mounted := bind(m.Source, m.Target, true)
		mounted.Options = append(mounted.Options, "noexec")
		s.Mounts = append(s.Mounts, mounted)
	}
	return nil
}

func bind(source, target string, readOnly bool) specs.Mount {
	m := specs.Mount{
		Destination: target,
		Type:        "bind",
		Source:      source,
		Options:     []string{"rbind", "rprivate", "nosuid", "nodev"},
	}
	if readOnly {
		m.Options = append(m.Options, "ro")
	}
	return m
}

func tmpfs(m *purserv1.Mount) specs.Mount {
	o := []string{"nosuid", "nodev", "mode=1777", "size=" + strconv.FormatInt(launchspec.MountSize(m), 10)}
	if m.GetReadOnly() {
		o = append(o, "ro")
	}
	return specs.Mount{Destination: m.GetTarget(), Type: "tmpfs", Source: "tmpfs", Options: o}
}

func hostNetwork(s *purserv1.LaunchSpec) bool {
	return launchspec.NetworkMode(s) == launchspec.NetworkHost
}
