package supervise

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/purserd/purser/api/launchspec"
)

var everyProbe = []string{launchspec.ProbeStartup, launchspec.ProbeReady}

// try begins a trial, or another one in its place, commits it or withdraws it.
func (w *world) try() {
	switch {
	case w.d.Policy.Job:
	case !w.d.Trial || w.pick(3) == 0:
		w.begin()
	case w.chance():
		w.d.Trial = false
		w.base.Run, w.base.Revision = w.d.Run, w.d.Revision
	default:
		w.withdraw()
	}
}

func (w *world) begin() {
	w.runs++
	r := *w.base.Revision
	w.d.Run, w.d.Trial, w.d.Revision, w.back = w.runs, true, &r, ""
}

func (w *world) withdraw() {
	if k := w.s.ofKept(); w.d.Goal == Run && k.Run == w.base.Run && w.s.Run != k.Run && k.serves() {
		w.back = k.Instance.ID
	}
	w.d.Run, w.d.Trial, w.d.Revision = w.base.Run, false, w.base.Revision
}

// judgeTrial holds a decision against what a trial promises.
func (w *world) judgeTrial(before Status) {
	planned := before.Instance == nil && w.s.Instance != nil && !before.keeps(w.s.Instance)
	if planned && w.d.Trial && before.Run == w.d.Run && before.State == Failed {
		w.fail("a trial that has failed is started again")
	}
	if w.back == "" || w.d.Goal != Run {
		return
	}
	switch i := w.s.Container(w.back); {
	case i == nil:
		w.fail("%s is gone, which was healthy when a trial was withdrawn", w.back)
	case i.Ended || i.Ending != nil: // by itself
		w.back = ""
	case !i.StopSince.IsZero():
		w.fail("%s is stopped, which was healthy when a trial was withdrawn", w.back)
	case w.s.Instance != i || w.s.Run != w.base.Run || w.s.Attempts < 1:
		w.fail("%s is not the workload's own again: %+v", w.back, w.s)
	}
}

// judgeExit holds what follows an exit against what a trial promises.
func (w *world) judgeExit(before Status) {
	i, now := before.Instance, w.s.Instance
	if i == nil || now == nil || i.ID != now.ID || i.Ended || !now.Ended || i.StartedAt.IsZero() {
		return
	}
	own := before.Instance.Ending != nil || before.State != Stopping && i.StopSince.IsZero()
	if w.d.Trial && wanted(w.d, before) && !i.Healthy && own && w.s.State != Failed {
		w.fail("an instance on trial has ended, and is %s", w.s.State)
	}
}

// carryOn has all go well that a container runtime does, and the probes of these kinds
// pass.
func (w *world) carryOn(rounds int, probes ...string) {
	defer func(pick func(int) int) { w.pick = pick }(w.pick)
	w.pick = func(n int) int { return n - 1 }
	well := func() bool { return true }
	for range rounds {
		w.now = w.now.Add(10 * time.Second)
		w.step(well)
		w.takenOver()
		w.step(well)
		for _, id := range w.running() {
			w.pass(id, probes)
		}
	}
}

// pass has the probe of an instance pass that is due.
func (w *world) pass(id string, probes []string) {
	probe := launchspec.ProbeReady
	switch s := w.of(id); {
	case s.State == Starting:
		probe = launchspec.ProbeStartup
	case s.State == Ready || !s.Instance.Revision.Policy.Ready:
		return
	}
	if !slices.Contains(probes, probe) {
		return
	}
	w.fold(id, Wait, func(_ Desired, s Status) Status { return probed(s, Probed{Probe: probe, OK: true}, w.now) })
}

// Whatever has happened before, and whenever, a trial that is begun comes to an end, and
// once it is withdrawn the workload is back on the run before.
func TestTrialsEnd(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(func(n int) int { return rapid.IntRange(0, n-1).Draw(t, "pick") })
		w.fail = t.Fatalf
		w.d.Policy.Job = false
		w.base = w.d
		for range rapid.IntRange(1, 60).Draw(t, "things") {
			w.happen()
		}
		w.d.Goal = Run
		w.begin()
		probes := one(w, everyProbe[:1], everyProbe)
		w.carryOn(100, probes...)
		if v := (View{Desired: w.d, Status: w.s}).Tried(); v.Outcome != Passed && v.Outcome != Defeated {
			t.Fatalf("it is %s: %s, %s", v.Outcome, w.s.State, w.s.Reason)
		}
		w.withdraw()
		w.carryOn(100, probes...)
		if s := w.s; s.Run != w.base.Run || !s.State.Runs() && !s.State.Ended() || s.Kept != nil && s.serves() {
			t.Fatalf("withdrawn, it is %s in run %d, not %d, beside %+v", s.State, s.Run, w.base.Run, s.Kept)
		}
	})
}

// toAndFro has a service that is replaced by one beside it try other versions again and
// again, each time for a while.
func (w *world) toAndFro() {
	w.d.Policy.Job, w.d.Policy.Rolling, w.base = false, true, w.d
	for range 6 {
		w.goOn()
		w.begin()
		w.goOn()
		if i := w.s.Instance; i != nil && slices.Contains(w.running(), i.ID) {
			one(w, func() {}, func() { w.pass(i.ID, everyProbe); w.pass(i.ID, everyProbe) }, func() { w.exit(i.ID, one[uint32](w, 0, 1)) })()
		}
		w.withdraw()
		w.step(w.chance)
	}
}

// goOn has some things happen, mostly good ones.
func (w *world) goOn() {
	if w.chance() {
		w.carryOn(w.pick(4), one(w, nil, everyProbe[:1], everyProbe)...)
		w.step(w.chance)
	}
	for range w.pick(4) {
		w.happen()
	}
}

// backFromCompleted is a transition that hardly ever happens: a trial that has been healthy
// and is done is withdrawn, for an instance that has not started up yet.
func backFromCompleted() string {
	s := rollingSince(Completed, nil)
	s.Kept.State = Starting
	back, _, _ := Step(rollingService(nil), s, t0, Chance{})
	return fmt.Sprintf("%s → %s", s.State, back.State)
}
