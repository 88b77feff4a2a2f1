package supervise

import (
	"context"
	"log/slog"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

func stray(id string, run uint64, started, running bool) Adoptee {
	c := Adoptee{Instance: Instance{ID: id, Revision: service().Revision, PID: 7}, Run: run, Running: running}
	if started {
		c.Instance.StartedAt = time.Unix(50, 0)
	}
	return c
}

func TestAdopt(t *testing.T) {
	now := time.Unix(100, 0)
	planned := Status{State: Creating, Run: 1, Attempts: 3, Failures: 2, Instance: &Instance{ID: "planned"}}
	for name, tc := range map[string]struct {
		before   Status
		c        Adoptee
		state    State
		attempts uint32
		failures uint32
	}{
		"in the place of one planned":      {planned, stray("x", 1, true, true), Running, 3, 2},
		"of another run":                   {planned, stray("x", 2, true, true), Running, 1, 0},
		"of none that is known":            {Status{State: BackingOff, NextTry: now.Add(time.Hour)}, stray("x", 1, true, true), Running, 1, 0},
		"ended":                            {Status{State: Pending}, stray("x", 1, true, false), Stopping, 1, 0},
		"not started":                      {Status{State: Pending}, stray("x", 1, false, false), Creating, 1, 0},
		"of a workload that is not known":  {Status{}, stray("x", 4, true, true), Running, 1, 0},
		"in the place of one that is gone": {Status{State: BackingOff, Run: 1, Attempts: 1, Instance: &Instance{ID: "gone", Ended: true}}, stray("x", 1, true, true), Running, 1, 0},
		"with an exit of another instance": {Status{State: Failed, Run: 1, Attempts: 1, LastExit: &Exit{Instance: "y"}}, stray("x", 1, true, true), Running, 1, 0},
		"of a workload that was to stop":   {Status{State: Stopped, Run: 1}, stray("x", 1, true, true), Running, 1, 0},
		"of no run of the workload's":      {Status{State: Running, Run: 3}, stray("x", 0, true, true), Running, 1, 0},
	} {
		t.Run(name, func(t *testing.T) {
			s := adopt(tc.before, tc.c, now)
			if s.State != tc.state || s.Attempts != tc.attempts || s.Failures != tc.failures || s.Run != tc.c.Run || !s.NextTry.IsZero() {
				t.Errorf("got %+v", s)
			}
			if i := s.Instance; i.ID != "x" || !i.Unverified || i.Ended {
				t.Errorf("got instance %+v", i)
			}
			if _, action, _ := Step(service(), s, now, Chance{}); action != Inspect {
				t.Errorf("then %q", action)
			}
			// A later agent sees the same, whenever this one dies.
			if again := FromRecord(s.Record()); !again.Instance.Unverified || again.Instance.ID != "x" {
				t.Errorf("on record: %+v", again.Instance)
			}
		})
	}
}

// Of two the earlier one is kept until the other has taken over, be it on record or not.
func TestAdoptTwo(t *testing.T) {
	now := time.Unix(100, 0)
	earlier := stray("y", 1, true, true)
	later := stray("x", 2, true, true)
	later.Kept = &earlier
	beside := stray("x", 2, true, true)
	beside.Beside = true
	recorded := runningSince(now)
	recorded.Instance.ID = "y"
	for name, s := range map[string]Status{"of none on record": Recovered(later, now), "of one on record": adopt(recorded, beside, now)} {
		if s.Instance.ID != "x" || s.Run != 2 || s.State != Running || s.Kept == nil || s.Kept.Instance.ID != "y" || s.Kept.Run != 1 || s.Kept.State != Running {
			t.Errorf("%s: got %+v, and %+v", name, s, s.ofKept())
		}
	}
}

func TestRecovered(t *testing.T) {
	s := Recovered(stray("x", 4, true, true), time.Unix(100, 0))
	if s.State != Running || !s.Since.Equal(time.Unix(50, 0)) || s.Run != 4 {
		t.Errorf("got %+v", s)
	}
}

// One that runs is kept for a later one that is found, and looked after as before.
func TestAdoptedBesideOneThatRuns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode()
		n.beside = true
		d := rollingService(func(p *Policy) { p.Live = true })
		r := begin(t, n, d, Begin(d))
		r.is(Running)
		n.set(func(n *node) { n.exits["there"] = make(chan uint32, 1); n.started = append(n.started, "there") })
		d = again(d)
		c := stray("there", d.Run, true, true)
		c.Instance.Revision, c.Beside = d.Revision, true
		if err := r.Adopt(t.Context(), d, c); err != nil {
			t.Fatal(err)
		}
		r.runs(1, 2)
		if n.probed() != 2 || n.probings != 2 {
			t.Errorf("%d are probed, %d times", n.probed(), n.probings)
		}
		pause(time.Minute)
		r.runs(2)
		v, _ := r.View()
		if !v.Replaced() || len(n.deleted) != 1 || n.probed() != 1 {
			t.Errorf("deleted %v, %d are probed, %+v", n.deleted, n.probed(), v.Status)
		}
		r.end()
	})
}

// A start that waits is called off for the container that is there.
func TestAdoptedWhileStarting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode()
		n.slowStart = time.Hour
		n.exits["there"] = make(chan uint32, 1)
		r := begin(t, n, service(), Begin(service()))
		if err := r.Adopt(t.Context(), service(), stray("there", service().Run, true, true)); err != nil {
			t.Fatal(err)
		}
		<-time.After(2 * time.Hour)
		synctest.Wait()
		v, _ := r.View()
		if n.starts() != 0 || v.Status.State != Running || v.Status.Instance.ID != "there" || v.Status.Instance.Unverified {
			t.Errorf("%d starts, %+v", n.starts(), v.Status)
		}
		// It is the workload's as any other.
		n.end("there", 3)
		n.set(func(n *node) { n.slowStart = 0 })
		<-time.After(time.Hour)
		v, _ = r.View()
		if n.starts() != 1 || v.Status.LastExit.Code != 3 || v.Status.Restarts != 1 {
			t.Errorf("after its exit: %d starts, %+v", n.starts(), v.Status)
		}
		r.end()
		if err := r.Adopt(t.Context(), service(), stray("late", 1, true, true)); err == nil {
			t.Error("a supervisor that has ended adopts")
		}
	})
}

// What an earlier agent was stopping may have had its signal: nothing is led to it any more,
// not for a moment, unless it is wanted after all.
func TestWhatWasBeingStoppedDoesNotServe(t *testing.T) {
	stopped, replaced := service(), service()
	stopped.Goal, replaced.Run = Stop, 2
	for name, tc := range map[string]struct {
		d      Desired
		serves bool
	}{
		"stopped":          {stopped, false},
		"replaced":         {replaced, false},
		"wanted after all": {service(), true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := newNode()
				n.exits["one"] = make(chan uint32, 1)
				was := runningSince(time.Now())
				was.State, was.Instance.Unverified = Stopping, true
				served := false
				changed := func(_, now View) {
					i := now.Serving()
					served = served || i != nil && i.ID == "one"
				}
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				go New(tc.d, was, n, &memory{}, changed, slog.New(slog.DiscardHandler)).Run(ctx)
				synctest.Wait()
				if served != tc.serves || slices.Contains(n.signals, "one") == tc.serves {
					t.Errorf("it has served: %v; signals went to %v", served, n.signals)
				}
			})
		})
	}
}
