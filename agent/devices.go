package agent

import (
	"fmt"

	purserv1 "github.com/purserd/purser/api/purser/v1"
)

// A device that the node does not have now keeps no spec from being accepted: vendors' tools
// write down what there is when drivers have been loaded, which may be later. Until then the
// workload is started in vain, with ever longer pauses, as one without an image is. What runs
// is not stopped for it.

// checkDevices finds out whether the devices are there of a spec that is to take the place of
// what runs.
func (a *Agent) checkDevices(p *plan) error {
	if p.workload == nil {
		return nil
	}
	if v, _ := p.workload.supervisor.View(); !v.Status.State.Runs() {
		return nil
	}
	if err := a.haveDevices(p.record.GetSpec()); err != nil {
		return fmt.Errorf("workload %s runs on as it is, a device of its update cannot be had: %w", p.workload.id(), err)
	}
	return nil
}

// haveDevices says which of the devices that a spec names are not there.
func (a *Agent) haveDevices(spec *purserv1.LaunchSpec) error {
	_, err := a.runtime.Devices(spec)
	return err
}
