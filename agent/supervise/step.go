package supervise

import (
	"cmp"
	"fmt"
	"time"
)

// Action is what the supervisor's goroutine does for a workload.
type Action string

// The actions. Each one's outcome comes back through the functions of
// outcome.go; until then the same decision is not carried out twice.
const (
	Wait    Action = ""         // nothing until the wake time or an outcome
	Inspect Action = "inspect"  // compare a recorded instance with containerd
	Start   Action = "start"    // resolve, create and start the instance
	Abort   Action = "abort"    // call off a start
	Promote Action = "promote"  // have the instance take over from the kept one
	PreStop Action = "pre_stop" // run the command that comes before the stop signal
	Signal  Action = "signal"   // send the stop signal
	Kill    Action = "kill"     // send SIGKILL
	Delete  Action = "delete"   // delete what is left of the instance
	Forget  Action = "forget"   // delete the record
)

// killAgain is how long SIGKILL is given before it is sent again: a process in
// uninterruptible sleep ends late, a shim that was busy may have dropped it.
const killAgain = 10 * time.Second

// Chance is what a step takes from outside besides time, so that it stays a
// function: an ID for an instance that it may plan, and a number in [0,1) for jitter.
type Chance struct {
	ID     string
	Jitter float64
}

// Step decides what to do next: the new status, the action, and when to look
// again if nothing happens before (zero: never).
func Step(d Desired, s Status, now time.Time, c Chance) (Status, Action, time.Time) {
	if mayGoBack(d, s) {
		s = goBack(s)
	}
	if s.Instance == nil {
		return idle(d, s, now, c)
	}
	i := *s.Instance
	s.Instance = &i
	if i.RetryAt.After(now) && !i.Promoting {
		return s, Wait, i.RetryAt
	}
	switch {
	case i.Unverified:
		return s, Inspect, time.Time{}
	case i.Ended:
		return s, Delete, time.Time{}
	case i.StartedAt.IsZero():
		return starting(d, s, now)
	case i.StopSince.IsZero():
		return running(d, s, now, c)
	default:
		return stopping(d, s, now)
	}
}

// wanted says whether the present instance is the one that should run.
func wanted(d Desired, s Status) bool {
	return d.Goal == Run && s.Run == d.Run
}

// idle steps a workload that has no container.
func idle(d Desired, s Status, now time.Time, c Chance) (Status, Action, time.Time) {
	switch {
	case s.Kept != nil && (d.Goal == Stop || d.Goal == Remove):
		return enter(s, Stopping, stopReason(d, s), now), Wait, time.Time{}
	case d.Goal == Remove:
		return enter(s, Stopping, "being removed", now), Forget, time.Time{}
	case d.Goal == Pause && !finished(d, s):
		return paused(d, s, now), Wait, time.Time{}
	case d.Goal == Stop:
		if !s.State.Ended() {
			s = enter(s, Stopped, "stopped on request", now)
		}
		return ended(d, s, now)
	case inTheWay(d, s):
		return enter(s, Pending, stopReason(d, s), now), Wait, time.Time{}
	case s.Run != d.Run:
		return plan(d, fresh(d, s), now, c), Start, time.Time{}
	case s.State.Ended() && !cutShort(d, s):
		return ended(d, s, now)
	case s.State == BackingOff && s.NextTry.After(now):
		return s, Wait, s.NextTry
	default:
		return plan(d, s, now, c), Start, time.Time{}
	}
}

// ended waits until a finished job may be forgotten.
func ended(d Desired, s Status, now time.Time) (Status, Action, time.Time) {
	s = observe(d, s)
	if !d.Policy.Job || d.Policy.TTL < 0 {
		return s, Wait, time.Time{}
	}
	if due := s.Since.Add(d.Policy.TTL); due.After(now) {
		return s, Wait, due
	}
	return s, Forget, time.Time{}
}

// fresh starts the counts of a new run.
func fresh(d Desired, s Status) Status {
	s.Run = d.Run
	s.Attempts, s.Failures = 0, 0
	s.NextTry = time.Time{}
	if s.ObservedGeneration != d.Generation {
		s.Restarts = 0
	}
	return s
}

// plan decides on an instance. The caller persists it before it is created, so
// that every container has a record that explains it.
func plan(d Desired, s Status, now time.Time, c Chance) Status {
	s.Attempts++
	s.NextTry = time.Time{}
	s.Instance = &Instance{ID: c.ID, Revision: d.Revision, CreatedAt: now}
	return enter(s, Creating, "", now)
}

// starting steps a workload whose instance is being created.
func starting(d Desired, s Status, now time.Time) (Status, Action, time.Time) {
	if wanted(d, s) {
		return s, Start, time.Time{}
	}
	return enter(s, Stopping, stopReason(d, s), now), Abort, time.Time{}
}

// observe notes a generation that asks for nothing new.
func observe(d Desired, s Status) Status {
	if s.Run == d.Run && s.ObservedGeneration != 0 {
		s.ObservedGeneration = d.Generation
	}
	return s
}

// running steps a workload whose container runs.
func running(d Desired, s Status, now time.Time, c Chance) (Status, Action, time.Time) {
	if !wanted(d, s) {
		return replace(d, s, now, c)
	}
	s = delivered(d, observe(d, s))
	if s.Reason == awaitsKept {
		s.Reason = "" // it is wanted again
	}
	if !s.State.Runs() && s.Instance.Ending == nil { // an earlier agent was stopping it; see adopted
		s = enter(s, Running, "", now)
	}
	s, due := try(d, s, now)
	if s.Instance.Ending != nil {
		return stop(d, s, s.Instance.Ending.Reason, now)
	}
	if s.Kept != nil {
		s, action, next := succeed(d, s, now)
		return s, action, earliest(next, due)
	}
	if !d.Policy.Job || d.Policy.Timeout <= 0 {
		return s, Wait, due
	}
	due = s.Instance.StartedAt.Add(d.Policy.Timeout)
	if due.After(now) {
		return s, Wait, due
	}
	s.Instance.Ending = &Ending{TimedOut, fmt.Sprintf("timed out after %s", d.Policy.Timeout)}
	return stop(d, s, s.Instance.Ending.Reason, now)
}

// stop begins to end the container.
func stop(d Desired, s Status, reason string, now time.Time) (Status, Action, time.Time) {
	s.Instance.StopSince = now
	demote(s.Instance)
	return stopping(d, enter(s, Stopping, reason, now), now)
}

// stopping asks the container to end, and kills it once its grace is over.
func stopping(d Desired, s Status, now time.Time) (Status, Action, time.Time) {
	i := s.Instance
	grace := i.Revision.Policy.Grace
	if d.Grace != nil {
		grace = *d.Grace
	}
	due := earliest(i.StopSince.Add(grace), d.KillBy)
	switch {
	case due.After(now) && i.Signalled:
		return s, Wait, due
	case due.After(now) && i.Revision.Policy.PreStop && !i.PreStopped:
		// The grace is for both, as in Kubernetes.
		return s, PreStop, due
	case due.After(now):
		// due: a signal that hangs is not waited for longer.
		return s, Signal, due
	case i.KillAt.After(now):
		return s, Wait, i.KillAt
	default:
		return s, Kill, time.Time{}
	}
}

// stopReason says why an instance that runs is not wanted.
func stopReason(d Desired, s Status) string {
	switch d.Goal {
	case Stop:
		return "stopped on request"
	case Remove:
		return "being removed"
	case Pause:
		return cmp.Or(d.Paused, "the node is stopping")
	}
	if d.Run < s.Run {
		return "going back to what ran before"
	}
	return "being replaced"
}

// enter changes state and reason, and notes since when.
func enter(s Status, state State, reason string, now time.Time) Status {
	if s.State != state {
		s.Since = now
	}
	s.State, s.Reason = state, reason
	return s
}
