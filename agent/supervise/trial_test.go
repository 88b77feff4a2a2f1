package supervise

import (
	"errors"
	"testing"
	"time"

	"github.com/purserd/purser/api/launchspec"
)

// trialOf is a trial of other versions in the place of what is wanted.
func trialOf(d Desired) Desired {
	r := *d.Revision
	d.Run++
	d.Trial, d.Revision = true, &r
	return d
}

// judgedService is a rolling service with a health timeout of half a minute.
func judgedService(change func(*Policy)) Desired {
	return rollingService(func(p *Policy) {
		p.HealthTimeout = 30 * time.Second
		if change != nil {
			change(p)
		}
	})
}

func withReady(p *Policy) { p.Ready = true }

// tryingSince is the status of a trial whose instance is up since t0, alone or beside the
// one before it.
func tryingSince(d Desired, state State, beside bool) Status {
	s := rollingSince(state, &Instance{StartedAt: t0, UpAt: t0})
	s.Instance.Revision = d.Revision
	if !beside {
		s.Kept = nil
	}
	return s
}

// An instance on trial is healthy once it has served for long enough on end, and is ended
// if that is not so in time. Any other is neither.
func TestTry(t *testing.T) {
	plain, probed := trialOf(judgedService(nil)), trialOf(judgedService(withReady))
	in := func(s Status, change func(*Status)) Status { change(&s); return s }
	unready := func(s *Status) { s.Reason = "not ready: connection refused" }
	later := func(s *Status) { s.Since = t0.Add(25 * time.Second) }
	committed := plain
	committed.Trial = false
	adopted := func(s *Status) { s.Instance.AdoptedAt = t0.Add(time.Hour) }
	for name, tc := range map[string]struct {
		d       Desired
		s       Status
		after   time.Duration
		action  Action
		healthy bool
		ending  string
		wake    time.Duration // after t0; 0: none
	}{
		"not for long enough":       {plain, tryingSince(plain, Running, false), 9 * time.Second, Wait, false, "", 10 * time.Second},
		"for long enough":           {plain, tryingSince(plain, Running, false), 10 * time.Second, Wait, true, "", 0},
		"beside the one before":     {plain, tryingSince(plain, Running, true), 9 * time.Second, Wait, false, "", 10 * time.Second},
		"takes over":                {plain, tryingSince(plain, Running, true), 10 * time.Second, Promote, true, "", 0},
		"no trial":                  {committed, tryingSince(plain, Running, false), time.Hour, Wait, false, "", 0},
		"not ready yet":             {probed, in(tryingSince(probed, Running, true), unready), 29 * time.Second, Wait, false, "", 30 * time.Second},
		"not ready in time":         {probed, in(tryingSince(probed, Running, true), unready), 30 * time.Second, Signal, false, "not ready after 30s (rotation.health_timeout): its ready probe: connection refused", 40 * time.Second},
		"ready, not on end yet":     {probed, in(tryingSince(probed, Ready, true), later), 29 * time.Second, Wait, false, "", 30 * time.Second},
		"ready, not on end in time": {probed, in(tryingSince(probed, Ready, true), later), 30 * time.Second, Signal, false, "ready, but not for 10s on end (rotation.min_ready) within 30s (rotation.health_timeout)", 40 * time.Second},
		"not up":                    {plain, in(tryingSince(plain, Starting, true), func(s *Status) { s.Instance.UpAt = time.Time{} }), time.Hour, Wait, false, "", 0},
		"was healthy, is not ready": {probed, in(tryingSince(probed, Running, true), func(s *Status) { s.Instance.Healthy = true }), time.Hour, Wait, true, "", 0},
		"nobody has looked":         {plain, in(tryingSince(plain, Running, false), adopted), time.Hour, Wait, false, "", time.Hour + 10*time.Second},
		"looked at for long enough": {plain, in(tryingSince(plain, Running, false), adopted), time.Hour + 10*time.Second, Wait, true, "", 0},
		"not ready since looked at": {probed, in(tryingSince(probed, Running, false), adopted), time.Hour, Wait, false, "", time.Hour + 30*time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			was := *tc.s.Instance
			s, action, wake := Step(tc.d, tc.s, t0.Add(tc.after), Chance{})
			if action != tc.action || s.Instance.Healthy != tc.healthy {
				t.Errorf("%s: %q, healthy %v", s.State, action, s.Instance.Healthy)
			}
			var ending Ending
			if e := s.Instance.Ending; e != nil {
				ending = *e
			}
			if want := (Ending{Unhealthy, tc.ending}); tc.ending != "" && ending != want || tc.ending == "" && ending != (Ending{}) {
				t.Errorf("is ended for %+v", ending)
			}
			var want time.Time
			if tc.wake != 0 {
				want = t0.Add(tc.wake)
			}
			if !wake.Equal(want) {
				t.Errorf("wakes at %v, want %v", wake, want)
			}
			if tc.s.Instance.Healthy != was.Healthy || tc.s.Instance.Ending != was.Ending {
				t.Error("a step has changed the status that it was given")
			}
		})
	}
}

// What an exit leads to on trial, whatever the policy is, and once it is over.
func TestExitsOnTrial(t *testing.T) {
	ends := func(e Exit) func(Desired, Status) Status {
		return func(d Desired, s Status) Status { return exited(d, s, e, t0.Add(time.Second), 0) }
	}
	fails := func(err error) func(Desired, Status) Status {
		return func(d Desired, s Status) Status { return startFailed(d, s, err, t0, 0) }
	}
	lost := func(boot string) func(Desired, Status) Status {
		return func(d Desired, s Status) Status { return vanished(d, s, boot, t0, 0) }
	}
	ending := func(s *Status) { s.Instance.Ending, s.Instance.StopSince = &Ending{Unhealthy, "not ready"}, t0 }
	creating := func(s *Status) {
		s.State, s.Instance = Creating, &Instance{ID: "new", Revision: s.Instance.Revision}
	}
	same := func(*Status) {}
	for name, tc := range map[string]struct {
		in     func(*Status)
		then   func(Desired, Status) Status
		state  State
		reason string
		cause  string
	}{
		"status 0":               {same, ends(exit(0, t0)), Failed, "exited with status 0", Exited},
		"status 1":               {same, ends(exit(1, t0)), Failed, "exited with status 1", Exited},
		"ended as unhealthy":     {ending, ends(exit(0, t0)), Failed, "not ready", Unhealthy},
		"lost":                   {same, lost(""), Failed, "ended while nobody watched; its exit status is unknown", Lost},
		"rebooted":               {func(s *Status) { s.Instance.Boot = "first" }, lost("second"), Failed, "the node was rebooted", Rebooted},
		"refused":                {creating, fails(&ExitError{Code: 127, Message: "not found"}), Failed, "not found", Refused},
		"no image":               {creating, fails(errors.New("no image")), BackingOff, "no image", ""},
		"not come to":            {creating, lost(""), Pending, "the agent was restarted before it had started", ""},
		"a pause has ended it":   {func(s *Status) { s.State, s.Instance.StopSince = Stopping, t0 }, ends(exit(143, t0)), Pending, "being replaced", Exited},
		"so under another agent": {func(s *Status) { s.State = Stopping }, ends(exit(143, t0)), Pending, "being replaced", Exited},
		"after it was healthy":   {func(s *Status) { s.Instance.Healthy = true }, ends(exit(1, t0)), BackingOff, "exited with status 1", Exited},
	} {
		for _, policy := range []string{"always", "on_failure", "never"} {
			if policy == "never" && tc.state == BackingOff && tc.cause != "" {
				continue
			}
			t.Run(name+", "+policy, func(t *testing.T) {
				d := trialOf(judgedService(func(p *Policy) { p.Restart = policy }))
				s := tryingSince(d, Running, true)
				tc.in(&s)
				s = tc.then(d, s)
				if s.State != tc.state || s.Reason != tc.reason {
					t.Errorf("%s: %s", s.State, s.Reason)
				}
				if e := s.LastExit; tc.cause == "" && e != nil || tc.cause != "" && e.Cause != tc.cause {
					t.Errorf("exit %+v", e)
				}
				s.Instance = nil
				if _, action, wake := Step(d, s, t0.Add(time.Hour), Chance{}); tc.state == Failed && (action != Wait || !wake.IsZero()) {
					t.Errorf("then %q", action)
				}
			})
		}
	}
}

// A spec that is tried may have a service do what it is for, and end: where its policy says so.
func TestCompletesOnTrial(t *testing.T) {
	for policy, want := range map[string][2]State{"always": {Failed, Failed}, "on_failure": {Completed, Failed}, "never": {Failed, Failed}} {
		for status, want := range want {
			d := trialOf(judgedService(func(p *Policy) { p.Restart = policy }))
			d.Completes = true
			s := exited(d, tryingSince(d, Running, true), exit(uint32(status), t0), t0.Add(time.Second), 0)
			if s.State != want {
				t.Errorf("%s, status %d: %s", policy, status, s.State)
			}
			if tried := (View{Desired: d, Status: s}).Tried(); (tried.Outcome == Passed) != (want == Completed) {
				t.Errorf("%s, status %d: %s", policy, status, tried.Outcome)
			}
		}
	}
}

// A service that has failed on trial, and is wanted all the same, runs by its policy.
func TestCommittedAfterItHasFailed(t *testing.T) {
	for policy, want := range map[string]Action{"always": Start, "on_failure": Start, "never": Wait} {
		d := trialOf(judgedService(func(p *Policy) { p.Restart = policy }))
		d.Trial = false
		if _, action, _ := Step(d, Status{State: Failed, Run: d.Run}, t0, Chance{}); action != want {
			t.Errorf("%s: %q", policy, action)
		}
	}
}

// A trial that is withdrawn: what becomes of its instance, and of the one before it.
func TestWithdrawn(t *testing.T) {
	before := judgedService(nil)
	d := trialOf(before)
	with := func(state State, i *Instance, change func(*Status)) Status {
		s := rollingSince(state, i)
		change(&s)
		return s
	}
	same := func(*Status) {}
	runs := func() *Instance { return &Instance{StartedAt: t0, UpAt: t0} }
	promoted := &Instance{StartedAt: t0, UpAt: t0, Promoted: true}
	promoting := &Instance{StartedAt: t0, UpAt: t0, Promoting: true}
	keptEnds := func(s *Status) { s.Kept.State, s.Kept.Instance.StopSince = Stopping, t0 }
	keptHasEnded := func(s *Status) { s.Kept.State, s.Kept.Instance.Ended = Failed, true }
	keptIsProbedAway := func(s *Status) { s.Kept.Instance.Ending = &Ending{ProbeFailed, "x"} }
	for name, tc := range map[string]struct {
		s          Status
		state      State
		instance   string
		action     Action
		kept       string
		keptAction Action
	}{
		"as it is created":         {with(Creating, &Instance{}, same), Running, "old", Wait, "new", Abort},
		"as it pulls":              {with(Pulling, &Instance{}, same), Running, "old", Wait, "new", Abort},
		"as it runs":               {with(Running, runs(), same), Running, "old", Wait, "new", Signal},
		"as it starts":             {with(Starting, runs(), same), Running, "old", Wait, "new", Signal},
		"as it is to take over":    {with(Running, promoting, same), Running, "old", Promote, "new", Wait},
		"as it has taken over":     {with(Running, promoted, same), Running, "old", Promote, "new", Wait},
		"as it fails":              {with(Failed, &Instance{StartedAt: t0, Ended: true}, same), Running, "old", Wait, "new", Delete},
		"once it has failed":       {with(Failed, nil, same), Running, "old", Wait, "", Wait},
		"as it cannot be started":  {backingOff(with(BackingOff, nil, same)), Running, "old", Wait, "", Wait},
		"nobody has looked":        {with(Running, runs(), func(s *Status) { s.Instance.Unverified, s.Kept.Instance.Unverified = true, true }), Running, "old", Inspect, "new", Inspect},
		"as the old one ends":      {with(Running, promoted, keptEnds), Running, "new", Wait, "old", Signal},
		"failed, as it ends":       {with(BackingOff, nil, keptEnds), Pending, "", Wait, "old", Signal},
		"the old one has ended":    {with(Failed, nil, keptHasEnded), Creating, "next", Start, "old", Delete},
		"the old one is to end":    {with(Failed, nil, keptIsProbedAway), Creating, "next", Start, "old", Signal},
		"there was no old one":     {with(Failed, nil, func(s *Status) { s.Kept = nil }), Creating, "next", Start, "", Wait},
		"it runs, with no old one": {with(Running, runs(), func(s *Status) { s.Kept = nil }), Creating, "next", Start, "new", Wait},
	} {
		t.Run(name, func(t *testing.T) {
			if tc.s.Instance != nil {
				tc.s.Instance.Revision = d.Revision
			}
			s, action, _ := Step(before, tc.s, t0, Chance{ID: "next"})
			s, keptAction, _ := keptStep(before, s, t0)
			var instance, kept string
			if s.Instance != nil {
				instance = s.Instance.ID
			}
			if s.Kept != nil {
				kept = s.Kept.Instance.ID
			}
			if s.State != tc.state || instance != tc.instance || action != tc.action {
				t.Errorf("%s: %s and %q", instance, s.State, action)
			}
			if kept != tc.kept || keptAction != tc.keptAction {
				t.Errorf("the kept one, %s: %s and %q", kept, s.ofKept().State, keptAction)
			}
		})
	}
}

// Where an instance cannot be kept, going back is another start.
func TestWithdrawnWithoutAKeptOne(t *testing.T) {
	before := judgedService(func(p *Policy) { p.Rolling = false })
	d := trialOf(before)
	s, action, _ := Step(before, runningOf(d), t0, Chance{ID: "next"})
	if s.State != Stopping || action != Signal || s.Reason != "going back to what ran before" {
		t.Fatalf("%s: %s, %q", s.State, s.Reason, action)
	}
	s = exited(before, s, exit(143, t0), t0, 0)
	if s.State != Pending || s.Reason != "going back to what ran before" {
		t.Errorf("%s: %s", s.State, s.Reason)
	}
	s, action, _ = Step(before, deleted(s), t0, Chance{ID: "next"})
	if s.Run != before.Run || s.Instance.ID != "next" || s.Instance.Revision != before.Revision || action != Start {
		t.Errorf("%+v, %q", s, action)
	}
}

// What is known of the instance before is as if there had been no trial, but for what has
// become of that.
func TestWhatIsKnownAfterATrial(t *testing.T) {
	before := judgedService(nil)
	d := trialOf(before)
	was := runningSince(t0.Add(-time.Hour))
	was.Restarts, was.Previous, was.Failures, was.Attempts = 4, "older", 2, 3
	was.Instance.Revision = before.Revision
	s, _, _ := Step(d, was, t0, Chance{ID: "new"})
	deferredTry := deferred(d, s, "no image", t0, 0)
	s = started(s, Started{PID: 1}, t0)
	if s.Restarts != 5 || s.Previous != "one" {
		t.Fatalf("as it is tried: %+v", s)
	}
	failed := exited(d, s, Exit{Code: 3, Cause: Exited, StartedAt: t0, FinishedAt: t0, Instance: "new"}, t0, 0)
	for name, tc := range map[string]struct {
		s        Status
		previous string
	}{"as it runs": {s, "new"}, "as it has failed": {failed, "new"}, "once that is deleted": {deleted(failed), "new"}, "it never ran": {deferredTry, "older"}} {
		back, _, _ := Step(before, tc.s, t0, Chance{})
		if back.Previous != tc.previous || back.LastExit != tc.s.LastExit || back.LastInstance() != "one" {
			t.Errorf("%s: %+v", name, back)
		}
		back.Kept, back.Previous, back.LastExit = nil, was.Previous, nil
		back.Instance.Promoted = false
		if !same(was, back) {
			t.Errorf("%s: it was %+v and is %+v", name, was, back)
		}
	}
}

// The files of an instance that were replaced are those of its revision from then on, and
// of no other instance.
func TestDelivered(t *testing.T) {
	d := judgedService(nil)
	s := runningOf(d)
	r := *d.Revision
	d.Revision = &r
	for name, tc := range map[string]struct {
		delivered string
		run       uint64
		want      bool
	}{"to it": {"new", d.Run, true}, "to another": {"x", d.Run, false}, "to none": {"", d.Run, false}, "in another run": {"new", d.Run + 1, false}} {
		d := d
		d.Delivered, d.Run = tc.delivered, tc.run
		got, _, _ := Step(d, s, t0, Chance{ID: "next"})
		if i := got.Container("new"); i == nil || (i.Revision == d.Revision) != tc.want {
			t.Errorf("%s: %+v", name, i)
		}
		if s.Instance.Revision == d.Revision {
			t.Errorf("%s: the status given has changed", name)
		}
	}
}

// How a trial stands, for who has begun it.
func TestTried(t *testing.T) {
	d := trialOf(judgedService(nil))
	crashed := Exit{Code: 1, Cause: OOMKilled, Reason: "killed", Instance: "new", StartedAt: t0, FinishedAt: t0}
	with := func(s Status, change func(*Status)) Status { change(&s); return s }
	failed := with(rollingSince(Failed, nil), func(s *Status) { s.Reason, s.LastExit = "killed", &crashed })
	for name, tc := range map[string]struct {
		s    Status
		want Verdict
	}{
		"not begun":   {runningOf(judgedService(nil)), Verdict{UnderWay, "", "", "", t0}},
		"is created":  {rollingSince(Creating, &Instance{}), Verdict{UnderWay, "", "", "", t0}},
		"runs":        {tryingSince(d, Running, true), Verdict{UnderWay, "", "", "", t0}},
		"not ready":   {with(tryingSince(d, Running, true), func(s *Status) { s.Reason = "not ready: x" }), Verdict{UnderWay, "", "not ready: x", "", t0}},
		"healthy":     {with(tryingSince(d, Running, true), func(s *Status) { s.Instance.Healthy = true }), Verdict{Passed, "new", "", "", t0}},
		"and done":    {with(rollingSince(Completed, nil), func(s *Status) { s.LastExit = &crashed }), Verdict{Passed, "new", "", "", t0}},
		"and crashed": {with(rollingSince(BackingOff, nil), func(s *Status) { s.LastExit, s.Reason = &crashed, "killed" }), Verdict{UnderWay, "", "killed", "", t0}},
		"failed":      {failed, Verdict{Defeated, "new", "killed", OOMKilled, t0}},
		"and then the kept one": {with(failed, func(s *Status) { s.LastExit = &Exit{Reason: "other", Instance: "old"} }),
			Verdict{Defeated, "", "killed", "", t0}},
		"no image": {with(rollingSince(BackingOff, nil), func(s *Status) { s.Reason, s.Attempts = "no image", 0 }), Verdict{Deferred, "", "no image", "", t0}},
	} {
		if got := (View{Desired: d, Status: tc.s}).Tried(); got != tc.want {
			t.Errorf("%s: %+v, want %+v", name, got, tc.want)
		}
	}
}

// Whoever waits for a workload, or is to be woken for one, hears nothing of a trial that
// fails beside what serves.
func TestViewOfATrial(t *testing.T) {
	d := trialOf(judgedService(nil))
	committed := d
	committed.Trial = false
	failed, alone := rollingSince(Failed, nil), rollingSince(Failed, nil)
	alone.Kept = nil
	for name, tc := range map[string]struct {
		d        Desired
		s        Status
		settled  bool
		notReady bool
		serving  string
	}{
		"tried beside":       {d, rollingSince(Creating, &Instance{}), false, false, "old"},
		"changed beside":     {committed, rollingSince(Creating, &Instance{}), false, true, "old"},
		"failed beside":      {d, failed, false, false, "old"},
		"failed alone":       {d, alone, false, true, ""},
		"failed for good":    {committed, alone, true, true, ""},
		"withdrawn, and not": {judgedService(nil), failed, false, true, "old"},
	} {
		v := View{Desired: tc.d, Status: tc.s}
		var serving string
		if i := v.Serving(); i != nil {
			serving = i.ID
		}
		if v.Settled() != tc.settled || v.NotReady() != tc.notReady || serving != tc.serving || v.Crashed() {
			t.Errorf("%s: settled %v, not ready %v, %q serves", name, v.Settled(), v.NotReady(), serving)
		}
	}
}

// When a workload will be healthy is known of one that is as it is wanted, and ready.
func TestHealthyAt(t *testing.T) {
	d := judgedService(nil)
	at := t0.Add(10 * time.Second)
	stopped := d
	stopped.Goal = Stop
	unverified := runningOf(d)
	unverified.Instance.Unverified = true
	unready := runningOf(d)
	unready.Instance.Revision = judgedService(withReady).Revision
	for name, tc := range map[string]struct {
		d    Desired
		s    Status
		want time.Time
	}{
		"runs":           {d, runningOf(d), at},
		"is to stop":     {stopped, runningOf(d), time.Time{}},
		"is replaced":    {again(d), runningOf(d), time.Time{}},
		"not ready":      {d, unready, time.Time{}},
		"not looked at":  {d, unverified, time.Time{}},
		"waits":          {d, Status{State: BackingOff, Run: d.Run}, time.Time{}},
		"is being ended": {d, stoppingOf(d), time.Time{}},
	} {
		if got, ok := (View{Desired: tc.d, Status: tc.s}).HealthyAt(); !got.Equal(tc.want) || ok == tc.want.IsZero() {
			t.Errorf("%s: %v, %v", name, got, ok)
		}
	}
}

// What is ended for another reason already is ended for that.
func TestEndedOnceOnTrial(t *testing.T) {
	d := trialOf(judgedService(withReady))
	s := tryingSince(d, Running, true)
	s = probed(s, Probed{Probe: launchspec.ProbeLive, Message: "no answer"}, t0)
	s, action, _ := Step(d, s, t0.Add(time.Minute), Chance{})
	if e := s.Instance.Ending; e.Cause != ProbeFailed || action != Signal {
		t.Errorf("%+v, %q", e, action)
	}
}

// One that an earlier agent was stopping, and that is wanted after all, is judged from then on.
func TestJudgedAfterAStopThatWasCalledOff(t *testing.T) {
	d := trialOf(judgedService(nil))
	s := tryingSince(d, Stopping, false)
	s, action, wake := Step(d, s, t0.Add(5*time.Second), Chance{})
	if s.State != Running || action != Wait || !wake.Equal(t0.Add(15*time.Second)) {
		t.Errorf("%s, %q until %v", s.State, action, wake)
	}
}

// A later agent knows whether an instance was healthy, since when it was up, and what was
// known of the kept one.
func TestRecordOfATrial(t *testing.T) {
	d := trialOf(judgedService(nil))
	s := tryingSince(d, Running, true)
	s.Instance.Healthy, s.Kept.Restarts, s.Kept.Attempts = true, 3, 2
	got := FromRecord(s.Record())
	if i := got.Instance; !i.Healthy || !i.UpAt.Equal(t0) || got.Kept.Restarts != 3 || got.Kept.Attempts != 2 || !same(s, got) {
		t.Errorf("got %+v, %+v, %+v", got, i, got.Kept)
	}
	s.Instance.Healthy = false
	if same(s, got) {
		t.Error("whether it is healthy is not on record")
	}
}

// One that an earlier purser has left is up since it started, if it is up.
func TestUpSince(t *testing.T) {
	for state, want := range map[State]time.Time{Running: t0, Ready: t0, Starting: {}} {
		s := runningSince(t0)
		s.State = state
		if got := adopted(s, Found{Running: true}, t0.Add(time.Hour)).Instance.UpAt; !got.Equal(want) {
			t.Errorf("%s: since %v", state, got)
		}
	}
}
