package agent

import (
	"errors"
	"fmt"
	"time"

	"github.com/purserd/purser/agent/rotate"
	"github.com/purserd/purser/agent/supervise"
	"github.com/purserd/purser/api/launchspec"
)

// trialOf is how a workload's trial stands.
func (s *survey) trialOf(sub subject) *rotate.Trial {
	t := &rotate.Trial{Trial: sub.record.GetTrial()}
	switch {
	case s.busy[sub.key]:
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
	switch v := sub.view.Tried(); {
	case v.Outcome == supervise.Passed:
		t.Result = rotate.Well
	case v.Outcome == supervise.Defeated && (v.Cause == supervise.Lost || v.Cause == supervise.Rebooted):
		// That is no fault of the versions.
		t.Result, t.Reason = rotate.Deferred, v.Reason
	case v.Outcome == supervise.Defeated:
		t.Result, t.Reason = rotate.Failed, v.Reason
	case v.Outcome == supervise.Deferred:
		t.Result, t.Reason, t.Since = rotate.Deferred, v.Reason, t.GetBeganAt().AsTime()
	}
}

// judgeFiles tells how an instance does whose files were replaced.
func (s *survey) judgeFiles(sub subject, t *rotate.Trial) {
	st, spec := sub.view.Status, sub.record.GetSpec()
	delivered := s.delivered[sub.key]
	if delivered.IsZero() && t.GetDeliveredAt() != nil {
		delivered = t.GetDeliveredAt().AsTime()
	}
	i := st.Instance
	there := i != nil && i.ID == t.GetInstance() && !i.Ended
	switch {
	case there && i.Unverified:
	case delivered.IsZero() && s.failed[sub.key] != "":
		t.Result, t.Reason = rotate.Deferred, s.failed[sub.key]
	case delivered.IsZero():
		t.Result = rotate.Lost // an earlier agent had not come to it
	case !there:
		t.Result, t.Reason = rotate.Failed, endOf(st, t.GetInstance())
	case !i.StopSince.IsZero() || i.Ending != nil:
		t.Next = s.now.Add(time.Second) // how it ends is known in a moment
	case sub.view.Ready():
		since := delivered
		if st.Since.After(since) {
			since = st.Since
		}
		if t.Next = since.Add(sub.view.Desired.Policy.MinReady); !t.Next.After(s.now) {
			t.Result = rotate.Well
		}
	default:
		timeout := launchspec.HealthTimeout(spec)
		if t.Next = delivered.Add(timeout); !t.Next.After(s.now) {
			t.Result, t.Reason = rotate.Failed, fmt.Sprintf("not ready within %s (rotation.health_timeout)", timeout)
		}
	}
}

// endOf says how an instance has ended.
func endOf(st supervise.Status, instance string) string {
	if e := st.ExitOf(instance); e != nil {
		return e.Reason
	}
	return "its container has ended"
}

// isA says whether an error is, or wraps, one of a type.
func isA[T error](err error) bool {
	var target T
	return errors.As(err, &target)
}
