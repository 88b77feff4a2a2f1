package ocispec

import (
	"runtime"
	"slices"
	"strings"

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
		ns := specs.LinuxNamespace{Type: k}
		if k == specs.NetworkNamespace {
			ns.Path = p.NetNS
		}
		s.Linux.Namespaces = append(s.Linux.Namespaces, ns)
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

// seccompProfile is containerd's for the machine's own architecture alone. That
// one has the system calls of its 32-bit relatives too: more of the kernel to
// attack, for programs that few images hold, and compiling their filters takes a
// quarter of the time that a launch takes.
func seccompProfile(s *specs.Spec, _ Params) error {
	profile := seccomp.DefaultProfile(s)
	if arch := nativeArch(); arch != "" {
		profile.Architectures = []specs.Arch{arch}
		dropForeign(profile)
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

// dropForeign leaves out what neither architecture has: compiled to nothing,
// each of these still takes its time.
func dropForeign(profile *specs.LinuxSeccomp) {
	for i := range profile.Syscalls {
		rule := &profile.Syscalls[i]
		rule.Names = slices.DeleteFunc(rule.Names, func(name string) bool { return foreign[name] })
	}
	profile.Syscalls = slices.DeleteFunc(profile.Syscalls, func(rule specs.LinuxSyscall) bool { return len(rule.Names) == 0 })
}

// foreign are the system calls in containerd's profile that only 32-bit
// architectures have.
var foreign = set(`
	_llseek _newselect chown32 clock_adjtime64 clock_getres_time64 clock_gettime64
	clock_nanosleep_time64 fadvise64_64 fchown32 fcntl64 fstat64 fstatat64
	ftruncate64 futex_time64 getegid32 geteuid32 getgid32 getgroups32
	getresgid32 getresuid32 getuid32 io_pgetevents_time64 ipc lchown32 lstat64
	mmap2 mq_timedreceive_time64 mq_timedsend_time64 ppoll_time64
	pselect6_time64 recv recvmmsg_time64 rt_sigtimedwait_time64
	sched_rr_get_interval_time64 semtimedop_time64 send sendfile64 setfsgid32
	setfsuid32 setgid32 setgroups32 setregid32 setresgid32 setresuid32
	setreuid32 setuid32 sigprocmask sigreturn socketcall stat64 statfs64
	fstatfs64 timer_gettime64 timer_settime64 timerfd_gettime64
	timerfd_settime64 truncate64 ugetrlimit utimensat_time64 waitpid`)

func set(words string) map[string]bool {
	all := map[string]bool{}
	for word := range strings.FieldsSeq(words) {
		all[word] = true
	}
	return all
}
