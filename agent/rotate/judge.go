package rotate

import (
	"google.golang.org/protobuf/types/known/timestamppb"

	statev1 "github.com/purserd/purser/api/purser/state/v1"
)

// judge decides what follows a trial's result.
func (d *draft) judge(w *Workload) {
	t := w.Trial
	late := d.deferrals[w.Key].until.After(d.now)
	condemned := d.book.against(Who{Environment: w.Environment}, t.GetPins(), t.GetSet())
	switch {
	case t.Result == Ending:
		d.moves(w, t.Trial)
		d.stand(w, Waiting, "what it had before is put back")
	case !w.Moves:
		d.withdraw(w, ResultSuperseded, "it is not to run now")
	case condemned != nil:
		d.withdraw(w, ResultBackedOut, verdictText(condemned))
	case d.book.holds(w.Environment, t.GetSet()):
		d.withdraw(w, ResultSuperseded, "it is held now")
	case t.Result == Well:
		d.commit(w)
	case late && (t.Result == Failed || t.Result == Lost || w.outdated()):
		d.withdraw(w, ResultDeferred, d.deferrals[w.Key].reason)
	case t.Alone && t.GetJudges() && t.GetTry() == 1 && d.deferrals[w.Key].pause == 0:
		d.comeBack(w)
	case w.outdated() && d.supersede(w):
	case t.Result == Failed && t.GetTry() < tries && t.GetMode() != ModeRestart:
		d.putBack(w)
	case t.Result == Failed && t.GetTry() < tries:
		d.again(w, t.GetTry()+1)
	case t.Result == Failed:
		d.giveUp(w)
	case t.Result == Lost:
		d.again(w, t.GetTry())
	case t.Result == Deferred && !d.waitsUntil(w).After(d.now):
		d.defers(w.Key, t.Reason, d.now)
		d.withdraw(w, ResultDeferred, t.Reason)
	default:
		d.goesOn(w)
	}
}

// comeBack has what a workload is known to be well with be started again, as what served has
// ended and nobody knows yet whether what is tried will serve. Once: should it end again it
// is what is tried that is waited for.
func (d *draft) comeBack(w *Workload) {
	reason := "the instance that served has ended, and is started again first"
	d.defers(w.Key, reason, d.now)
	d.withdraw(w, ResultDeferred, reason)
}

// putBack has the files of before be put back, and what has failed be tried once more then:
// in the same instance, or in another one if it has ended by its files.
func (d *draft) putBack(w *Workload) {
	d.moves(w, w.Trial.Trial)
	d.add(Action{Kind: Withdraw, Workload: w, Again: true, Reason: w.Trial.Reason, Result: ResultBackedOut})
}

// goesOn leaves a trial under way.
func (d *draft) goesOn(w *Workload) {
	t := w.Trial
	d.moves(w, t.Trial)
	d.wake(t.Next)
	if t.Result == Deferred {
		d.wake(d.waitsUntil(w))
	}
	if t.Reason != "" {
		d.stand(w, Rotating, "%s: %s", course(t.Trial), t.Reason)
	}
}

// moves counts a trial, and notes who goes first.
func (d *draft) moves(w *Workload, t *statev1.Trial) {
	d.moving++
	if t.GetCanary() {
		d.canaries[group(w.Who, t.GetSet(), t.GetKeys())] = w.Who.Workload
	}
	d.stand(w, Rotating, "%s", course(t))
}

func (d *draft) withdraw(w *Workload, result, reason string) {
	d.stand(w, Waiting, "%s", reason)
	d.goesBack(Action{Kind: Withdraw, Workload: w, Result: result, Reason: reason})
}

// commit has what was tried be what the workload runs on, and lets others follow.
func (d *draft) commit(w *Workload) {
	t := w.Trial
	a := Action{Kind: Commit, Workload: w, Result: ResultMoved}
	if t.GetCanary() {
		a.Proof = &statev1.Proof{Environment: w.Environment, App: w.App, Set: t.GetSet(), Keys: t.GetKeys(), At: timestamppb.New(d.now)}
	}
	if w.Unproven {
		a.Result = ResultUnverified
	}
	delete(d.deferrals, w.Key)
	d.stand(w, Current, "")
	d.add(a)
}

// again tries the same versions once more.
func (d *draft) again(w *Workload, try uint32) {
	d.begin(w, &statev1.Trial{
		Pins: w.Trial.GetPins(), Set: w.Trial.GetSet(), Keys: w.Trial.GetKeys(), Mode: d.modeOf(w), Try: try,
		Canary: w.Trial.GetCanary(), Judges: w.Trial.GetJudges(), Asked: w.Trial.GetAsked(), BeganAt: timestamppb.New(d.now), NoticedAt: w.Trial.GetNoticedAt(),
	})
}

// modeOf is how the versions that a workload tries are tried once more. Files may have lost
// the instance that they were for.
func (d *draft) modeOf(w *Workload) string {
	if w.Trial.GetMode() != ModeRestart && w.Move != nil {
		return w.Move.Mode
	}
	return ModeRestart
}

// supersede gives up a trial of what is not wanted any more, once it is known what is
// instead, and has who went first go first again.
func (d *draft) supersede(w *Workload) bool {
	if w.Unknown != "" {
		return false
	}
	if w.Move == nil || w.Move.Broken != "" || d.against(w) != "" {
		d.withdraw(w, ResultSuperseded, "what it tried is not the latest any more")
		return true
	}
	if due := d.due(w); due.After(d.now) {
		if again := w.Trial.Result == Failed && w.Trial.GetTry() < tries || w.Trial.Result == Lost; again {
			d.withdraw(w, ResultSuperseded, "there is a newer version")
			return true
		}
		d.wake(due)
		return false
	}
	// Files are put back before others come, and an instance is not one of two trials.
	files := w.Trial.GetMode() != ModeRestart || w.Move.Mode != ModeRestart
	if !w.Trial.GetCanary() || d.leads[w.group()] || d.canaries[w.group()] != "" || files {
		d.withdraw(w, ResultSuperseded, "there is a newer version")
		return true
	}
	d.begin(w, d.trial(w, true, w.Trial.GetJudges()))
	return true
}

// giveUp goes back to what the workload ran on, and notes for whom the versions are bad.
func (d *draft) giveUp(w *Workload) {
	t := w.Trial
	v := &statev1.Verdict{Environment: w.Environment, Set: t.GetSet(), Reason: t.Reason, At: timestamppb.New(d.now), TriedBy: w.Who.Workload}
	switch {
	case !t.GetJudges():
		v.App, v.Workload = w.App, w.Who.Workload
	case !t.GetCanary():
		v.App = w.App
	}
	d.stand(w, Held, "%s", verdictText(v))
	d.goesBack(Action{Kind: Withdraw, Workload: w, Verdict: v, Reason: t.Reason, Result: ResultBackedOut})
}

// goesBack withdraws a trial. Its workload counts as one that moves, here as long as nobody
// has seen it on its way back.
func (d *draft) goesBack(a Action) {
	d.moving++
	d.add(a)
}

// against is what keeps a workload from its move, in words; empty when nothing does.
func (d *draft) against(w *Workload) string {
	if v := d.book.against(w.Who, w.Move.Pins, w.Move.Set); v != nil {
		return verdictText(v)
	}
	if s := d.book.stay(w); s != nil {
		return stayText(s, versionIn(w.Move.Set, s.GetSecret()))
	}
	return ""
}
