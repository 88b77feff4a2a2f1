package supervise

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/purserd/purser/api/launchspec"
)

// tryOut begins a trial of a service that runs.
func tryOut(t *testing.T, d Desired, change func(*node)) *rig {
	n := newNode()
	n.beside = true
	r := begin(t, n, d, Begin(d))
	if d.Policy.Startup {
		r.finds(0, Probed{Probe: launchspec.ProbeStartup, OK: true})
	}
	if d.Policy.Ready {
		r.finds(0, Probed{Probe: launchspec.ProbeReady, OK: true})
	}
	n.set(change)
	r.Want(trialOf(d))
	synctest.Wait()
	return r
}

// finds has a probe of an instance find out something.
func (r *rig) finds(started int, p Probed) {
	r.node.mu.Lock()
	report := r.node.probes[r.node.started[started]]
	r.node.mu.Unlock()
	if report != nil {
		report(p)
	}
	synctest.Wait()
}

// stands holds how the trial stands against what it should.
func (r *rig) stands(want Outcome) Verdict {
	r.t.Helper()
	synctest.Wait()
	v, _ := r.View()
	got := v.Tried()
	if got.Outcome != want {
		r.t.Fatalf("it is %+v, want %s", got, want)
	}
	return got
}

// untouched holds what was done to the instance that ran first against nothing.
func (r *rig) untouched() {
	r.t.Helper()
	r.node.mu.Lock()
	defer r.node.mu.Unlock()
	first := r.node.started[0]
	if slices.Contains(r.node.signals, first) || slices.Contains(r.node.deleted, first) || r.node.kills > 0 {
		r.t.Fatalf("%s was touched: signalled %v, deleted %v, %d kills", first, r.node.signals, r.node.deleted, r.node.kills)
	}
}

// A trial has passed once its instance has served for min_ready, which is then on record;
// committed, that goes on.
func TestTrialPasses(t *testing.T) {
	for name, rolling := range map[string]bool{"rolling": true, "restart": false} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := judgedService(func(p *Policy) { p.Rolling = rolling })
				r := tryOut(t, d, unchanged)
				pause(10*time.Second - time.Millisecond)
				r.stands(UnderWay)
				pause(time.Millisecond)
				verdict := r.stands(Passed)
				if i := r.memory.status.Instance; !i.Healthy || verdict.Instance != i.ID {
					t.Errorf("%+v, of %+v on record", verdict, i)
				}
				r.runs(2)
				committed := trialOf(d)
				committed.Trial = false
				r.Want(committed)
				pause(time.Hour)
				r.runs(2)
				if v, _ := r.View(); v.Status.State != Running || v.Status.Kept != nil {
					t.Errorf("%+v", v.Status)
				}
				r.end()
			})
		})
	}
}

// The health timeout counts from when the startup probe has passed, however long that takes.
func TestHealthTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := judgedService(func(p *Policy) { p.Startup, p.Ready = true, true })
		r := tryOut(t, d, unchanged)
		pause(time.Hour)
		r.stands(UnderWay)
		r.finds(1, Probed{Probe: launchspec.ProbeStartup, OK: true})
		r.finds(1, Probed{Probe: launchspec.ProbeReady, Message: "status 503"})
		pause(30*time.Second - time.Millisecond)
		r.stands(UnderWay)
		pause(time.Millisecond)
		verdict := r.stands(Defeated)
		if want := "not ready after 30s (rotation.health_timeout): its ready probe: status 503"; verdict.Reason != want || verdict.Cause != Unhealthy {
			t.Errorf("%+v, want %q", verdict, want)
		}
		r.runs(1)
		r.untouched()
		r.end()
	})
}

// One that is ready again and again, and never for min_ready on end, is not healthy.
func TestFlapping(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := tryOut(t, judgedService(withReady), unchanged)
		for range 3 {
			r.finds(1, Probed{Probe: launchspec.ProbeReady, OK: true})
			pause(9 * time.Second)
			r.stands(UnderWay)
			r.finds(1, Probed{Probe: launchspec.ProbeReady, Message: "no"})
		}
		r.finds(1, Probed{Probe: launchspec.ProbeReady, OK: true})
		pause(3 * time.Second)
		if got := r.stands(Defeated).Reason; got != "ready, but not for 10s on end (rotation.min_ready) within 30s (rotation.health_timeout)" {
			t.Error(got)
		}
		r.end()
	})
}

// An instance on trial that ends is not started again by itself: only by another try. All
// the while the one before it serves, and it is looked after as ever once it is alone.
func TestTrialFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := judgedService(func(p *Policy) { p.Live = true })
		r := tryOut(t, d, func(n *node) { n.lifetime, n.code = 5*time.Second, 3 })
		pause(time.Hour)
		r.stands(Defeated)
		v, _ := r.View()
		if r.node.starts() != 2 || v.Status.State != Failed || v.Serving().ID != r.node.started[0] {
			t.Fatalf("%d starts, %+v", r.node.starts(), v.Status)
		}
		r.Want(trialOf(trialOf(d)))
		pause(time.Hour)
		r.stands(Defeated)
		if r.node.starts() != 3 {
			t.Fatalf("%d starts", r.node.starts())
		}
		r.Want(d)
		pause(time.Hour)
		r.runs(1)
		r.untouched()
		v, _ = r.View()
		if s := v.Status; s.State != Running || s.Run != d.Run || s.Restarts != 0 || s.LastExit.Code != 3 || s.Previous != r.node.started[2] || !v.Replaced() {
			t.Errorf("%+v", s)
		}
		if r.node.probed() != 1 || r.node.probings != 3 {
			t.Errorf("%d are probed, %d were", r.node.probed(), r.node.probings)
		}
		r.node.set(func(n *node) { n.lifetime = 0 })
		r.node.end(r.node.started[0], 1)
		r.is(BackingOff)
		pause(time.Second)
		r.runs(4)
		if v, _ := r.View(); v.Status.Restarts != 1 || v.Status.LastExit.Instance != r.node.started[0] {
			t.Errorf("%+v", v.Status)
		}
		r.end()
	})
}

// However far a trial has come when it is withdrawn, what ran before it goes on untouched,
// and nothing is left of the other.
func TestWithdrawnAtAnyTime(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(*node)
		after  time.Duration
		states []State
	}{
		"as it pulls":             {func(n *node) { n.slowPull = time.Hour }, time.Second, []State{Pulling}},
		"as it is created":        {func(n *node) { n.slowStart = time.Hour }, time.Second, []State{Creating}},
		"as it surely starts":     {func(n *node) { n.slowStart, n.surely = time.Hour, true }, time.Second, []State{Creating}},
		"as it cannot be started": {func(n *node) { n.startErr = errDown }, time.Minute, []State{BackingOff}},
		"as it runs":              {unchanged, time.Second, []State{Running}},
		"as it takes over":        {func(n *node) { n.slowPromote = time.Hour }, 11 * time.Second, []State{Running}},
		"as it cannot take over":  {func(n *node) { n.promoteErr = errDown }, 11 * time.Second, []State{Running}},
		"once it has failed":      {func(n *node) { n.lifetime = time.Second }, time.Minute, []State{Failed}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := judgedService(func(p *Policy) { p.Live = true })
				r := tryOut(t, d, tc.change)
				pause(tc.after)
				if v, _ := r.View(); !slices.Contains(tc.states, v.Status.State) {
					t.Fatalf("it is %s", v.Status.State)
				}
				var first string
				r.node.set(func(n *node) { n.promoteErr, n.slowPromote, first = nil, 0, n.started[0] })
				r.Want(d)
				r.is(Running)
				if v, _ := r.View(); v.Status.Instance.ID != first || v.Serving() != v.Status.Instance {
					t.Errorf("it is not the workload's own at once: %+v", v.Status)
				}
				pause(30 * time.Second)
				r.runs(1)
				r.untouched()
				if v, _ := r.View(); v.Status.Kept != nil || v.Status.Run != d.Run || r.node.probed() != 1 {
					t.Errorf("%d are probed, %+v", r.node.probed(), v.Status)
				}
				pause(time.Hour)
				r.runs(1)
				r.end()
			})
		})
	}
}

// A trial that has taken over, and the one before it is ending, is gone back from as in any
// rolling change.
func TestWithdrawnOnceItHasTakenOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := judgedService(nil)
		r := tryOut(t, d, func(n *node) { n.stubborn = true })
		pause(11 * time.Second)
		r.Want(d)
		pause(10 * time.Second)
		r.runs(2, 3)
		if v, _ := r.View(); v.Serving().ID != r.node.started[1] {
			t.Errorf("%+v", v.Status)
		}
		pause(20 * time.Second)
		r.runs(3)
		if v, _ := r.View(); v.Status.Run != d.Run || v.Status.Instance.Revision != d.Revision {
			t.Errorf("%+v", v.Status)
		}
		r.end()
	})
}

// An agent that ends in a trial leaves it to the next one, which comes to the same end.
func TestTrialOutlivesTheAgent(t *testing.T) {
	wanted := judgedService(nil)
	for name, tc := range map[string]struct {
		change  func(*node)
		after   time.Duration
		away    func(*rig) // what happens between the two agents
		then    Desired
		outcome Outcome
		left    []int
	}{
		"as it is created":                {func(n *node) { n.slowStart = time.Hour }, time.Second, nil, trialOf(wanted), Passed, []int{2}},
		"as it runs":                      {unchanged, 5 * time.Second, nil, trialOf(wanted), Passed, []int{2}},
		"as it runs, and dies":            {unchanged, 5 * time.Second, func(r *rig) { r.node.end(r.node.started[1], 1) }, trialOf(wanted), Defeated, []int{1}},
		"as it takes over":                {func(n *node) { n.slowPromote = time.Hour }, 11 * time.Second, nil, trialOf(wanted), Passed, []int{2}},
		"as it has failed":                {func(n *node) { n.lifetime = time.Second }, time.Minute, nil, trialOf(wanted), Defeated, []int{1}},
		"withdrawn as it runs":            {unchanged, 5 * time.Second, nil, wanted, UnderWay, []int{1}},
		"withdrawn as it takes over":      {func(n *node) { n.slowPromote = time.Hour }, 11 * time.Second, nil, wanted, UnderWay, []int{1}},
		"withdrawn as it has failed":      {func(n *node) { n.lifetime = time.Second }, time.Minute, nil, wanted, UnderWay, []int{1}},
		"withdrawn, and the old one dies": {unchanged, 5 * time.Second, func(r *rig) { r.node.end(r.node.started[0], 1) }, wanted, UnderWay, []int{3}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := tryOut(t, wanted, tc.change)
				pause(tc.after)
				r.end()
				if tc.away != nil {
					tc.away(r)
				}
				r.node.set(func(n *node) { n.slowStart, n.slowPromote, n.lifetime = 0, 0, 0 })
				r = begin(t, r.node, tc.then, r.found(wanted))
				pause(time.Minute)
				if tc.then.Trial {
					r.stands(tc.outcome)
				}
				r.runs(tc.left...)
				if v, _ := r.View(); v.Status.Run != tc.then.Run || tc.left[0] != 1 && v.Status.Kept != nil {
					t.Errorf("%+v", v.Status)
				}
				if slices.Contains(tc.left, 1) {
					r.untouched()
				}
				r.end()
			})
		})
	}
}

// Of what nobody has seen of an instance on trial nothing counts: neither that it served
// nor that it was not healthy in time.
func TestTrialCountsAnewForAnotherAgent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := judgedService(withReady)
		r := tryOut(t, d, unchanged)
		pause(time.Second)
		r.end()
		pause(time.Hour)
		r = begin(t, r.node, trialOf(d), r.found(d))
		pause(29 * time.Second)
		r.stands(UnderWay)
		pause(time.Second)
		r.stands(Defeated)
		r.end()
	})
}

// Whoever waits for a service to be ready waits for the end of a trial that is withdrawn.
func TestWaitReadyDuringATrial(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := judgedService(nil)
		r := tryOut(t, d, func(n *node) { n.lifetime = time.Second })
		time.AfterFunc(time.Minute, func() { r.Want(d) })
		began := time.Now()
		v, err := r.WaitReady(t.Context())
		if took := time.Since(began); err != nil || took != time.Minute || !v.Replaced() || v.Status.Instance.ID != r.node.started[0] {
			t.Errorf("%v after %v: %+v", err, took, v.Status)
		}
		r.end()
	})
}
