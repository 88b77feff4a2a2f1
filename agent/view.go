package agent

import (
	"fmt"
	"strings"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/purserd/purser/agent/supervise"
	statev1 "github.com/purserd/purser/api/purser/state/v1"
	purserv1 "github.com/purserd/purser/api/purser/v1"
)

// message is the workload as the API shows it now.
func (w *workload) message() *purserv1.Workload {
	v, _ := w.supervisor.View()
	return w.messageOf(v)
}

// messageOf is the workload as the API shows it at the moment of a view.
func (w *workload) messageOf(v supervise.View) *purserv1.Workload {
	r, s := w.record(), v.Status
	spec, generation := accepted(r)
	m := &purserv1.Workload{
		Environment:        r.GetEnvironment(),
		Id:                 r.GetId(),
		Spec:               spec,
		Generation:         generation,
		ObservedGeneration: s.ObservedGeneration,
		State:              string(s.State),
		Reason:             reason(v),
		Since:              timestamppb.New(s.Since),
		Pins:               r.GetPins(),
		LastExit:           s.LastExit.Message(),
		Restarts:           s.Restarts,
		CreatedAt:          r.GetCreatedAt(),
		Rotation:           w.rotation(r),
		BackedOut:          backedOut(r),
	}
	if f := r.GetFallback(); f != nil {
		m.FallsBackTo = &f.Generation
	}
	if s.State == supervise.BackingOff && !s.NextTry.IsZero() {
		m.NextTryAt = timestamppb.New(s.NextTry)
	}
	for _, i := range s.Containers() {
		if !i.Ended {
			m.Instances = append(m.Instances, instanceMessage(i))
		}
	}
	return m
}

// reason is why a workload is in its state, and what serves meanwhile if it is not the
// instance that is wanted.
func reason(v supervise.View) string {
	k := v.Status.Kept
	if k == nil || v.Serving() != k.Instance {
		return v.Status.Reason
	}
	meanwhile := fmt.Sprintf("the instance of generation %d serves meanwhile", k.Instance.Revision.Generation)
	why := v.Status.Reason
	if least := v.Desired.Policy.MinReady; why == "" && least > 0 && v.Ready() {
		why = fmt.Sprintf("it takes over when it has run well for %s (rotation.min_ready)", least)
	}
	if why == "" {
		return meanwhile
	}
	return why + "; " + meanwhile
}

func instanceMessage(i *supervise.Instance) *purserv1.Instance {
	m := &purserv1.Instance{Id: i.ID, Pid: i.PID, Generation: i.Revision.Generation, ImageDigest: i.ImageDigest, Addresses: i.Addresses, Pins: i.Revision.Pins}
	if !i.StartedAt.IsZero() {
		m.StartedAt = timestamppb.New(i.StartedAt)
	}
	return m
}

// Get returns one workload.
func (a *Agent) Get(environment, id string) (*purserv1.Workload, error) {
	w, err := a.get(environment, id)
	if err != nil {
		return nil, err
	}
	return w.message(), nil
}

// List returns the workloads of an environment and app; either may be empty
// for all.
func (a *Agent) List(environment, app string) []*purserv1.Workload {
	var all []*purserv1.Workload
	for _, w := range a.list(environment, app) {
		all = append(all, w.message())
	}
	return all
}

// onPins says which versions a workload is on, for an event.
func onPins(pins []*purserv1.Pin) string {
	if len(pins) == 0 {
		return ""
	}
	var parts []string
	for _, p := range pins {
		if p.GetVersion() == 0 {
			parts = append(parts, p.GetSecret()+" (not there)")
			continue
		}
		parts = append(parts, fmt.Sprintf("%s version %d", p.GetSecret(), p.GetVersion()))
	}
	return " on " + strings.Join(parts, ", ")
}

// rotation is how a workload stands to the latest versions of its secrets; nil when it uses
// none.
func (w *workload) rotation(r *statev1.Workload) *purserv1.RotationStatus {
	if len(r.GetSpec().GetSecrets()) == 0 {
		return nil
	}
	s := w.agent.rotator.standing(w.key)
	return &purserv1.RotationStatus{State: s.State, Reason: s.Reason, Pins: r.GetTrial().GetPins()}
}
