package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/purserd/purser/agent/rotate"
	"github.com/purserd/purser/api/launchspec"
	statev1 "github.com/purserd/purser/api/purser/state/v1"
	purserv1 "github.com/purserd/purser/api/purser/v1"
	"github.com/purserd/purser/failpoint"
	"github.com/purserd/purser/inject/audit"
)

// begin has a workload try other versions of its secrets.
func (r *rotator) begin(ctx context.Context, s *survey, sub subject, action rotate.Action) error {
	t := proto.CloneOf(action.Trial)
	if files(t) {
		i := sub.view.Status.Instance
		if i == nil || i.Ended {
			return errStale
		}
		t.Run, t.Instance = sub.record.GetRun(), i.ID
	} else if err := r.haveAll(ctx, sub.workload, sub.record.GetSpec()); errors.Is(err, errFetching) {
		r.planner.Await(action.Workload, t, err.Error(), time.Now())
		return nil
	} else if err != nil {
		r.putOff(sub, action, err.Error())
		return nil
	}
	err := r.write(sub, action, func(record *statev1.Workload) error {
		if s.gone(sub.environment(), t.GetSet()) || !r.agent.learnt.get().Same(s.book) {
			return errStale
		}
		if !files(t) {
			t.Run = lastRun(record) + 1
			record.TriedRun = t.Run
		} else {
			give(record, sub.view, sub.view.Status.Instance, t.GetPins())
		}
		record.Trial = t
		return nil
	})
	failpoint.Here("rotation.begun")
	switch {
	case isA[*Refusal](err):
		r.putOff(sub, action, err.Error())
		return nil
	case err != nil:
		return err
	}
	sub.tellGivenUp(sub.record, "there is a newer version")
	sub.emit(normal, "RotationBegun", "moves to %s, for %s%s: %s", setText(t.GetSet()), strings.Join(t.GetKeys(), ", "), tryText(t), modeText(t))
	if files(t) {
		r.know(sub.key, delivery{})
		r.attend(ctx, sub.workload)
	}
	return nil
}

// isA says whether an error is, or wraps, one of a type.
func isA[T error](err error) bool {
	var target T
	return errors.As(err, &target)
}

// putOff puts a move off that cannot be begun.
func (r *rotator) putOff(sub subject, action rotate.Action, reason string) {
	r.planner.Defer(action.Workload, action.Trial, reason, time.Now())
	r.agent.metrics.RotationEnded(strategyOf(sub.record), rotate.ResultDeferred, 0)
	sub.emit(warning, "RotationDeferred", "it is tried again in a while: %s", reason)
}

// setText names versions.
func setText(set []*purserv1.Pin) string {
	var parts []string
	for _, p := range set {
		parts = append(parts, fmt.Sprintf("%s version %d", p.GetSecret(), p.GetVersion()))
	}
	return strings.Join(parts, ", ")
}

func tryText(t *statev1.Trial) string {
	text := ""
	if t.GetCanary() {
		text = ", first of its app"
	}
	if t.GetTry() > 1 {
		text += fmt.Sprintf(", try %d", t.GetTry())
	}
	return text
}

func modeText(t *statev1.Trial) string {
	switch t.GetMode() {
	case rotate.ModeSignal:
		return "its files are replaced, and it is sent a signal"
	case rotate.ModeRefresh:
		return "its files are replaced"
	}
	return "another container is made"
}

// strategyOf is how a workload moves, for metrics.
func strategyOf(r *statev1.Workload) string {
	if mode := r.GetTrial().GetMode(); mode == rotate.ModeSignal || mode == rotate.ModeRefresh {
		return mode
	}
	return launchspec.Strategy(r.GetSpec())
}

// commit has what was tried be what a workload runs on from now on.
func (r *rotator) commit(ctx context.Context, s *survey, sub subject, action rotate.Action) error {
	t := sub.record.GetTrial()
	err := r.write(sub, action, func(record *statev1.Workload) error {
		if !r.agent.learnt.get().Same(s.book) {
			return errStale // it may be held by now
		}
		if files(t) && !goesOn(sub.workload, t.GetInstance()) {
			return errStale // what runs now has the files of before
		}
		record.Pins, record.Trial = t.GetPins(), nil
		if t.GetMode() == rotate.ModeRestart {
			record.Run = t.GetRun()
		} else {
			record.DeliveredTo = t.GetInstance()
		}
		return nil
	})
	failpoint.Here("rotation.committed")
	if err != nil {
		return err
	}
	took := elapsed(t.GetBeganAt())
	r.agent.metrics.RotationEnded(strategyOf(sub.record), action.Result, took)
	text := ""
	if action.Result == rotate.ResultUnverified {
		text = "; unverified, as it has no ready probe"
	}
	sub.emit(normal, "Rotated", "runs on %s, after %s%s", setText(t.GetSet()), took.Round(100*time.Millisecond), text)
	r.agent.recordWish(ctx, audit.Rotate, sub.workload.record())
	s.propagated(sub, t)
	return nil
}

// propagated measures how long a change took to reach all, if this was the last of them.
func (s *survey) propagated(last subject, t *statev1.Trial) {
	if t.GetNoticedAt() == nil {
		return
	}
	for key, sub := range s.subjects {
		r := sub.workload.record()
		if key == last.key || r.GetEnvironment() != last.record.GetEnvironment() || !sub.moves() || launchspec.Manual(r.GetSpec()) {
			continue
		}
		for _, p := range t.GetSet() {
			if slices.ContainsFunc(r.GetTrial().GetSet(), func(q *purserv1.Pin) bool { return samePin(p, q) }) {
				return // it tries it yet, or its commit is the next
			}
			if from := versionOf(r.GetPins(), p.GetSecret()); from != 0 && from < p.GetVersion() && s.standing(key).State != rotate.Current {
				return // somebody is to move yet
			}
		}
	}
	s.agent.metrics.Propagated(elapsed(t.GetNoticedAt()))
}

// elapsed is how long something on record is ago: not less than nothing, where the clock was
// put back since.
func elapsed(at *timestamppb.Timestamp) time.Duration { return max(0, time.Since(at.AsTime())) }

// withdraw has a workload go back to what it ran on. Where files were replaced that is
// written down first and done then, so that nobody who finds them half way takes them for
// proven.
func (r *rotator) withdraw(sub subject, action rotate.Action) error {
	t := sub.record.GetTrial()
	if !files(t) {
		return r.endTrial(sub, action, giveUpTrial)
	}
	err := r.endTrial(sub, action, func(record *statev1.Workload) {
		if record.Trial.Ending = endBackOut; action.Again {
			record.Trial.Ending = endAgain
		}
	})
	r.poke() // which has the files seen to
	return err
}

// endTrial writes that a trial is over, and tells of it.
func (r *rotator) endTrial(sub subject, action rotate.Action, end func(*statev1.Workload)) error {
	t := sub.record.GetTrial()
	err := r.write(sub, action, func(record *statev1.Workload) error {
		end(record)
		return nil
	})
	failpoint.Here("rotation.withdrawn")
	if err != nil {
		return err
	}
	if t.GetMode() == rotate.ModeRestart {
		r.returning[sub.key] = time.Now().Add(launchspec.HealthTimeout(sub.record.GetSpec()))
	}
	if action.Again {
		sub.emit(warning, "RotationFailed", "the files of before are put back, and what failed is tried once more: %s", action.Reason)
		return nil
	}
	r.agent.metrics.RotationEnded(strategyOf(sub.record), action.Result, elapsed(t.GetBeganAt()))
	switch action.Result {
	case rotate.ResultBackedOut:
		sub.emit(warning, "BackedOut", "goes back to %s: %s", pinsText(sub.record.GetPins()), action.Reason)
	case rotate.ResultDeferred:
		sub.emit(warning, "RotationDeferred", "goes back to %s, and tries again in a while: %s", pinsText(sub.record.GetPins()), action.Reason)
	default:
		sub.emit(normal, "RotationSuperseded", "does not move to %s: %s", setText(t.GetSet()), action.Reason)
	}
	r.tellVerdict(action.Verdict)
	return nil
}

func pinsText(pins []*purserv1.Pin) string { return strings.TrimPrefix(onPins(pins), " on ") }

// tellVerdict tells of whom a verdict keeps from moving.
func (r *rotator) tellVerdict(v *statev1.Verdict) {
	if v == nil {
		return
	}
	for _, p := range v.GetSet() {
		switch {
		case v.GetApp() == "":
			r.agent.emit(warning, "SecretQuarantined", v.GetEnvironment(), p.GetSecret(), "%s: workload %s failed with it: %s; nobody moves there before there is a newer version, or purser secret retry -E %s %s",
				setText(v.GetSet()), v.GetTriedBy(), v.GetReason(), v.GetEnvironment(), p.GetSecret())
		case v.GetWorkload() == "":
			r.agent.emit(warning, "RotationHalted", v.GetEnvironment(), p.GetSecret(), "%s: workload %s failed with it: %s; nobody else of app %s moves there before there is a newer version, or purser secret retry -E %s %s",
				setText(v.GetSet()), v.GetTriedBy(), v.GetReason(), v.GetApp(), v.GetEnvironment(), p.GetSecret())
		}
	}
}

// condemn notes that versions are of no use, without a trial.
func (r *rotator) condemn(sub subject, action rotate.Action) error {
	r.agent.writing.Lock()
	defer r.agent.writing.Unlock()
	if sub.workload.record() != sub.record {
		return errStale
	}
	if err := r.rewriteBook(action.Learn); err != nil {
		return err
	}
	if action.Verdict.GetWorkload() != "" {
		sub.emit(warning, "RotationFailed", "cannot move to %s: %s", setText(action.Verdict.GetSet()), action.Reason)
	}
	r.tellVerdict(action.Verdict)
	return nil
}
