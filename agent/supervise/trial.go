package supervise

import (
	"fmt"
	"strings"
	"time"

	"github.com/purserd/purser/api/launchspec"
)

// A trial (Desired.Trial) is a run of a service of which nobody knows yet whether it turns
// out well, as it is on other versions of its secrets:
//
//	creating → … → running ─ serves for MinReady on end, within HealthTimeout ─► Healthy
//	    │              │
//	    └──────────────┴─ ends before that, however ─► failed, and not started again
//
// Whoever has begun it sees how it stands ([View.Tried]) and says by what is wanted then
// what follows:
//
//	the same run, no trial   committed: from now on it is a run as any other
//	another run, a trial     tried again: the one before is replaced
//	the run before it        withdrawn: in a rolling change the kept instance is of that
//	                         run, and is the workload's own again (goBack), untouched.
//	                         Otherwise, or if that has ended, another one is made of it
//
// A start that fails for a reason outside the workload says nothing of the versions, and
// is tried again as ever. So is one that a pause has ended.

// onTrial says whether it is still to be seen of the instance whether it is healthy.
func onTrial(d Desired, s Status) bool {
	return d.Trial && wanted(d, s) && s.Instance != nil && !s.Instance.Healthy
}

// completes says whether an exit ends a trial well.
func completes(d Desired, exit Exit) bool {
	return d.Completes && exit.successful() && d.Policy.Restart == launchspec.RestartOnFailure
}

// told says whether the instance was to end for no fault of its own, be it that an earlier
// agent wanted that: its exit is no verdict.
func told(s Status) bool {
	return s.Instance.Ending == nil && (s.State == Stopping || !s.Instance.StopSince.IsZero())
}

// try judges an instance that runs, and says when to look again if it cannot yet.
func try(d Desired, s Status, now time.Time) (Status, time.Time) {
	if !onTrial(d, s) || s.Instance.Ending != nil {
		return s, time.Time{}
	}
	well, serves := healthyAt(d, s)
	limit := healthyBy(d, s)
	switch {
	case serves && !well.After(now):
		s.Instance.Healthy = true
		return s, time.Time{}
	case !limit.IsZero() && !limit.After(now):
		s.Instance.Ending = &Ending{Unhealthy, unhealthy(d, s, serves)}
		return s, time.Time{}
	case serves:
		return s, earliest(well, limit)
	default:
		return s, limit
	}
}

// healthyAt is when the instance will have served for MinReady on end, if it goes on; false
// if it does not serve. Of one on trial, only what this agent has seen of it counts: it may
// have failed while none looked.
func healthyAt(d Desired, s Status) (time.Time, bool) {
	if !s.serves() {
		return time.Time{}, false
	}
	since := s.Since
	if onTrial(d, s) && s.Instance.AdoptedAt.After(since) {
		since = s.Instance.AdoptedAt
	}
	return since.Add(d.Policy.MinReady), true
}

// healthyBy is when an instance on trial has to be healthy; zero for never, as before it is
// up: its startup probe has a limit of its own.
func healthyBy(d Desired, s Status) time.Time {
	from := s.Instance.UpAt
	if from.IsZero() || d.Policy.HealthTimeout <= 0 {
		return time.Time{}
	}
	if s.Instance.AdoptedAt.After(from) {
		from = s.Instance.AdoptedAt
	}
	return from.Add(d.Policy.HealthTimeout)
}

// unhealthy says what an instance was not in time.
func unhealthy(d Desired, s Status, serves bool) string {
	if serves {
		return fmt.Sprintf("ready, but not for %s on end (rotation.min_ready) within %s (rotation.health_timeout)", d.Policy.MinReady, d.Policy.HealthTimeout)
	}
	text := fmt.Sprintf("not ready after %s (rotation.health_timeout)", d.Policy.HealthTimeout)
	if why, ok := strings.CutPrefix(s.Reason, notReady); ok {
		text += ": its ready probe: " + why
	}
	return text
}

// cutShort says whether a service has failed in a trial, and is wanted now without one: its
// policy has it run.
func cutShort(d Desired, s Status) bool {
	return s.State == Failed && !d.Trial && !d.Policy.Job && d.Policy.Restart != launchspec.RestartNever
}

// delivered notes that the files of an instance that runs were replaced.
func delivered(d Desired, s Status) Status {
	if d.Delivered == s.Instance.ID {
		s.Instance.Revision = d.Revision
	}
	return s
}

// mayGoBack says whether a trial has been withdrawn, and what ran before it still does.
func mayGoBack(d Desired, s Status) bool {
	k := s.Kept
	return d.Goal == Run && k != nil && k.Run == d.Run && s.Run != d.Run &&
		k.State.Runs() && !k.Instance.Ended && k.Instance.StopSince.IsZero() && k.Instance.Ending == nil
}

// goBack has the kept instance be the workload's own again, as if there had been no other
// but for what is known of its end, and the one that was tried the kept one, to be ended.
func goBack(s Status) Status {
	back, i := *s.Kept, *s.Kept.Instance
	// What serves in its place is ended once it has taken over in turn.
	i.Promoted = s.Instance == nil || View{Status: s}.Serving() != s.Instance
	back.Instance, back.LastExit, back.Previous = &i, s.LastExit, s.Previous
	if last := s.LastInstance(); last != i.ID {
		back.Previous = last // for its logs
	}
	if s.Instance != nil {
		tried := *s.Instance
		demote(&tried)
		back.Kept = &Status{State: s.State, Reason: s.Reason, Since: s.Since, Run: s.Run, Instance: &tried}
	}
	return back
}

// Outcome is how a trial stands.
type Outcome string

// The outcomes.
const (
	UnderWay Outcome = "under_way" // it is not known yet
	Passed   Outcome = "passed"    // its instance is healthy
	Deferred Outcome = "deferred"  // it cannot be started, for a reason outside of it
	Defeated Outcome = "defeated"  // its instance has ended before it was healthy
)

// Verdict is what is known of a trial.
type Verdict struct {
	Outcome Outcome
	// Instance is the one that passed, or was defeated; empty of one that never was.
	Instance string
	// Reason says why, in words; Cause is that of the exit of a defeated one.
	Reason, Cause string
	// Since is when the workload came into its state.
	Since time.Time
}

// Tried tells how the trial that is wanted stands.
func (v View) Tried() Verdict {
	s := v.Status
	verdict := Verdict{Outcome: UnderWay, Reason: s.Reason, Since: s.Since}
	if s.Run != v.Desired.Run {
		return verdict
	}
	i, e := s.Instance, s.LastExit
	switch {
	case i != nil && i.Healthy && !i.Ended:
		verdict.Outcome, verdict.Instance = Passed, i.ID
	case s.State == Completed && e != nil: // none does that before it is healthy
		verdict.Outcome, verdict.Instance = Passed, e.Instance
	case s.State == Failed:
		verdict.Outcome = Defeated
		if e != nil && e.Reason == s.Reason { // not the kept one's
			verdict.Instance, verdict.Cause = e.Instance, e.Cause
		}
	case s.State == BackingOff && !v.Crashed():
		verdict.Outcome = Deferred
	}
	return verdict
}
