package ocispec

import (
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// anchorCommand is where an anchor has its command, which runtimes look for although
// it is never executed.
const anchorCommand = "/anchor"

// Anchor returns the OCI spec of a container that is created, for its shim, and never
// started. program is any that a runtime would execute. Its root file system is empty
// and can be written to.
func Anchor(cgroup, program string, host Host) *specs.Spec {
	score := host.OOMScoreAdj
	return &specs.Spec{
		Version: version,
		Root:    &specs.Root{Path: "rootfs"},
		Process: &specs.Process{
			Cwd:             "/",
			Args:            []string{anchorCommand},
			User:            specs.User{UID: 65534, GID: 65534},
			NoNewPrivileges: true,
			OOMScoreAdj:     &score,
		},
		Mounts: []specs.Mount{
			{Destination: "/proc", Type: "proc", Source: "proc", Options: []string{"nosuid", "noexec", "nodev"}},
			// runtimes make devices in it.
			{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "noexec", "mode=755", "size=64k"}},
			{Destination: anchorCommand, Type: "bind", Source: program, Options: []string{"bind", "ro"}},
		},
		Linux: &specs.Linux{
			CgroupsPath: cgroup,
			Resources:   &specs.LinuxResources{},
			Namespaces: []specs.LinuxNamespace{
				{Type: specs.PIDNamespace}, {Type: specs.IPCNamespace}, {Type: specs.UTSNamespace},
				{Type: specs.MountNamespace}, {Type: specs.NetworkNamespace},
			},
		},
	}
}
