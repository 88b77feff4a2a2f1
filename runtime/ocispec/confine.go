package ocispec

import (
	"runtime"

	"github.com/containerd/containerd/v2/contrib/seccomp"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// allowed capabilities are docker's without NET_RAW (raw packets on a shared
// network), MKNOD and AUDIT_WRITE.
func allowed() []string {
	return []string{
		"CAP_CHOWN",
		"CAP_DAC_OVERRIDE",
		"CAP_FOWNER",
		"CAP_FSETID",
		"CAP_KILL",
		"CAP_NET_BIND_SERVICE",
		"CAP_SETFCAP",
		"CAP_SETGID",
		"CAP_SETPCAP",
		"CAP_SETUID",
		"CAP_SYS_CHROOT",
	}
}

// capabilities leaves the inheritable and ambient sets empty, so that a
// process of another user than root has none.
func capabilities(s *specs.Spec, _ Params) error {
	s.Process.Capabilities = &specs.LinuxCapabilities{
		Bounding:  allowed(),
		Effective: allowed(),
		Permitted: allowed(),
	}
	return nil
}

// namespaces gives a container all of its own but the user namespace; with the
// node's network it has the node's host name as well.
func namespaces(s *specs.Spec, p Params) error {
	kinds := []specs.LinuxNamespaceType{specs.PIDNamespace, specs.IPCNamespace, specs.MountNamespace}
	if !hostNetwork(p.Spec) {
		kinds = append(kinds, specs.NetworkNamespace, specs.UTSNamespace)
		s.Hostname = p.ID
	}
	if p.Host.CgroupV2 {
		kinds = append(kinds, specs.CgroupNamespace)
	}
	for _, k := range kinds {
		s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: k})
	}
	return nil
}

// hiddenPaths are what the kernel shows in /proc and /sys of the whole node.
func hiddenPaths(s *specs.Spec, _ Params) error {
	s.Linux.MaskedPaths = []string{
		"/proc/acpi",
		"/proc/asound",
		"/proc/interrupts",
		"/proc/kcore",
		"/proc/keys",
		"/proc/latency_stats",
		"/proc/sched_debug",
		"/proc/scsi",
		"/proc/timer_list",
		"/proc/timer_stats",
		"/sys/devices/virtual/powercap",
		"/sys/firmware",
	}
	s.Linux.ReadonlyPaths = []string{
		"/proc/bus",
		"/proc/fs",
		"/proc/irq",
		"/proc/sys",
		"/proc/sysrq-trigger",
	}
	return nil
}

// seccompProfile allows the system calls of the machine's own architecture
// alone. containerd's profile has those of its 32-bit relatives too: more of the
// kernel to attack, for programs that few images hold, and compiling their
// filters takes a quarter of the time that a launch takes.
func seccompProfile(s *specs.Spec, _ Params) error {
	profile := seccomp.DefaultProfile(s)
	if arch := nativeArch(); arch != "" {
		profile.Architectures = []specs.Arch{arch}
	}
	s.Linux.Seccomp = profile
	return nil
}

// nativeArch is "" on machines whose profile is left as it is.
func nativeArch() specs.Arch {
	switch runtime.GOARCH {
	case "amd64":
		return specs.ArchX86_64
	case "arm64":
		return specs.ArchAARCH64
	}
	return ""
}
