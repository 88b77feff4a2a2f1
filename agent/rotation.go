package agent

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/purserd/purser/agent/rotate"
	"github.com/purserd/purser/agent/supervise"
	"github.com/purserd/purser/api/launchspec"
	statev1 "github.com/purserd/purser/api/purser/state/v1"
	purserv1 "github.com/purserd/purser/api/purser/v1"
	"github.com/purserd/purser/failpoint"
	"github.com/purserd/purser/inject/audit"
)

// begin has a workload try other versions of its secrets.
func (r *rotator) begin(ctx context.Context, s *survey, sub subject, action rotate.Action) error {
	t := proto.CloneOf(action.Trial)
	files := t.GetMode() != rotate.ModeRestart
	if files {
		t.Run, t.Instance = sub.record.GetRun(), sub.view.Status.Instance.ID
		r.setBusy(sub.key, true)
	}
	err := r.write(sub, action, func(record *statev1.Workload) error {
		if s.outdated(sub.environment(), t.GetSet()) {
			return errStale
		}
		if !files {
			t.Run = lastRun(record) + 1
			record.TriedRun = t.Run
		}
		record.Trial = t
		return nil
	})
	failpoint.Here("rotation.begun")
	var refused *Refusal
	if err != nil && files {
		r.setBusy(sub.key, false)
	}
	switch {
	case errors.As(err, &refused):
		r.defer_(sub, err.Error())
		return nil
	case err != nil:
		return err
	}
	sub.emit(normal, "RotationBegun", "moves to %s, for %s%s: %s", setText(t.GetSet()), strings.Join(t.GetKeys(), ", "), tryText(t), modeText(t))
	if files {
		r.working.Go(func() { r.deliver(ctx, sub.workload, t) })
	}
	return nil
}

// defer_ puts a move off that cannot be begun.
func (r *rotator) defer_(sub subject, reason string) {
	r.planner.Defer(sub.key, reason, time.Now())
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
	took := time.Since(t.GetBeganAt().AsTime())
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
		if key == last.key || sub.record.GetEnvironment() != last.record.GetEnvironment() {
			continue
		}
		if s.rotator.standing(key).State == rotate.Current {
			continue
		}
		for _, p := range t.GetSet() {
			for _, ref := range sub.record.GetSpec().GetSecrets() {
				if ref.GetName() == p.GetSecret() {
					return // somebody is to move yet
				}
			}
		}
	}
	s.agent.metrics.Propagated(time.Since(t.GetNoticedAt().AsTime()))
}

// withdraw has a workload go back to what it ran on. Where files were replaced, the earlier
// ones are put back first, so that what is on record is never better than what is.
func (r *rotator) withdraw(ctx context.Context, sub subject, action rotate.Action) error {
	t := sub.record.GetTrial()
	i := sub.view.Status.Container(t.GetInstance())
	if t.GetMode() == rotate.ModeRestart || i == nil || i.Ended {
		return r.endTrial(sub, action)
	}
	r.setBusy(sub.key, true)
	r.working.Go(func() {
		defer r.poke()
		defer r.setBusy(sub.key, false)
		if err := r.restore(ctx, sub); err != nil && ctx.Err() == nil {
			r.agent.log.Warn("cannot put back the files of secrets yet", "workload", sub.id(), "error", err)
			pause(ctx, retryPause)
			return
		}
		if err := r.endTrial(sub, action); err != nil && !errors.Is(err, errStale) {
			r.agent.log.Error("cannot end a rotation", "workload", sub.id(), "error", err)
			pause(ctx, retryPause)
		}
	})
	return nil
}

// pause waits for a while.
func pause(ctx context.Context, long time.Duration) {
	select {
	case <-time.After(long):
	case <-ctx.Done():
	}
}

// endTrial writes that a trial is over, and tells of it.
func (r *rotator) endTrial(sub subject, action rotate.Action) error {
	t := sub.record.GetTrial()
	if err := r.write(sub, action, func(record *statev1.Workload) error {
		giveUpTrial(record)
		return nil
	}); err != nil {
		return err
	}
	failpoint.Here("rotation.withdrawn")
	r.agent.metrics.RotationEnded(strategyOf(sub.record), action.Result, time.Since(t.GetBeganAt().AsTime()))
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

func (r *rotator) setBusy(key string, busy bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.busy[key] = busy; !busy {
		delete(r.busy, key)
		return
	}
	delete(r.delivered, key)
	delete(r.failed, key)
}

// deliver replaces the files of a trial's instance, and sends it the signal.
func (r *rotator) deliver(ctx context.Context, w *workload, t *statev1.Trial) {
	err := r.replaceFiles(ctx, w, t, t.GetPins())
	failpoint.Here("rotation.delivered")
	r.mu.Lock()
	if err != nil {
		r.failed[w.key] = err.Error()
	} else {
		r.delivered[w.key] = time.Now()
	}
	r.mu.Unlock()
	defer r.poke()
	defer r.setIdle(w.key)
	if err != nil {
		return
	}
	// So that an agent that comes after does not do it again.
	_, _, err = r.agent.rewrite(w.environment(), w.id(), func(_ *workload, record *statev1.Workload) error {
		if !proto.Equal(record.GetTrial(), t) {
			return errStale
		}
		record.Trial.DeliveredAt = timestamppb.Now()
		return nil
	})
	if err != nil && !errors.Is(err, errStale) {
		r.agent.log.Warn("cannot note that the files of secrets were replaced", "workload", w.id(), "error", err)
	}
}

func (r *rotator) setIdle(key string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.busy, key)
}

// restore puts the files back of before a trial.
func (r *rotator) restore(ctx context.Context, sub subject) error {
	err := r.replaceFiles(ctx, sub.workload, sub.record.GetTrial(), sub.record.GetPins())
	if errors.Is(err, supervise.ErrGone) {
		return nil
	}
	return err
}

// deliveryTime is how long the files of an instance may take to be replaced.
const deliveryTime = 30 * time.Second

// replaceFiles replaces the files of an instance by those of pins, and sends it a signal
// where the trial is of that kind.
func (r *rotator) replaceFiles(ctx context.Context, w *workload, t *statev1.Trial, pins []*purserv1.Pin) error {
	ctx, cancel := context.WithTimeout(ctx, deliveryTime)
	defer cancel()
	if err := failpoint.Error("rotation.deliver"); err != nil {
		return err
	}
	if err := w.refresh(ctx, t.GetInstance(), pins); err != nil {
		return err
	}
	if t.GetMode() != rotate.ModeSignal {
		return nil
	}
	return w.sendRotationSignal(ctx, t.GetInstance())
}
