package supervise

import (
	"context"
	"time"
)

// settleTime is how long a service has to have run without an exit to count as
// ready: what lacks a file or a variable mostly ends sooner.
const settleTime = time.Second

// Settled says whether a workload has done all that was wanted of it. A trial that has
// failed is followed by another one, or by what ran before.
func (v View) Settled() bool {
	if v.Desired.Goal == Stop {
		return v.Status.State.Ended() && v.Quiet()
	}
	return v.Status.Run == v.Desired.Run && v.Status.State.Ended() && !v.Desired.Trial
}

// Empty says whether nothing is left of the workload's containers.
func (v View) Empty() bool { return v.Status.Instance == nil && v.Status.Kept == nil }

// Quiet says whether no process of it is left, nor on its way: at most what has to be
// deleted.
func (v View) Quiet() bool {
	s := v.Status
	return (s.Instance == nil || s.Instance.Ended) && (s.Kept == nil || s.Kept.Instance.Ended)
}

// Runs says whether the instance that is wanted runs.
func (v View) Runs() bool {
	return v.Status.Run == v.Desired.Run && v.Status.State.Runs() && !v.Status.Instance.Unverified
}

// Crashed says whether a service waits to be started again because its last
// instance has ended. One that waits for something else has another reason.
func (v View) Crashed() bool {
	s := v.Status
	return !v.Desired.Policy.Job && s.Run == v.Desired.Run && s.State == BackingOff &&
		s.Attempts > 0 && s.LastExit != nil && s.Reason == s.LastExit.Reason
}

// Ready says whether the instance that is wanted does what it is for, as far as its
// probes tell: they have passed, or there are none.
func (v View) Ready() bool {
	switch {
	case !v.Runs():
		return false
	case v.Desired.Policy.Job:
		return true
	case v.Desired.Policy.Ready:
		return v.Status.State == Ready
	default:
		return v.Status.State != Starting
	}
}

// HealthyAt is when the instance that is wanted will have done what it is for, as far as
// its probes tell, for MinReady on end, if it goes on; false while it does not.
func (v View) HealthyAt() (time.Time, bool) {
	if v.Desired.Goal != Run || !v.Runs() {
		return time.Time{}, false
	}
	return healthyAt(v.Desired, v.Status)
}

// Replaced says whether the instance that is wanted does what it is for, and no earlier
// one does so in its place any more.
func (v View) Replaced() bool {
	return v.Ready() && (v.Status.Kept == nil || v.Status.Instance.Promoted)
}

// Serving is the instance to which whatever is meant for the workload goes; nil when
// there is none that does what it is for. In a rolling change that is the one that is
// kept, until the other is to take over from it, or as long as it serves and the kept
// one does not.
func (v View) Serving() *Instance {
	s := v.Status
	i, k := s.Instance, s.Kept
	if k != nil && k.serves() && !(i != nil && (i.Promoting || i.Promoted)) {
		return k.Instance
	}
	if s.serves() {
		return i
	}
	return nil
}

// NotReady says whether a workload is to run and is not ready. One that is stopped, or
// paused with its node, is not to run, and a job that has ended is not any more: they
// are neither ready nor missed. Nor is one missed whose kept instance serves while other
// versions are tried beside it.
func (v View) NotReady() bool {
	s := v.Status
	over := s.Run == v.Desired.Run && (s.State == Completed || v.Desired.Policy.Job && s.State.Ended())
	covered := v.Desired.Trial && v.Serving() != nil
	return v.Desired.Goal == Run && !v.Ready() && !over && !covered
}

// onTrial says whether it is not known yet of the instance that is wanted how it does.
func (v View) onTrial() bool { return onTrial(v.Desired, v.Status) }

// WaitReady returns once a service is ready and has replaced what ran before it, and where
// it has no ready probe has run for settleTime since it had started up, or for MinReady if it
// is on trial; once it has crashed; once a job runs; or once either is settled.
func (s *Supervisor) WaitReady(ctx context.Context) (View, error) {
	for {
		v, err := s.WaitFor(ctx, func(v View) bool { return v.Settled() || v.Replaced() && !v.onTrial() || v.Crashed() })
		if err != nil || !v.Replaced() || v.Desired.Policy.Job || v.Desired.Policy.Ready {
			return v, err
		}
		left := time.Until(v.Status.Since.Add(settleTime))
		if left <= 0 {
			return v, nil
		}
		if err := s.watchFor(ctx, left, v.Status.Instance.ID); err != nil {
			return v, err
		}
	}
}

// watchFor returns when an instance has run on for so long, or does not any more.
func (s *Supervisor) watchFor(ctx context.Context, long time.Duration, instance string) error {
	limited, cancel := context.WithTimeout(ctx, long)
	defer cancel()
	_, _ = s.WaitFor(limited, func(v View) bool { return !v.Runs() || v.Status.Instance.ID != instance })
	return ctx.Err()
}
