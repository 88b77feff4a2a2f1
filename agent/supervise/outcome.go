package supervise

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Outcome functions fold what an action, or the container, did into the
// status. Like Step they are pure.

// Unknown is the exit code of a container whose own is lost.
const Unknown = 255

// actionPause is how long an action that failed is held back: twice as long with
// each failure in a row, up to maxActionPause.
const (
	actionPause    = time.Second
	maxActionPause = 16 * time.Second
)

// started notes that the instance runs.
func started(s Status, got Started, at time.Time) Status {
	i := *s.Instance
	i.StartedAt, i.PID, i.ImageDigest, i.Boot, i.Addresses = at, got.PID, got.ImageDigest, got.Boot, got.Addresses
	i.Unverified, i.RetryAt, i.Holds = false, time.Time{}, 0
	s.Instance = &i
	if before := s.before(); before != "" {
		s.Previous = before
		if s.ObservedGeneration == i.Revision.Generation {
			s.Restarts++
		}
	}
	s.ObservedGeneration = i.Revision.Generation
	if i.Revision.Policy.Startup {
		return enter(s, Starting, "", at)
	}
	i.UpAt = at
	return enter(s, Running, "", at)
}

// before is the instance that ran before one that has just started; empty for none.
func (s Status) before() string {
	switch {
	case s.Kept != nil && s.Attempts <= 1:
		return s.Kept.Instance.ID
	case s.LastExit != nil:
		return s.LastExit.Instance
	}
	return ""
}

// startFailed tells what is the workload's fault from what is not.
func startFailed(d Desired, st Status, err error, now time.Time, jitter float64) Status {
	var refused *ExitError
	if errors.As(err, &refused) {
		exit := Exit{Code: refused.Code, Reason: refused.Message, Cause: Refused, FinishedAt: now, Instance: st.Instance.ID}
		return exited(d, st, exit, now, jitter)
	}
	reason := err.Error()
	if errors.Is(err, context.Canceled) && !wanted(d, st) {
		reason = calledOff
	}
	return notBefore(deferred(d, st, reason, now, jitter), err, now)
}

// maxNotBefore is how long somebody else may have us wait.
const maxNotBefore = time.Hour

// notBefore holds the next try back for as long as who refused the last one has asked
// for, as registries do.
func notBefore(s Status, err error, now time.Time) Status {
	var later interface{ NotBefore(now time.Time) time.Time }
	if s.State != BackingOff || !errors.As(err, &later) {
		return s
	}
	at := later.NotBefore(now)
	if limit := now.Add(maxNotBefore); at.After(limit) {
		at = limit
	}
	if at.After(s.NextTry) {
		s.NextTry = at
	}
	return s
}

// entered notes that a start has come to pull the image, or is done with that. A
// start that has been called off meanwhile is not brought back.
func entered(s Status, state State, reason string, now time.Time) Status {
	if s.State != Creating && s.State != Pulling {
		return s
	}
	return enter(s, state, reason, now)
}

// deferred notes that the instance could not be started for a reason that lies
// outside the workload: no containerd, no image, no secret. It counts as no
// attempt, and is tried again for ever.
func deferred(d Desired, s Status, reason string, now time.Time, jitter float64) Status {
	s = abandon(s)
	if s.Attempts > 0 {
		s.Attempts--
	}
	if !wanted(d, s) {
		return unwanted(d, s, reason, now)
	}
	s.Failures++
	return backOff(d, s, reason, now, jitter)
}

// exited notes that the container ended, and decides by the workload's policy
// what follows.
func exited(d Desired, s Status, exit Exit, now time.Time, jitter float64) Status {
	if e := s.Instance.Ending; e != nil {
		exit.Cause, exit.Reason = e.Cause, e.Reason
	}
	if exit.FinishedAt.Before(exit.StartedAt) {
		// It ended before we were told that it had started.
		exit.FinishedAt = exit.StartedAt
	}
	recalled, tried := wantedAgain(d, s), onTrial(d, s) && !completes(d, exit)
	exit.Reason = because(d, s, exit.Reason)
	s = abandon(s)
	s.LastExit = &exit
	if recalled || tried && told(s) || !wanted(d, s) && (d.Goal != Pause || !d.Policy.Job) {
		return unwanted(d, s, exit.Reason, now)
	}
	if tried {
		return enter(s, Failed, exit.Reason, now)
	}
	if d.Policy.Job {
		return jobExited(d, s, exit, now, jitter)
	}
	return serviceExited(d, s, exit, now, jitter)
}

// abandon marks the instance as one that is only to be deleted.
func abandon(s Status) Status {
	i := *s.Instance
	i.Ended, i.Unverified, i.PID, i.RetryAt, i.Holds, i.Promoting = true, false, 0, time.Time{}, 0, false
	s.Instance = &i
	return s
}

// unwanted settles a workload whose instance ended while it was not wanted.
func unwanted(d Desired, s Status, reason string, now time.Time) Status {
	switch {
	case s.Kept != nil && d.Goal == Stop:
		return enter(s, Stopping, stopReason(d, s), now)
	case d.Goal == Stop:
		return enter(s, Stopped, "stopped on request: "+reason, now)
	case d.Goal == Remove:
		return enter(s, Stopping, "being removed", now)
	case d.Goal == Pause:
		return enter(s, Pending, cmp.Or(d.Paused, "the node was stopped"), now)
	default:
		return enter(s, Pending, stopReason(d, s), now)
	}
}

func jobExited(d Desired, s Status, exit Exit, now time.Time, jitter float64) Status {
	switch {
	case exit.successful():
		return enter(s, Completed, exit.Reason, now)
	case unstartable(exit):
		return enter(s, Failed, exit.Reason, now)
	case s.Attempts > d.Policy.Retries:
		return enter(s, Failed, attempts(exit.Reason, s.Attempts), now)
	default:
		s.Failures++
		if d.Goal == Pause && d.Paused != "" {
			return paused(d, s, now)
		}
		return backOff(d, s, exit.Reason, now, jitter)
	}
}

// unstartable says whether the command could not be run at all, which another
// attempt will not change.
func unstartable(exit Exit) bool {
	return exit.Cause == Refused && (exit.Code == 126 || exit.Code == 127)
}

// successful says whether a container ended as its command wanted it to.
func (e Exit) successful() bool { return e.Code == 0 && e.Cause == Exited }

func attempts(reason string, n uint32) string {
	if n <= 1 {
		return reason
	}
	return fmt.Sprintf("%s; %d attempts failed", reason, n)
}

func serviceExited(d Desired, s Status, exit Exit, now time.Time, jitter float64) Status {
	switch {
	case d.Policy.Restart == "always", d.Policy.Restart == "on_failure" && !exit.successful():
		if healthy(d, exit) {
			s.Failures = 0
		}
		s.Failures++
		return backOff(d, s, exit.Reason, now, jitter)
	case exit.successful():
		return enter(s, Completed, exit.Reason, now)
	default:
		return enter(s, Failed, exit.Reason, now)
	}
}

// healthy says whether the instance ran for long enough that its exit is a new
// story and not the same crash again.
func healthy(d Desired, exit Exit) bool {
	return !exit.StartedAt.IsZero() && exit.FinishedAt.Sub(exit.StartedAt) >= d.Policy.BackoffMax
}

// backOff waits before the next try: backoff_min doubled with each failure in
// a row, capped at backoff_max, less up to a fifth so that workloads which
// failed together do not return together.
func backOff(d Desired, s Status, reason string, now time.Time, jitter float64) Status {
	pause := d.Policy.BackoffMin
	for n := uint32(1); n < s.Failures && pause < d.Policy.BackoffMax; n++ {
		pause *= 2
	}
	pause = min(pause, d.Policy.BackoffMax)
	pause -= time.Duration(float64(pause) * jitter / 5)
	s.NextTry = now.Add(pause)
	return enter(s, BackingOff, reason, now)
}

// rebooted notes that the container ended with the node. A service comes back whatever
// its policy, which is about what it does itself; a job has lost an attempt, and a trial
// its try: what comes back with the node is not what nobody knows to work.
func rebooted(d Desired, s Status, exit Exit, now time.Time) Status {
	if d.Policy.Job || !wanted(d, s) || onTrial(d, s) {
		return exited(d, s, exit, now, 0)
	}
	s = abandon(s)
	s.LastExit = &exit
	return enter(s, Pending, exit.Reason, now)
}

// calledOff is why a start that nobody wants any more has not come to its end.
const calledOff = "before it had started"

// aborted notes that a start was called off before it had begun.
func aborted(d Desired, s Status, now time.Time) Status {
	return unwanted(d, abandon(s), calledOff, now)
}

// preStopped notes that the command before the stop signal has ended, however.
func preStopped(s Status) Status {
	i := *s.Instance
	i.PreStopped = true
	s.Instance = &i
	return s
}

// signalled notes that the stop signal was sent.
func signalled(s Status) Status {
	i := *s.Instance
	i.Signalled, i.Holds = true, 0
	s.Instance = &i
	return s
}

// killed notes when SIGKILL is due again, should it have had no effect.
func killed(s Status, now time.Time) Status {
	i := *s.Instance
	i.KillAt = now.Add(killAgain)
	s.Instance = &i
	return s
}

// deleted notes that nothing is left of the instance.
func deleted(s Status) Status {
	s.Instance = nil
	return s
}

// held notes that an action on the instance failed and is to be tried again.
func held(s Status, now time.Time) Status {
	i := *s.Instance
	i.RetryAt = now.Add(min(actionPause<<min(i.Holds, 10), maxActionPause))
	i.Holds++
	s.Instance = &i
	return s
}

// neverStarted notes that an earlier agent had recorded an instance and not
// come to start it.
func neverStarted(s Status, now time.Time) Status {
	s = abandon(s)
	if s.Attempts > 0 {
		s.Attempts--
	}
	return enter(s, Pending, "the agent was restarted before it had started", now)
}

// adopted takes over a container that an earlier agent started.
func adopted(st Status, found Found, now time.Time) Status {
	i := *st.Instance
	if i.StartedAt.IsZero() {
		return started(st, Started{PID: found.PID, ImageDigest: i.ImageDigest, Boot: found.Boot, Addresses: found.Addresses}, now)
	}
	i.PID, i.Addresses, i.Unverified, i.AdoptedAt = found.PID, found.Addresses, false, now
	if i.UpAt.IsZero() && st.State != Starting {
		i.UpAt = i.StartedAt // an earlier purser noted none
	}
	st.Instance = &i
	// As ready as it was, until a probe says otherwise. One that was being stopped is that
	// still, so that nothing is sent to what may have had its signal. The next step sends it
	// again, as it may never have been, or has the instance run on that is wanted after all.
	return st
}

// vanished settles an instance of which nothing is left, on a node booted as given.
func vanished(d Desired, st Status, boot string, now time.Time, jitter float64) Status {
	i := st.Instance
	if i.StartedAt.IsZero() {
		return neverStarted(st, now)
	}
	exit := Exit{
		Code:       Unknown,
		Reason:     "ended while nobody watched; its exit status is unknown",
		Cause:      Lost,
		StartedAt:  i.StartedAt,
		FinishedAt: now,
		Instance:   i.ID,
	}
	if i.Boot == "" || i.Boot == boot {
		return exited(d, st, exit, now, jitter)
	}
	exit.Cause, exit.Reason = Rebooted, "the node was rebooted"
	return rebooted(d, st, exit, now)
}

// ExitReason says in words what an exit status means.
func ExitReason(code uint32) string {
	if name := unix.SignalName(syscall.Signal(code - 128)); code > 128 && name != "" {
		return fmt.Sprintf("exited with status %d (%s)", code, name)
	}
	return fmt.Sprintf("exited with status %d", code)
}
