package supervise

import (
	"context"
	"time"
)

// settleTime is how long a service has to have run without an exit to count as
// ready: what lacks a file or a variable mostly ends sooner.
const settleTime = time.Second

// Settled says whether a workload has done all that was wanted of it.
func (v View) Settled() bool {
	if v.Desired.Goal == Stop {
		return v.Status.State.Ended() && (v.Status.Instance == nil || v.Status.Instance.Ended)
	}
	return v.Status.Run == v.Desired.Run && v.Status.State.Ended()
}

// Runs says whether the instance that is wanted runs.
func (v View) Runs() bool {
	return v.Status.Run == v.Desired.Run && v.Status.State == Running && !v.Status.Instance.Unverified
}

// Crashed says whether a service waits to be started again because its last
// instance has ended. One that waits for something else has another reason.
func (v View) Crashed() bool {
	s := v.Status
	return !v.Desired.Policy.Job && s.Run == v.Desired.Run && s.State == BackingOff &&
		s.Attempts > 0 && s.LastExit != nil && s.Reason == s.LastExit.Reason
}

// WaitReady returns once a service has run for settleTime, or has crashed; once a
// job runs; or once either is settled.
func (s *Supervisor) WaitReady(ctx context.Context) (View, error) {
	for {
		v, err := s.WaitFor(ctx, func(v View) bool { return v.Settled() || v.Runs() || v.Crashed() })
		if err != nil || !v.Runs() || v.Desired.Policy.Job {
			return v, err
		}
		left := time.Until(v.Status.Instance.StartedAt.Add(settleTime))
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
