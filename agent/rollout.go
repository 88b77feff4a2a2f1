package agent

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/purserd/purser/agent/supervise"
	"github.com/purserd/purser/api/launchspec"
	statev1 "github.com/purserd/purser/api/purser/state/v1"
	purserv1 "github.com/purserd/purser/api/purser/v1"
	"github.com/purserd/purser/failpoint"
	"github.com/purserd/purser/metrics"
)

// A rollout is a change of the launch spec of a service that ran well. Its record has a
// fallback then, and its instance is on trial (package supervise) as one is that tries other
// versions of secrets:
//
//	new spec ─► on trial ─ healthy ──────────► RolledOut: the fallback is dropped
//	               │  ▲
//	               │  └─ fails, first try: once more
//	               └──── fails, second try ──► BackedOut: the fallback is in force again, and
//	                                           the spec that failed is kept to be told of
//
// What is on record as the spec is always what is in force.

// rolloutTries is how often a new spec is tried. A container that is lost is no fault of it,
// but for one that is lost more than rolloutLosses times in a try.
const (
	rolloutTries  = 2
	rolloutLosses = 3
)

// accepted is the spec that was accepted last, be it in force or backed out, and its
// generation.
func accepted(r *statev1.Workload) (*purserv1.LaunchSpec, uint64) {
	if b := r.GetBackedOut(); b != nil {
		return b.GetSpec(), b.GetGeneration()
	}
	return r.GetSpec(), r.GetGeneration()
}

// specs are those that a workload may be run by: the one in force, and the one that is gone
// back to if that fails.
func specs(r *statev1.Workload) []*purserv1.LaunchSpec {
	all := []*purserv1.LaunchSpec{r.GetSpec()}
	if f := r.GetFallback(); f != nil {
		all = append(all, f.GetSpec())
	}
	return all
}

// rollOut has a record ask for a spec that it did not before, as a generation. What runs
// well is kept to go back to.
func (w *workload) rollOut(record *statev1.Workload, spec *purserv1.LaunchSpec, generation uint64) {
	record.Fallback = w.fallback(spec)
	if f := record.Fallback; f != nil && files(record.GetTrial()) {
		leaveFiles(record)
		f.Run, f.DeliveredTo = record.GetRun(), ""
	}
	record.Spec, record.Generation, record.BackedOut = spec, generation, nil
}

// fallback is what a workload goes back to should a new spec of it fail; nil for nothing, as
// it does not run well, or one of the two is no service that is kept running.
func (w *workload) fallback(spec *purserv1.LaunchSpec) *statev1.Fallback {
	r := w.record()
	switch {
	case !keptRunning(spec) || !keptRunning(r.GetSpec()) || r.GetGoal() != string(supervise.Run):
		return nil
	case r.GetFallback() != nil:
		f := proto.CloneOf(r.GetFallback())
		f.Try, f.Losses = 1, 0
		return f
	case !w.runsWell():
		return nil
	}
	return &statev1.Fallback{
		Spec: r.GetSpec(), Generation: r.GetGeneration(), Pins: r.GetPins(), Run: r.GetRun(), DeliveredTo: r.GetDeliveredTo(), Try: 1,
	}
}

// keptRunning says whether a spec is of a service that is started again whenever it ends.
func keptRunning(spec *purserv1.LaunchSpec) bool {
	return !launchspec.IsJob(spec) && launchspec.RestartPolicy(spec) != launchspec.RestartNever
}

// runsWell says whether a workload does what it is for on what is on record, as far as is
// known, or did before it began to try other versions of its secrets.
func (w *workload) runsWell() bool {
	if t := w.record().GetTrial(); t != nil {
		return t.GetJudges() || t.GetAsked()
	}
	v, _ := w.supervisor.View()
	return v.Serving() != nil && v.Status.Failures == 0
}

// stepRollouts carries out what follows from how new specs do, and says how many have come
// a step further.
func (r *rotator) stepRollouts() (done int, err error) {
	for _, w := range r.agent.rollouts() {
		went, failed := r.stepRollout(w)
		if went {
			done++
		}
		err = errors.Join(err, failed)
	}
	return done, err
}

// rollouts are the workloads of whose spec it is not known yet how it does.
func (a *Agent) rollouts() []*workload {
	a.mu.RLock()
	defer a.mu.RUnlock()
	return slices.DeleteFunc(slices.Collect(maps.Values(a.workloads)), func(w *workload) bool {
		record := w.record()
		return record.GetFallback() == nil || record.GetGoal() != string(supervise.Run)
	})
}

func (r *rotator) stepRollout(w *workload) (went bool, err error) {
	record := w.record()
	v, _ := w.supervisor.View()
	if v.Desired.Run != record.GetRun() || v.Desired.Goal != supervise.Run {
		return false, nil // the supervisor has not heard of it yet, or the node is paused
	}
	switch verdict := v.Tried(); {
	case verdict.Outcome == supervise.Passed:
		err = r.rolledOut(w, record)
	case verdict.Outcome != supervise.Defeated:
		return false, nil
	case verdict.Cause == supervise.Rebooted:
		err = r.rollOutAgain(w, record, verdict.Reason, func(*statev1.Fallback) {})
	case verdict.Cause == supervise.Lost && record.GetFallback().GetLosses() < rolloutLosses:
		err = r.rollOutAgain(w, record, verdict.Reason, func(f *statev1.Fallback) { f.Losses++ })
	case record.GetFallback().GetTry() < rolloutTries && !leftAlone(record, v):
		err = r.rollOutAgain(w, record, verdict.Reason, func(f *statev1.Fallback) { f.Try, f.Losses = f.Try+1, 0 })
	default:
		err = r.backOut(w, record, verdict.Reason)
	}
	if errors.Is(err, errStale) {
		return true, nil
	}
	return err == nil, err
}

// leftAlone says whether nothing serves while a new spec is tried, although what was before
// it had been kept for that.
func leftAlone(r *statev1.Workload, v supervise.View) bool {
	return launchspec.Strategy(r.GetFallback().GetSpec()) == launchspec.StrategyRolling && alone(v)
}

// rolledOut notes that a new spec has turned out well.
func (r *rotator) rolledOut(w *workload, record *statev1.Workload) error {
	f := record.GetFallback()
	if err := r.rewriteRollout(w, record, func(next *statev1.Workload) { next.Fallback = nil }); err != nil {
		return err
	}
	r.agent.metrics.RolloutEnded(metrics.Healthy)
	w.emit(normal, "RolledOut", "generation %d is healthy; generation %d is not kept to go back to any more", record.GetGeneration(), f.GetGeneration())
	r.agent.releasePins(w.environment(), f.GetPins())
	return nil
}

// rollOutAgain has another instance be made of a new spec.
func (r *rotator) rollOutAgain(w *workload, record *statev1.Workload, reason string, count func(*statev1.Fallback)) error {
	err := r.rewriteRollout(w, record, func(next *statev1.Workload) {
		renew(next)
		count(next.Fallback)
	})
	if err == nil {
		w.emit(warning, "RolloutFailed", "generation %d is tried once more before the workload goes back to generation %d: %s", record.GetGeneration(), record.GetFallback().GetGeneration(), reason)
	}
	return err
}

// backOut has a workload run again on what it did before its new spec.
func (r *rotator) backOut(w *workload, record *statev1.Workload, reason string) error {
	f := record.GetFallback()
	err := r.rewriteRollout(w, record, func(next *statev1.Workload) {
		next.BackedOut = &statev1.BackedOut{Spec: next.Spec, Generation: next.Generation, Reason: reason, At: timestamppb.New(time.Now())}
		next.TriedRun = lastRun(next)
		next.Spec, next.Generation, next.Pins, next.Run, next.DeliveredTo = f.GetSpec(), f.GetGeneration(), f.GetPins(), f.GetRun(), f.GetDeliveredTo()
		next.Fallback = nil
	})
	if err != nil {
		return err
	}
	r.agent.metrics.RolloutEnded(metrics.BackedOut)
	w.emit(warning, "BackedOut", "goes back to generation %d%s, as generation %d has failed: %s; deploy a better one, or the same again to have it tried again",
		f.GetGeneration(), onPins(f.GetPins()), record.GetGeneration(), reason)
	r.agent.releasePins(w.environment(), record.GetPins())
	return nil
}

// rewriteRollout persists a step of a rollout, if nothing else was asked for meanwhile.
func (r *rotator) rewriteRollout(w *workload, record *statev1.Workload, change func(*statev1.Workload)) error {
	_, _, err := r.agent.rewrite(w.environment(), w.id(), func(now *workload, next *statev1.Workload) error {
		if now != w || now.record() != record {
			return errStale
		}
		change(next)
		return nil
	})
	failpoint.Here("rollout.stepped")
	if refusal := (*Refusal)(nil); errors.As(err, &refusal) && refusal.Reason == NotFound {
		return errStale
	}
	return err
}

// backedOut is the API's account of a spec that failed; nil when the one that was accepted
// last is in force.
func backedOut(r *statev1.Workload) *purserv1.BackedOut {
	b := r.GetBackedOut()
	if b == nil {
		return nil
	}
	return &purserv1.BackedOut{Generation: b.GetGeneration(), RunsGeneration: r.GetGeneration(), Reason: b.GetReason(), At: b.GetAt()}
}

// rolloutText says of what becomes of a workload's secrets that its spec comes first.
func rolloutText(r *statev1.Workload) string {
	return fmt.Sprintf("until generation %d has turned out well, which is new", r.GetGeneration())
}
