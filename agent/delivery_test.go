package agent

import (
	"errors"
	"testing"

	"github.com/purserd/purser/agent/rotate"
	"github.com/purserd/purser/agent/supervise"
	statev1 "github.com/purserd/purser/api/purser/state/v1"
)

// Files that cannot be put back as nobody has them any more hold up nothing: the trial ends,
// or goes on in another instance.
func TestFilesThatCannotBePutBack(t *testing.T) {
	for _, ending := range []string{endBackOut, endAgain} {
		a, w := reading(t)
		a.tryFiles(t, 3)
		ask(t, a, func(r *statev1.Workload) { r.Trial.Ending = ending })
		if _, err := a.secrets.Delete("dev", "s", nil, true); err != nil {
			t.Fatal(err)
		}
		if err := a.rotator.putBack(t.Context(), w, w.record()); err != nil {
			t.Fatalf("%s: %v", ending, err)
		}
		trial := w.record().GetTrial()
		if over := trial == nil; over != (ending == endBackOut) {
			t.Errorf("%s: trial %v", ending, trial)
		}
		if trial != nil && (trial.GetMode() != rotate.ModeRestart || trial.GetEnding() != "" || trial.GetTry() != 2) {
			t.Errorf("%s: trial %v", ending, trial)
		}
	}
}

// What is tried again is tried in the same instance, if that is still there and well.
func TestWhoTriesFilesAgain(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(*supervise.Instance)
		same   bool
	}{
		"it goes on":    {func(*supervise.Instance) {}, true},
		"it has ended":  {func(i *supervise.Instance) { i.Ended = true }, false},
		"it is ended":   {func(i *supervise.Instance) { i.Ending = &supervise.Ending{} }, false},
		"it is another": {func(i *supervise.Instance) { i.ID = "next" }, false},
	} {
		t.Run(name, func(t *testing.T) {
			a, w := reading(t)
			a.tryFiles(t, 3)
			v, _ := w.supervisor.View()
			tc.change(v.Status.Instance)
			if got := a.rotator.recovers(t.Context(), w, w.record()); got != tc.same {
				t.Errorf("the same instance: %t", got)
			}
		})
	}
	a, w := reading(t)
	a.tryFiles(t, 3)
	run := w.record().GetRun()
	ask(t, a, tryAgain)
	if r := w.record(); r.Trial.GetTry() != 2 || r.Trial.GetMode() != rotate.ModeRefresh || r.Trial.GetInstance() != "of-a/f" || runOf(r) != run {
		t.Errorf("in the same: %v", r)
	}
	ask(t, a, tryAnother)
	if r := w.record(); r.Trial.GetMode() != rotate.ModeRestart || r.Trial.GetInstance() != "" || runOf(r) <= run || r.GetTriedRun() != runOf(r) {
		t.Errorf("in another: %v", r)
	}
}

// What an instance was well with that is gone by now is not taken for what runs.
func TestCommitLooksAtTheInstance(t *testing.T) {
	a, w := reading(t)
	a.tryFiles(t, 3)
	s, all := a.survey(t)
	v, _ := w.supervisor.View()
	v.Status.Instance.ID = "next"
	err := a.rotator.do(t.Context(), s, rotate.Action{Kind: rotate.Commit, Workload: all["a/f"], Result: rotate.ResultMoved})
	if !errors.Is(err, errStale) || versionOf(w.record().GetPins(), "s") != 2 {
		t.Errorf("%v, on %v", err, w.record().GetPins())
	}
}

// Nothing is remembered of workloads that are gone.
func TestDeliveriesAreForgotten(t *testing.T) {
	a, w := reading(t)
	for _, key := range []string{w.key, "gone"} {
		a.rotator.checked[key], a.rotator.deliveries[key] = checked{}, delivery{}
	}
	delete(a.rotator.attended, w.key)
	a.rotator.settle(a.rotator.plan(t.Context()))
	if len(a.rotator.checked) != 1 || len(a.rotator.deliveries) != 1 {
		t.Errorf("remembered are %v and %v", a.rotator.checked, a.rotator.deliveries)
	}
}

// A function that is no longer part of its app tries nothing any more.
func TestLeftOutTriesNothing(t *testing.T) {
	a, w := reading(t)
	a.tryFiles(t, 3)
	removals := a.leftOut("dev", "a", nil)
	if len(removals) != 1 || removals[0].record.GetTrial() != nil || w.record().GetTrial() == nil {
		t.Errorf("planned is %v", removals)
	}
}
