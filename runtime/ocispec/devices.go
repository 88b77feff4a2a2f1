package ocispec

import (
	"slices"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// devices puts in what belongs to the node's devices that the spec names: nodes and the
// leave to use them, mounts, hooks, groups. Where the spec mounts something at the same
// place, the device's is in force. Files of secrets come after it.
func devices(s *specs.Spec, p Params) error {
	if p.Devices == nil {
		return nil
	}
	if err := p.Devices.Apply(s); err != nil {
		return err
	}
	// Leave for nothing is none, and OCI runtimes do not take it.
	r := s.Linux.Resources
	r.Devices = slices.DeleteFunc(r.Devices, func(rule specs.LinuxDeviceCgroup) bool { return rule.Access == "" })
	if s.Hooks != nil {
		confineHooks(s.Hooks)
	}
	return nil
}

// hookEnv is the environment of hooks that have none of their own.
var hookEnv = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}

// hookTimeout is how many seconds a hook may take that does not say.
const hookTimeout = 30

// confineHooks keeps hooks that are run on the node from the environment of whoever runs
// them. For runc that is the container's, for createContainer: they would have its secrets,
// and its image would choose, by LD_PRELOAD, what they run as root. Nor may one that hangs
// keep a container from being made, or removed, for ever. Hooks of startContainer are run in
// the container.
func confineHooks(h *specs.Hooks) {
	//lint:ignore SA1019 CDI has prestart hooks still.
	for _, list := range [][]specs.Hook{h.Prestart, h.CreateRuntime, h.CreateContainer, h.Poststart, h.Poststop} {
		for i := range list {
			if len(list[i].Env) == 0 {
				list[i].Env = hookEnv
			}
			if list[i].Timeout == nil {
				list[i].Timeout = new(hookTimeout)
			}
		}
	}
}
