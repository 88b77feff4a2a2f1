package supervise

import (
	"testing"
	"time"

	"github.com/purserd/purser/api/launchspec"
)

var t0 = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func service() Desired {
	return Desired{Goal: Run, Run: 1, Revision: &Revision{Generation: 1, Policy: Policy{
		Restart: "always", BackoffMin: time.Second, BackoffMax: time.Minute, Grace: 10 * time.Second, TTL: -1,
	}}}
}

func job() Desired {
	d := service()
	d.Policy.Job, d.Policy.Restart = true, ""
	return d
}

// runningSince is the status of a workload whose instance started at t.
func runningSince(t time.Time) Status {
	return Status{State: Running, Since: t, Run: 1, Attempts: 1, ObservedGeneration: 1,
		Instance: &Instance{ID: "one", Revision: service().Revision, CreatedAt: t, StartedAt: t, PID: 42}}
}

func withPreStop() *Revision {
	d := service()
	d.Policy.PreStop = true
	return d.Revision
}

// unsignalled is a status in which the stop signal is yet to be sent, after a command.
func unsignalled(s Status) Status {
	i := *s.Instance
	i.Revision, i.Signalled = withPreStop(), false
	s.Instance = &i
	return s
}

func exit(code uint32, at time.Time) Exit {
	return Exit{Code: code, Cause: Exited, Reason: ExitReason(code), StartedAt: t0, FinishedAt: at, Instance: "one"}
}

func TestStep(t *testing.T) {
	with := func(d Desired, change func(*Desired)) Desired { change(&d); return d }
	in := func(s Status, change func(*Status)) Status { change(&s); return s }
	ending := in(runningSince(t0), func(s *Status) { s.State, s.Instance.StopSince, s.Instance.Signalled = Stopping, t0, true })
	for name, tc := range map[string]struct {
		d      Desired
		s      Status
		after  time.Duration
		state  State
		action Action
		wake   time.Duration // after t0; 0: none
	}{
		"new":                      {service(), Status{State: Pending, Run: 1}, 0, Creating, Start, 0},
		"being created":            {service(), Status{State: Creating, Run: 1, Instance: &Instance{ID: "one"}}, 0, Creating, Start, 0},
		"runs":                     {service(), runningSince(t0), time.Hour, Running, Wait, 0},
		"stop":                     {with(service(), func(d *Desired) { d.Goal = Stop }), runningSince(t0), 0, Stopping, Signal, 10 * time.Second},
		"stop without grace":       {with(service(), func(d *Desired) { d.Goal, d.Grace = Stop, new(time.Duration) }), runningSince(t0), 0, Stopping, Kill, 0},
		"grace goes on":            {with(service(), func(d *Desired) { d.Goal = Stop }), ending, 9 * time.Second, Stopping, Wait, 10 * time.Second},
		"grace is over":            {with(service(), func(d *Desired) { d.Goal = Stop }), ending, 10 * time.Second, Stopping, Kill, 0},
		"new run":                  {with(service(), func(d *Desired) { d.Run = 2 }), runningSince(t0), 0, Stopping, Signal, 10 * time.Second},
		"node stops":               {with(service(), func(d *Desired) { d.Goal = Pause }), runningSince(t0), 0, Stopping, Signal, 10 * time.Second},
		"node stopped":             {with(service(), func(d *Desired) { d.Goal = Pause }), Status{State: Pending, Run: 1}, 0, Pending, Wait, 0},
		"drained, runs":            {with(service(), func(d *Desired) { d.Goal, d.Paused = Pause, Drained }), runningSince(t0), 0, Stopping, Signal, 10 * time.Second},
		"drained, deadline comes":  {with(service(), func(d *Desired) { d.Goal, d.Paused, d.KillBy = Pause, Drained, t0.Add(5*time.Second) }), runningSince(t0), 0, Stopping, Signal, 5 * time.Second},
		"drained, deadline is far": {with(service(), func(d *Desired) { d.Goal, d.Paused, d.KillBy = Pause, Drained, t0.Add(time.Hour) }), runningSince(t0), 0, Stopping, Signal, 10 * time.Second},
		"drained, deadline passed": {with(service(), func(d *Desired) { d.Goal, d.Paused, d.KillBy = Pause, Drained, t0.Add(-time.Second) }), ending, time.Second, Stopping, Kill, 0},
		"drained, backing off":     {with(service(), func(d *Desired) { d.Goal, d.Paused = Pause, Drained }), Status{State: BackingOff, Run: 1, NextTry: t0.Add(time.Minute)}, 0, Pending, Wait, 0},
		"node stops, backing off":  {with(service(), func(d *Desired) { d.Goal = Pause }), Status{State: BackingOff, Run: 1, NextTry: t0.Add(time.Minute)}, 0, BackingOff, Wait, 0},
		"drained, done":            {with(job(), func(d *Desired) { d.Goal, d.Paused, d.Policy.TTL = Pause, Drained, time.Hour }), Status{State: Completed, Run: 1, Since: t0}, 0, Completed, Wait, time.Hour},
		"drained, done, forgotten": {with(job(), func(d *Desired) { d.Goal, d.Paused, d.Policy.TTL = Pause, Drained, time.Hour }), Status{State: Completed, Run: 1, Since: t0}, time.Hour, Completed, Forget, 0},
		"stop while being created": {with(service(), func(d *Desired) { d.Goal = Stop }), Status{State: Creating, Run: 1, Instance: &Instance{ID: "one"}}, 0, Stopping, Abort, 0},
		"stop while backing off":   {with(service(), func(d *Desired) { d.Goal = Stop }), Status{State: BackingOff, Run: 1, NextTry: t0.Add(time.Minute)}, 0, Stopped, Wait, 0},
		"backing off":              {service(), Status{State: BackingOff, Run: 1, NextTry: t0.Add(time.Minute)}, 0, BackingOff, Wait, time.Minute},
		"next try":                 {service(), Status{State: BackingOff, Run: 1, NextTry: t0.Add(time.Minute)}, time.Minute, Creating, Start, 0},
		"unverified comes first":   {with(service(), func(d *Desired) { d.Goal = Remove }), in(runningSince(t0), func(s *Status) { s.Instance.Unverified = true }), 0, Running, Inspect, 0},
		"ended is deleted":         {service(), in(runningSince(t0), func(s *Status) { s.State, s.Instance.Ended = BackingOff, true }), 0, BackingOff, Delete, 0},
		"delete failed":            {service(), in(runningSince(t0), func(s *Status) { s.Instance.Ended, s.Instance.RetryAt = true, t0.Add(time.Second) }), 0, Running, Wait, time.Second},
		"remove":                   {with(service(), func(d *Desired) { d.Goal = Remove }), Status{State: Stopped, Run: 1}, 0, Stopping, Forget, 0},
		"completed stays":          {job(), Status{State: Completed, Since: t0, Run: 1}, time.Hour, Completed, Wait, 0},
		"completed, stop":          {with(job(), func(d *Desired) { d.Goal = Stop }), Status{State: Completed, Since: t0, Run: 1}, 0, Completed, Wait, 0},
		"completed, again":         {with(job(), func(d *Desired) { d.Run = 2 }), Status{State: Completed, Since: t0, Run: 1}, 0, Creating, Start, 0},
		"ttl goes on":              {with(job(), func(d *Desired) { d.Policy.TTL = time.Hour }), Status{State: Failed, Since: t0, Run: 1}, time.Minute, Failed, Wait, time.Hour},
		"ttl is over":              {with(job(), func(d *Desired) { d.Policy.TTL = time.Hour }), Status{State: Failed, Since: t0, Run: 1}, time.Hour, Failed, Forget, 0},
		"pre_stop comes first":     {with(service(), func(d *Desired) { d.Goal = Stop }), in(runningSince(t0), func(s *Status) { s.Instance.Revision = withPreStop() }), 0, Stopping, PreStop, 10 * time.Second},
		"then the signal":          {with(service(), func(d *Desired) { d.Goal = Stop }), preStopped(unsignalled(ending)), time.Second, Stopping, Signal, 10 * time.Second},
		"pre_stop takes too long":  {with(service(), func(d *Desired) { d.Goal = Stop }), unsignalled(ending), 10 * time.Second, Stopping, Kill, 0},
		"a probe failed":           {service(), probed(runningSince(t0), Probed{Probe: launchspec.ProbeLive}, t0), 0, Stopping, Signal, 10 * time.Second},
		"job in time":              {with(job(), func(d *Desired) { d.Policy.Timeout = time.Minute }), runningSince(t0), time.Second, Running, Wait, time.Minute},
		"job times out":            {with(job(), func(d *Desired) { d.Policy.Timeout = time.Minute }), runningSince(t0), time.Minute, Stopping, Signal, 70 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			s, action, wake := Step(tc.d, tc.s, t0.Add(tc.after), Chance{ID: "two"})
			if s.State != tc.state || action != tc.action {
				t.Errorf("got %s and action %q, want %s and %q", s.State, action, tc.state, tc.action)
			}
			var want time.Time
			if tc.wake != 0 {
				want = t0.Add(tc.wake)
			}
			if !wake.Equal(want) {
				t.Errorf("wakes at %v, want %v", wake, want)
			}
		})
	}
}

// In whatever state, an outcome that is about another instance changes nothing.
func TestStaleOutcomes(t *testing.T) {
	s := runningSince(t0)
	for name, tc := range map[string]struct {
		o     outcome
		stale bool
	}{
		"its own":        {outcome{action: Signal, instance: "one"}, false},
		"another's":      {outcome{action: Start, instance: "zero"}, true},
		"about none":     {outcome{action: Forget}, false},
		"delete":         {outcome{action: Delete, instance: "one"}, false},
		"delete another": {outcome{action: Delete, instance: "zero"}, true},
	} {
		if got := tc.o.stale(s); got != tc.stale {
			t.Errorf("%s: stale is %v", name, got)
		}
	}
	s.Instance.Ended = true
	if !(outcome{action: Start, instance: "one"}).stale(s) || (outcome{action: Delete, instance: "one"}).stale(s) {
		t.Error("of an instance that has ended, only its deletion is news")
	}
}

// A generation that changes nothing is observed without a new instance.
func TestGenerationCatchesUp(t *testing.T) {
	d := service()
	d.Revision = &Revision{Generation: 5, Policy: d.Policy}
	s, action, _ := Step(d, runningSince(t0), t0, Chance{})
	if s.ObservedGeneration != 5 || action != Wait {
		t.Errorf("observed %d, action %q", s.ObservedGeneration, action)
	}
}

func TestExits(t *testing.T) {
	with := func(d Desired, change func(*Desired)) Desired { change(&d); return d }
	for name, tc := range map[string]struct {
		d     Desired
		code  uint32
		ran   time.Duration
		state State
		pause time.Duration
	}{
		"service":                {service(), 0, time.Second, BackingOff, time.Second},
		"on_failure, 0":          {with(service(), func(d *Desired) { d.Policy.Restart = "on_failure" }), 0, time.Second, Completed, 0},
		"on_failure, 1":          {with(service(), func(d *Desired) { d.Policy.Restart = "on_failure" }), 1, time.Second, BackingOff, time.Second},
		"never, 1":               {with(service(), func(d *Desired) { d.Policy.Restart = "never" }), 1, time.Second, Failed, 0},
		"job, 0":                 {job(), 0, time.Second, Completed, 0},
		"job, 1":                 {job(), 1, time.Second, Failed, 0},
		"job, 1, retries":        {with(job(), func(d *Desired) { d.Policy.Retries = 1 }), 1, time.Second, BackingOff, time.Second},
		"service being stopped":  {with(service(), func(d *Desired) { d.Goal = Stop }), 143, time.Second, Stopped, 0},
		"service being replaced": {with(service(), func(d *Desired) { d.Run = 2 }), 143, time.Second, Pending, 0},
		"service, node stops":    {with(service(), func(d *Desired) { d.Goal = Pause }), 143, time.Second, Pending, 0},
		"job, node stops":        {with(job(), func(d *Desired) { d.Goal = Pause }), 143, time.Second, Failed, 0},
	} {
		t.Run(name, func(t *testing.T) {
			now := t0.Add(tc.ran)
			s := exited(tc.d, runningSince(t0), exit(tc.code, now), now, 0)
			if s.State != tc.state {
				t.Errorf("state %s (%s), want %s", s.State, s.Reason, tc.state)
			}
			if s.LastExit == nil || s.LastExit.Code != tc.code || !s.Instance.Ended {
				t.Errorf("the exit was not noted: %+v", s)
			}
			if tc.pause != 0 && !s.NextTry.Equal(now.Add(tc.pause)) {
				t.Errorf("tries again at %v, want in %v", s.NextTry, tc.pause)
			}
		})
	}
}

func TestCommandNotFoundIsNotRetried(t *testing.T) {
	d := job()
	d.Policy.Retries = 5
	s := Status{State: Creating, Run: 1, Attempts: 1, Instance: &Instance{ID: "one"}}
	s = startFailed(d, s, &ExitError{Code: 127, Message: "not found"}, t0, 0)
	if s.State != Failed || s.LastExit.Code != 127 {
		t.Errorf("got %s, %+v", s.State, s.LastExit)
	}
}

func TestTimeoutFailsEvenWithStatus0(t *testing.T) {
	d := job()
	d.Policy.Timeout = time.Minute
	s, _, _ := Step(d, runningSince(t0), t0.Add(time.Minute), Chance{})
	s = exited(d, s, exit(0, t0.Add(time.Minute)), t0.Add(time.Minute), 0)
	if s.State != Failed || s.LastExit.Reason != "timed out after 1m0s" {
		t.Errorf("got %s: %s", s.State, s.LastExit.Reason)
	}
}

func TestBackoffDoublesAndResets(t *testing.T) {
	d, s, now := service(), runningSince(t0), t0
	for _, want := range []time.Duration{1, 2, 4, 8, 16, 32, 60, 60} {
		s.Instance = &Instance{ID: "one", Revision: d.Revision, StartedAt: now}
		e := Exit{Code: 1, StartedAt: now, FinishedAt: now.Add(time.Second)}
		now = now.Add(time.Second)
		s = exited(d, s, e, now, 0)
		if got := s.NextTry.Sub(now); got != want*time.Second {
			t.Fatalf("pause %v, want %vs", got, int(want))
		}
		now = s.NextTry
	}
	s.Instance = &Instance{ID: "one", Revision: d.Revision, StartedAt: now}
	e := Exit{Code: 1, StartedAt: now, FinishedAt: now.Add(time.Minute)}
	s = exited(d, s, e, e.FinishedAt, 0.5)
	if got := s.NextTry.Sub(e.FinishedAt); got != 900*time.Millisecond {
		t.Errorf("after a healthy stretch the pause is %v, want 0.9s with half the jitter", got)
	}
}

func TestRecordKeepsWhatMatters(t *testing.T) {
	s := runningSince(t0)
	s.Instance.Addresses = []string{"10.0.0.2", "fd00::2"}
	s.Instance.Boot, s.Instance.Ending = "this", &Ending{ProbeFailed, "its live probe failed"}
	s.LastExit, s.Previous, s.Restarts = &Exit{Code: 3, Cause: Exited, Reason: "x", Instance: "zero", FinishedAt: t0}, "zero", 2
	got := FromRecord(s.Record())
	if !got.Instance.Unverified || got.Instance.Ended {
		t.Errorf("an instance that may run must be looked at: %+v", got.Instance)
	}
	got.Instance.Unverified = false
	if got.Instance.Revision.Policy.Grace != 10*time.Second {
		t.Errorf("the policy is not that of the spec: %+v", got.Instance.Revision.Policy)
	}
	if got.Instance.Ending == nil || got.Instance.Boot != "this" || len(got.Instance.Addresses) != 2 {
		t.Errorf("got %+v", got.Instance)
	}
	if !same(s, got) {
		t.Errorf("got %+v, want %+v", got, s)
	}
	s.State = BackingOff
	if got := FromRecord(s.Record()); !got.Instance.Ended {
		t.Errorf("an instance in state %s is only to be deleted", s.State)
	}
}

// The addresses of an instance are those that were found, also of one whose start was not
// recorded any more.
func TestAddressesOfTheAdopted(t *testing.T) {
	found := Found{Running: true, PID: 1, Addresses: []string{"10.0.0.2"}}
	running, creating := runningSince(t0), Status{State: Creating, Instance: &Instance{ID: "one", Revision: service().Revision, CreatedAt: t0}}
	for _, s := range []Status{running, creating} {
		if got := adopted(s, found, t0).Instance.Addresses; len(got) != 1 || got[0] != "10.0.0.2" {
			t.Errorf("in state %s: %v", s.State, got)
		}
	}
}

// What ended a container is one of the causes, also where an earlier purser noted none.
func TestRecordOfAnExitWithoutACause(t *testing.T) {
	s := Status{State: BackingOff, LastExit: &Exit{Code: 3, Instance: "one"}}
	if got := FromRecord(s.Record()).LastExit.Cause; got != Exited {
		t.Errorf("got %q", got)
	}
}

// What was recorded as waiting for its image may have been started since.
func TestRecordOfAStart(t *testing.T) {
	for _, state := range []State{Pulling, Creating} {
		s := Status{State: state, Instance: &Instance{ID: "one", Revision: service().Revision, CreatedAt: t0}}
		if got := FromRecord(s.Record()); !got.Instance.Unverified || got.Instance.Ended {
			t.Errorf("in state %s an instance must be looked at: %+v", state, got.Instance)
		}
	}
}
