package runtime

import (
	purserv1 "github.com/purserd/purser/api/purser/v1"
	"github.com/purserd/purser/runtime/devices"
)

// Devices are the node's devices that a spec names, nil for none. It wraps
// [devices.ErrMissing] when the node does not have one of them now.
func (r *Runtime) Devices(spec *purserv1.LaunchSpec) (*devices.Set, error) {
	return r.devices.Resolve(spec.GetResources().GetDevices())
}
