package agent

import (
	"fmt"
	"time"

	"github.com/purserd/purser/agent/rotate"
	"github.com/purserd/purser/agent/supervise"
	"github.com/purserd/purser/api/launchspec"
	purserv1 "github.com/purserd/purser/api/purser/v1"
)

// trialOf is how a workload's trial stands.
func (s *survey) trialOf(sub subject) *rotate.Trial {
	t := &rotate.Trial{Trial: sub.record.GetTrial()}
	switch {
	case t.GetEnding() != "":
		t.Result = rotate.Ending
	case t.GetMode() == rotate.ModeRestart:
		sub.judgeInstance(t)
	default:
		s.judgeFiles(sub, t)
	}
	return t
}

// judgeInstance tells what became of the instance that tries other versions.
func (sub subject) judgeInstance(t *rotate.Trial) {
	if sub.view.Desired.Run != t.GetRun() {
		return // the supervisor has not heard of it yet
	}
	t.Alone = alone(sub.view)
	switch v := sub.view.Tried(); {
	case v.Outcome == supervise.Passed:
		t.Result = rotate.Well
	case v.Outcome == supervise.Defeated && (v.Cause == supervise.Lost || v.Cause == supervise.Rebooted):
		// That is no fault of the versions.
		t.Result, t.Reason = rotate.Deferred, v.Reason
	case v.Outcome == supervise.Defeated:
		t.Result, t.Reason = rotate.Failed, v.Reason
	case v.Outcome == supervise.Deferred:
		t.Result, t.Reason, t.Patient = rotate.Deferred, v.Reason, true
	}
}

// alone says whether nothing serves beside an instance that is tried in a rolling change, as
// what did has ended.
func alone(v supervise.View) bool {
	s := v.Status
	return v.Desired.Policy.Rolling && s.Run == v.Desired.Run && s.Attempts > 0 && s.Kept == nil && v.Serving() == nil
}

// judgeFiles tells how an instance does whose files are replaced.
func (s *survey) judgeFiles(sub subject, t *rotate.Trial) {
	st := sub.view.Status
	i, seen := st.Instance, s.seen(sub, t)
	there := i != nil && i.ID == t.GetInstance() && !i.Ended
	switch {
	case there && i.Unverified:
	case t.GetDeliveredAt() == nil && !there:
		t.Result = rotate.Lost
	case t.GetDeliveredAt() == nil && seen.failed != "":
		t.Result, t.Reason, t.Patient = rotate.Deferred, seen.failed, true
	case t.GetDeliveredAt() == nil:
	case !there:
		t.Result, t.Reason = endOf(st, t.GetInstance())
	case !i.StopSince.IsZero() || i.Ending != nil:
		t.Next = s.now.Add(time.Second) // how it ends is known in a moment
	case sub.view.Ready():
		since := seen.at
		if st.Since.After(since) {
			since = st.Since
		}
		if t.Next = since.Add(filesProven(sub.record.GetSpec())); !t.Next.After(s.now) {
			t.Result = rotate.Well
		}
	default:
		timeout := launchspec.HealthTimeout(sub.record.GetSpec())
		if t.Next = seen.at.Add(timeout); !t.Next.After(s.now) {
			t.Result, t.Reason = rotate.Failed, fmt.Sprintf("not ready within %s (rotation.health_timeout)", timeout)
		}
	}
}

// seen is what is known of the delivery of a trial's files. Of what an earlier agent has
// delivered it counts how it does since this one looks: what was meanwhile nobody knows, and
// the clock may have been set.
func (s *survey) seen(sub subject, t *rotate.Trial) delivery {
	d := s.deliveries[sub.key]
	if t.GetDeliveredAt() == nil || !d.at.IsZero() {
		return d
	}
	d.at = t.GetDeliveredAt().AsTime()
	if i := sub.view.Status.Instance; i != nil && !i.AdoptedAt.IsZero() {
		d.at = i.AdoptedAt
	}
	return d
}

// filesProven is for how long an instance has to go on with other files: for min_ready, and
// for as long as its ready probe may take to notice, which may have seen the earlier files
// alone.
func filesProven(spec *purserv1.LaunchSpec) time.Duration {
	return max(launchspec.MinReady(spec), launchspec.ReadyNotices(spec), time.Second)
}

// endOf says what the end of an instance says of its files, and how it has ended.
func endOf(st supervise.Status, instance string) (rotate.Result, string) {
	e := st.ExitOf(instance)
	switch {
	case e == nil:
		return rotate.Failed, "its container has ended"
	case e.Cause == supervise.Lost, e.Cause == supervise.Rebooted:
		return rotate.Deferred, e.Reason // no fault of the versions
	}
	return rotate.Failed, e.Reason
}
