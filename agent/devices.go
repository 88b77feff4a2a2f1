package agent

import (
	"errors"
	"fmt"

	purserv1 "github.com/purserd/purser/api/purser/v1"
	"github.com/purserd/purser/runtime"
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

// screened is what has come of a start without the values that the instance is given. A hook of
// a device may look into the container, and what it writes before it fails is part of what
// the OCI runtime says.
func (w *workload) screened(i runtime.Instance, err error) error {
	if err == nil || i.Devices == nil || !i.Redactions.Any() {
		return err
	}
	seen := err.Error()
	text := w.matcher.of(i.Redactions).Text(seen)
	refused := (*runtime.StartError)(nil)
	switch {
	case text == seen:
		return err
	case errors.As(err, &refused):
		return &runtime.StartError{Code: refused.Code, Message: text}
	}
	return errors.New(text)
}

// haveDevices says which of the devices that a spec names are not there.
func (a *Agent) haveDevices(spec *purserv1.LaunchSpec) error {
	_, err := a.runtime.Devices(spec)
	return err
}
