package supervise

import "time"

// A rolling change keeps the instance that runs while another is made, and ends it once
// that one is healthy and has taken over (Promote). The workload's state is that of the
// instance that is wanted, as ever; the kept one is a status of its own, Status.Kept,
// which goes through the same steps on its own and ends with its instance:
//
//	the new one:  creating → … → ready ─ for MinReady ─► Promote ─────────► ready
//	                                                         │
//	the kept one: ready ── serves meanwhile ─────────────────┴► stopping ─► deleted
//
// There are never more than these two.

// retire is the goal of a kept instance that is not to serve any more.
const retire Goal = "retire"

// awaitsKept is why an instance runs that is not wanted: there is a third one already.
const awaitsKept = "to be replaced once the instance before it has ended"

// keptStep decides what to do next about the kept instance.
func keptStep(d Desired, s Status, now time.Time) (Status, Action, time.Time) {
	if s.Kept == nil {
		return s, Wait, time.Time{}
	}
	k, action, next := Step(keptDesired(d, s), *s.Kept, now, Chance{})
	return withKept(s, k), action, next
}

// keptDesired is what is wanted of the kept instance.
func keptDesired(d Desired, s Status) Desired {
	d.Run, d.Revision, d.Goal, d.Trial = s.Kept.Run, s.Kept.Instance.Revision, keptGoal(d, s), false
	return d
}

// keptGoal has the kept instance run until the one that is wanted has taken over, or
// will not as it has done what it was for. All other goals are for both.
func keptGoal(d Desired, s Status) Goal {
	i := s.Instance
	promoted := i != nil && i.Promoted && !i.Ended && i.Ending == nil
	completed := s.Run == d.Run && s.State == Completed
	if d.Goal == Run && (promoted || completed || !d.Policy.Rolling) {
		return retire
	}
	return d.Goal
}

// withKept notes how far the kept instance has come.
func withKept(s, k Status) Status {
	if k.LastExit != s.Kept.LastExit && !s.endedAfterKept() {
		s.LastExit = k.LastExit
	}
	if s.Kept = &k; k.Instance == nil {
		s.Kept = nil
	}
	return s
}

// endedAfterKept says whether an instance has ended that had started after the kept one.
func (s Status) endedAfterKept() bool {
	return s.LastExit != nil && !s.LastExit.StartedAt.Before(s.Kept.Instance.StartedAt)
}

// keep has the instance go on beside another that is yet to be made, with all that is
// known of it, should that other be withdrawn.
func keep(s Status) Status {
	s.Kept = &Status{
		State: s.State, Reason: s.Reason, Since: s.Since, Run: s.Run, Instance: s.Instance,
		Attempts: s.Attempts, Failures: s.Failures, Restarts: s.Restarts, ObservedGeneration: s.ObservedGeneration,
	}
	s.Instance = nil
	return s
}

// replace steps an instance that runs and is not wanted.
func replace(d Desired, s Status, now time.Time, c Chance) (Status, Action, time.Time) {
	switch {
	case d.Goal != Run || !mayStay(d, s):
		return stop(d, s, stopReason(d, s), now)
	case s.Kept == nil:
		return idle(d, keep(s), now, c)
	case s.Instance.Promoted:
		return enter(s, s.State, awaitsKept, now), Wait, time.Time{}
	case s.serves() && !s.Kept.serves():
		return promote(s, now)
	default:
		return stop(d, s, stopReason(d, s), now)
	}
}

// mayStay says whether an instance may run beside the one that is to take its place.
func mayStay(d Desired, s Status) bool {
	return d.Policy.Rolling && s.Instance.Revision.Policy.Rolling && s.State.Runs() && s.Instance.Ending == nil
}

// inTheWay says whether the kept instance has to be gone before another is made: unless
// the change is a rolling one, and goes on.
func inTheWay(d Desired, s Status) bool {
	return s.Kept != nil && (!d.Policy.Rolling || s.Run != d.Run && !s.Kept.Instance.StopSince.IsZero())
}

// succeed has an instance that is wanted take over once it is healthy.
func succeed(d Desired, s Status, now time.Time) (Status, Action, time.Time) {
	due, serves := healthyAt(d, s)
	switch {
	case s.Instance.Promoted, s.Kept.Instance.Ended:
		return s, Wait, time.Time{}
	case !serves:
		demote(s.Instance)
		return s, Wait, time.Time{}
	case due.After(now):
		return s, Wait, due
	default:
		return promote(s, now)
	}
}

// promote has the instance take over.
func promote(s Status, now time.Time) (Status, Action, time.Time) {
	s.Instance.Promoting = true
	if s.Instance.RetryAt.After(now) {
		return s, Wait, s.Instance.RetryAt
	}
	return s, Promote, time.Time{}
}

// demote calls off that an instance takes over. One that has stays where it is.
func demote(i *Instance) {
	if i.Promoting {
		i.Promoting, i.RetryAt, i.Holds = false, time.Time{}, 0
	}
}

// promoted notes that the instance has taken over, if that was not called off.
func promoted(s Status) Status {
	i := *s.Instance
	if i.Promoting {
		i.Promoting, i.Promoted, i.RetryAt, i.Holds = false, true, time.Time{}, 0
	}
	s.Instance = &i
	return s
}

// serves says whether the instance does what it is for, as far as its probes tell. One that
// an earlier agent has left is taken for as ready as it was, until it has been looked at.
func (s Status) serves() bool {
	i := s.Instance
	if i == nil || i.Ended || !i.StopSince.IsZero() || i.Ending != nil {
		return false
	}
	return s.State == Ready || s.State == Running && !i.Revision.Policy.Ready
}
