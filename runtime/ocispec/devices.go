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
	return nil
}
