package supervise

import (
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/purserd/purser/api/launchspec"
)

// rollingService is a service that is replaced by one beside it.
func rollingService(change func(*Policy)) Desired {
	return probedService(func(p *Policy) {
		p.Rolling, p.MinReady = true, 10*time.Second
		if change != nil {
			change(p)
		}
	})
}

// again is another run of a service, of another generation.
func again(d Desired) Desired {
	r := *d.Revision
	r.Generation++
	d.Run++
	d.Revision = &r
	return d
}

// rollingSince is the status of a change that began at t0: the old instance runs, the
// new one is as given.
func rollingSince(state State, new *Instance) Status {
	d := again(rollingService(nil))
	kept := runningSince(t0.Add(-time.Hour))
	kept.Instance.ID, kept.Instance.Revision = "old", rollingService(nil).Revision
	if new != nil {
		new.ID, new.Revision = "new", d.Revision
	}
	return Status{State: state, Since: t0, Run: d.Run, Attempts: 1, ObservedGeneration: 1, Instance: new, Kept: &kept}
}

func TestRollingStep(t *testing.T) {
	d := again(rollingService(nil))
	with := func(change func(*Desired)) Desired { d := d; change(&d); return d }
	policy := func(change func(*Policy)) Desired {
		d := again(d)
		r := *d.Revision
		change(&r.Policy)
		d.Revision = &r
		return d
	}
	never := with(func(d *Desired) { d.Revision = rollingService(func(p *Policy) { p.Restart = "never" }).Revision })
	goal := func(g Goal) Desired { return with(func(d *Desired) { d.Goal = g }) }
	runs := func() *Instance { return &Instance{StartedAt: t0} }
	promoted := &Instance{StartedAt: t0, Promoted: true}
	retiring := rollingSince(BackingOff, nil)
	retiring.Kept.State, retiring.Kept.Instance.StopSince, retiring.Kept.Instance.Signalled = Stopping, t0, true
	retiring.NextTry = t0.Add(time.Hour)
	for name, tc := range map[string]struct {
		d         Desired
		s         Status
		after     time.Duration
		state     State
		action    Action
		kept      State
		keptState Action
		instance  string
	}{
		"a new run":                          {again(d), runningOf(d), 0, Creating, Start, Running, Wait, "next"},
		"a new run of another strategy":      {policy(func(p *Policy) { p.Rolling = false }), runningOf(d), 0, Stopping, Signal, "", Wait, "new"},
		"a new run of one that could not":    {again(d), runningOf(service()), 0, Stopping, Signal, "", Wait, "new"},
		"a new run of one that is stopped":   {again(d), stoppingOf(d), 0, Stopping, Signal, "", Wait, "new"},
		"is created":                         {d, rollingSince(Creating, &Instance{}), 0, Creating, Start, Running, Wait, "new"},
		"not long enough":                    {d, rollingSince(Running, runs()), 9 * time.Second, Running, Wait, Running, Wait, "new"},
		"long enough":                        {d, rollingSince(Running, runs()), 10 * time.Second, Running, Promote, Running, Wait, "new"},
		"not started up":                     {d, rollingSince(Starting, runs()), time.Hour, Starting, Wait, Running, Wait, "new"},
		"has taken over":                     {d, rollingSince(Running, promoted), 10 * time.Second, Running, Wait, Stopping, Signal, "new"},
		"fails":                              {d, backingOff(rollingSince(BackingOff, nil)), 0, BackingOff, Wait, Running, Wait, ""},
		"fails for good":                     {never, rollingSince(Failed, nil), 0, Failed, Wait, Running, Wait, ""},
		"is done":                            {d, rollingSince(Completed, nil), 0, Completed, Wait, Stopping, Signal, ""},
		"a newer run":                        {again(d), rollingSince(Running, runs()), 0, Stopping, Signal, Running, Wait, "new"},
		"a newer run as it is created":       {again(d), rollingSince(Creating, &Instance{}), 0, Stopping, Abort, Running, Wait, "new"},
		"a newer run as it fails":            {again(d), backingOff(rollingSince(BackingOff, nil)), 0, Creating, Start, Running, Wait, "next"},
		"a newer run once it has taken over": {again(d), rollingSince(Running, promoted), 0, Running, Wait, Stopping, Signal, "new"},
		"a newer run as the kept one ends":   {again(d), retiring, 0, Pending, Wait, Stopping, Wait, ""},
		"a newer run of another strategy":    {policy(func(p *Policy) { p.Rolling = false }), rollingSince(Running, runs()), 0, Stopping, Signal, Stopping, Signal, "new"},
		"another strategy as it fails":       {policy(func(p *Policy) { p.Rolling = false }), backingOff(rollingSince(BackingOff, nil)), 0, Pending, Wait, Stopping, Signal, ""},
		"crashes as the kept one ends":       {d, retiring, 2 * time.Hour, Creating, Start, Stopping, Kill, "next"},
		"stop":                               {goal(Stop), rollingSince(Running, runs()), 0, Stopping, Signal, Stopping, Signal, "new"},
		"stop as it fails":                   {goal(Stop), rollingSince(BackingOff, nil), 0, Stopping, Wait, Stopping, Signal, ""},
		"remove as it fails":                 {goal(Remove), rollingSince(BackingOff, nil), 0, Stopping, Wait, Stopping, Signal, ""},
		"pause":                              {with(func(d *Desired) { d.Goal, d.Paused = Pause, Drained }), rollingSince(Running, runs()), 0, Stopping, Signal, Stopping, Signal, "new"},
		"pause as it fails":                  {with(func(d *Desired) { d.Goal, d.Paused = Pause, Drained }), rollingSince(BackingOff, nil), 0, Pending, Wait, Stopping, Signal, ""},
	} {
		t.Run(name, func(t *testing.T) {
			now := t0.Add(tc.after)
			s, action, _ := Step(tc.d, tc.s, now, Chance{ID: "next"})
			s, keptAction, _ := keptStep(tc.d, s, now)
			var instance string
			if s.Instance != nil {
				instance = s.Instance.ID
			}
			if s.State != tc.state || action != tc.action || instance != tc.instance {
				t.Errorf("%s: %s and %q, want %s: %s and %q", instance, s.State, action, tc.instance, tc.state, tc.action)
			}
			if got := s.ofKept().State; got != tc.kept || keptAction != tc.keptState {
				t.Errorf("the kept one: %s and %q, want %s and %q", got, keptAction, tc.kept, tc.keptState)
			}
		})
	}
}

func runningOf(d Desired) Status {
	s := runningSince(t0)
	s.Run, s.Instance.ID, s.Instance.Revision = d.Run, "new", d.Revision
	return s
}

func stoppingOf(d Desired) Status {
	s := runningOf(d)
	s.State, s.Instance.StopSince = Stopping, t0
	return s
}

func backingOff(s Status) Status {
	s.NextTry = t0.Add(time.Minute)
	return s
}

// To which instance what is meant for the workload goes.
func TestServing(t *testing.T) {
	as := func(s Status, change func(*Status)) View { change(&s); return View{Status: s} }
	runs := func() *Instance { return &Instance{StartedAt: t0} }
	keptUnready := func(s *Status) {
		s.Kept.Instance.Revision = rollingService(func(p *Policy) { p.Ready = true }).Revision
	}
	for name, tc := range map[string]struct {
		v    View
		want string
	}{
		"alone":                     {as(runningSince(t0), func(*Status) {}), "one"},
		"being made":                {as(rollingSince(Creating, &Instance{}), func(*Status) {}), "old"},
		"runs, not long enough":     {as(rollingSince(Running, runs()), func(*Status) {}), "old"},
		"to take over":              {as(rollingSince(Running, runs()), func(s *Status) { s.Instance.Promoting = true }), "new"},
		"has taken over":            {as(rollingSince(Running, runs()), func(s *Status) { s.Instance.Promoted = true }), "new"},
		"has taken over, not ready": {as(rollingSince(Starting, runs()), func(s *Status) { s.Instance.Promoted = true }), ""},
		"while the other does not":  {as(rollingSince(Running, runs()), keptUnready), "new"},
		"neither":                   {as(rollingSince(Starting, runs()), keptUnready), ""},
		"the kept one has ended":    {as(rollingSince(Running, runs()), func(s *Status) { s.Kept.Instance.Ended = true }), "new"},
		"both are stopped": {as(rollingSince(Stopping, runs()), func(s *Status) {
			s.Kept.State, s.Kept.Instance.StopSince, s.Instance.StopSince = Stopping, t0, t0
		}), ""},
		"none": {as(Status{State: Stopped}, func(*Status) {}), ""},
	} {
		got := ""
		if i := tc.v.Serving(); i != nil {
			got = i.ID
		}
		if got != tc.want {
			t.Errorf("%s: %q serves, want %q", name, got, tc.want)
		}
	}
}

// A half of a change that an agent leaves is the next one's.
func TestRecordOfARollingChange(t *testing.T) {
	s := rollingSince(Running, &Instance{StartedAt: t0, Promoted: true})
	s.Kept.State = Stopping
	got := FromRecord(s.Record())
	if k := got.Kept; k == nil || k.Run != 1 || k.State != Stopping || k.Instance.ID != "old" || !k.Instance.Unverified {
		t.Fatalf("got %+v", got.Kept)
	}
	if !got.Instance.Promoted || !same(s, got) {
		t.Errorf("got %+v", got)
	}
	s.Kept.State = BackingOff
	if got := FromRecord(s.Record()); !got.Kept.Instance.Ended {
		t.Errorf("of one that has ended: %+v", got.Kept.Instance)
	}
	if got := FromRecord(runningSince(t0).Record()); got.Kept != nil {
		t.Errorf("of one alone: %+v", got.Kept)
	}
}

// roll begins a change of a service that runs.
func roll(t *testing.T, d Desired, change func(*node)) *rig {
	n := newNode()
	n.beside = true
	r := begin(t, n, d, Begin(d))
	r.is(Running)
	n.set(change)
	r.Want(again(d))
	synctest.Wait()
	return r
}

// runs are the instances that run: the first, the second and so on that was started.
func (r *rig) runs(want ...int) {
	r.t.Helper()
	synctest.Wait()
	r.node.mu.Lock()
	defer r.node.mu.Unlock()
	var got []int
	for n, id := range r.node.started {
		if _, runs := r.node.exits[id]; runs {
			got = append(got, n+1)
		}
	}
	if !slices.Equal(got, want) {
		r.t.Fatalf("there run %v, want %v", got, want)
	}
}

func unchanged(*node) {}

// pause waits, and until all that is due has been done.
func pause(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

// The old instance runs until the new one has run for min_ready, and ends before the
// view tells that it has been replaced.
func TestRolling(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := roll(t, rollingService(nil), unchanged)
		r.is(Running)
		pause(10*time.Second - time.Millisecond)
		r.runs(1, 2)
		if v, _ := r.View(); !v.Ready() || v.Replaced() || v.Serving().ID != r.node.started[0] {
			t.Errorf("as it is not healthy yet: %+v", v.Status)
		}
		pause(time.Millisecond)
		r.runs(2)
		v, _ := r.View()
		if !v.Replaced() || v.Status.Kept != nil || v.Status.Restarts != 0 || v.Status.ObservedGeneration != 2 || v.Status.Previous != r.node.started[0] {
			t.Errorf("as it has taken over: %+v", v.Status)
		}
		if e := v.Status.LastExit; e == nil || e.Instance != r.node.started[0] || e.Code != 143 {
			t.Errorf("the exit of the old one: %+v", e)
		}
		if want := r.node.started[1:]; !slices.Equal(r.node.promotes, want) {
			t.Errorf("promoted %v, want %v", r.node.promotes, want)
		}
		r.end()
	})
}

// A restart that is asked for is a rolling change, too, and counts.
func TestRollingRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode()
		n.beside = true
		d := rollingService(nil)
		r := begin(t, n, d, Begin(d))
		for range 3 {
			d.Run++
			r.Want(d)
			synctest.Wait()
			pause(time.Minute)
		}
		r.runs(4)
		if v, _ := r.View(); v.Status.Restarts != 3 {
			t.Errorf("%d restarts", v.Status.Restarts)
		}
		r.end()
	})
}

// With a ready probe the new one counts from when it passes, on end.
func TestRollingWaitsForReady(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := roll(t, rollingService(func(p *Policy) { p.Ready = true }), unchanged)
		second := r.node.started[1]
		pause(time.Hour)
		r.runs(1, 2)
		ready := func(ok bool) {
			r.node.mu.Lock()
			report := r.node.probes[second]
			r.node.mu.Unlock()
			report(Probed{Probe: launchspec.ProbeReady, OK: ok})
			synctest.Wait()
		}
		ready(true)
		r.is(Ready)
		pause(9 * time.Second)
		ready(false)
		pause(time.Hour)
		r.runs(1, 2)
		ready(true)
		pause(10 * time.Second)
		r.runs(2)
		r.is(Ready)
		r.end()
	})
}

// The old one is not signalled before the new one has taken over, however often that fails.
func TestPromotionComesFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := roll(t, rollingService(nil), func(n *node) { n.promoteErr = errDown })
		pause(time.Hour)
		r.runs(1, 2)
		if tries := len(r.node.promotes); tries < 100 || tries > 400 {
			t.Errorf("%d tries in an hour", tries)
		}
		r.node.set(func(n *node) { n.promoteErr, n.slowPromote = nil, 5*time.Second })
		pause(maxActionPause + 5*time.Second)
		r.runs(2)
		r.end()
	})
}

// A promotion that hangs, or fails, keeps nobody from stopping the workload.
func TestStopDuringAPromotion(t *testing.T) {
	for name, change := range map[string]func(*node){
		"hangs": func(n *node) { n.slowPromote = time.Hour },
		"fails": func(n *node) { n.promoteErr = errDown },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := roll(t, rollingService(nil), change)
				pause(20 * time.Second)
				r.runs(1, 2)
				r.goal(Stop)
				r.is(Stopped)
				r.runs()
				if v, _ := r.View(); !v.Settled() || !v.Empty() {
					t.Errorf("%+v", v.Status)
				}
				r.end()
			})
		})
	}
}

// One that is not ready any more as it takes over does not.
func TestPromotionIsCalledOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := rollingService(func(p *Policy) { p.Ready, p.MinReady = true, 0 })
		r := roll(t, d, func(n *node) { n.slowPromote = 10 * time.Second })
		second := r.node.started[1]
		report := func(ok bool) {
			r.node.mu.Lock()
			report := r.node.probes[second]
			r.node.mu.Unlock()
			report(Probed{Probe: launchspec.ProbeReady, OK: ok})
			synctest.Wait()
		}
		report(true)
		pause(time.Second)
		report(false)
		pause(time.Hour)
		r.runs(1, 2)
		report(true)
		pause(10 * time.Second)
		r.runs(2)
		r.end()
	})
}

// One that fails is tried again as ever, and the old one serves meanwhile.
func TestRollingFails(t *testing.T) {
	for name, change := range map[string]func(*node){
		"it exits":             func(n *node) { n.lifetime, n.code = 5*time.Second, 1 },
		"it cannot be created": func(n *node) { n.startErr = errors.New("no image") },
		"it cannot be run":     func(n *node) { n.startErr = &ExitError{Code: 127, Message: "not found"} },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := roll(t, rollingService(nil), change)
				pause(time.Hour)
				v, _ := r.View()
				if v.Status.Failures < 10 || v.Serving().ID != r.node.started[0] || len(r.node.signals) > 0 {
					t.Errorf("signalled %v, %+v", r.node.signals, v.Status)
				}
				r.node.set(func(n *node) { n.lifetime, n.startErr = 0, nil })
				pause(3 * time.Minute)
				r.runs(len(r.node.started))
				r.end()
			})
		})
	}
}

// The old one may end before, which is the change's affair: nothing takes its place but
// the new one.
func TestKeptEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := roll(t, rollingService(nil), unchanged)
		pause(time.Second)
		r.node.end(r.node.started[0], 3)
		r.runs(2)
		v, _ := r.View()
		if v.Status.Kept != nil || v.Status.LastExit.Code != 3 || v.Serving().ID != r.node.started[1] {
			t.Errorf("%+v", v.Status)
		}
		pause(time.Hour)
		r.runs(2)
		if len(r.node.promotes) > 0 {
			t.Errorf("promoted %v", r.node.promotes)
		}
		r.end()
	})
}

// The last exit is that of the instance that was started last: that of the kept one does
// not take the place of a later one's.
func TestKeptEndsAfterALaterOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := roll(t, rollingService(nil), func(n *node) { n.lifetime, n.code = 5*time.Second, 1 })
		old := r.node.started[0]
		pause(5500 * time.Millisecond)
		v, _ := r.View()
		crashed := v.Status.LastExit
		if crashed.Instance == old || v.Status.LastInstance() == old {
			t.Fatalf("%+v", v.Status)
		}
		r.node.set(func(n *node) { n.lifetime = 0 })
		seen := make(chan *Exit, 1)
		go func() {
			v, _ := r.WaitFor(t.Context(), func(v View) bool { return v.Status.ExitOf(old) != nil || v.Status.Container(old) == nil })
			seen <- v.Status.ExitOf(old)
		}()
		synctest.Wait()
		r.node.end(old, 3)
		if e := <-seen; e != nil && e.Code != 3 {
			t.Errorf("it ended with %+v", e)
		}
		pause(0)
		if v, _ := r.View(); v.Status.Kept != nil || v.Status.LastExit != crashed || v.Status.ExitOf(crashed.Instance) != crashed {
			t.Errorf("%+v", v.Status)
		}
		r.end()
	})
}

// The kept one goes on being probed, and ends if it does not live.
func TestKeptIsProbed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := roll(t, rollingService(func(p *Policy) { p.Live = true }), unchanged)
		if r.node.probed() != 2 {
			t.Fatalf("%d are probed", r.node.probed())
		}
		r.node.mu.Lock()
		report := r.node.probes[r.node.started[0]]
		r.node.mu.Unlock()
		report(Probed{Probe: launchspec.ProbeLive, Message: "no answer"})
		r.runs(2)
		if v, _ := r.View(); v.Status.LastExit.Cause != ProbeFailed {
			t.Errorf("%+v", v.Status.LastExit)
		}
		if r.node.probed() != 1 {
			t.Errorf("%d are probed", r.node.probed())
		}
		r.end()
	})
}

// Newer specs during a change replace the new one, until one is healthy.
func TestRollingAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := rollingService(nil)
		r := roll(t, d, unchanged)
		d = again(d)
		for range 5 {
			pause(5 * time.Second)
			d = again(d)
			r.Want(d)
			synctest.Wait()
		}
		r.runs(1, len(r.node.started))
		pause(10 * time.Second)
		r.runs(len(r.node.started))
		r.end()
	})
}

// A newer spec while the old instance ends, which takes its time: the one that has taken
// over is kept in turn.
func TestRollingAnewWhileTheOldEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := rollingService(nil)
		r := roll(t, d, func(n *node) { n.stubborn = true })
		pause(12 * time.Second)
		r.Want(again(again(d)))
		pause(time.Second)
		r.runs(1, 2) // the second serves
		pause(7 * time.Second)
		r.runs(2, 3)
		pause(20 * time.Second)
		r.runs(3)
		r.end()
	})
}

// An agent that ends in a change leaves both, and the next one goes on with it.
func TestRollingOutlivesTheAgent(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(*node)
		after  time.Duration
		left   []int
		then   []int
	}{
		"as the new one is created":    {func(n *node) { n.slowStart = time.Hour }, time.Second, []int{1}, []int{1, 2}},
		"as the new one is not ready":  {unchanged, time.Second, []int{1, 2}, []int{1, 2}},
		"as it takes over":             {func(n *node) { n.slowPromote = time.Hour }, 11 * time.Second, []int{1, 2}, []int{2}},
		"as the old one is to end":     {func(n *node) { n.stubborn = true }, 11 * time.Second, []int{1, 2}, []int{2}},
		"as the old one has been left": {func(n *node) { n.stubborn = true }, 19 * time.Second, []int{1, 2}, []int{2}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := rollingService(nil)
				r := roll(t, d, tc.change)
				pause(tc.after)
				r.end()
				r.node.set(func(n *node) { n.slowStart, n.slowPromote, n.stubborn = 0, 0, false })
				r.runs(tc.left...)
				r = begin(t, r.node, again(d), r.found(d))
				r.runs(tc.then...)
				pause(time.Minute)
				r.runs(2)
				if v, _ := r.View(); v.Status.Kept != nil || v.Status.State != Running || len(r.node.started) != 2 {
					t.Errorf("%+v", v.Status)
				}
				r.end()
			})
		})
	}
}

// Whoever waits for a service to be ready waits for it to have replaced the one before.
func TestWaitReadyOfARollingChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := roll(t, rollingService(nil), unchanged)
		began := time.Now()
		v, err := r.WaitReady(t.Context())
		if took := time.Since(began); err != nil || took != 10*time.Second || !v.Replaced() {
			t.Errorf("%v after %v: %+v", err, took, v.Status)
		}
		r.end()
	})
}
