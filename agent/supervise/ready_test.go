package supervise

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

// ready waits until r is ready and returns what it then is, and how long that took.
func (r *rig) ready() (View, time.Duration) {
	r.t.Helper()
	began := time.Now()
	v, err := r.WaitReady(r.t.Context())
	if err != nil {
		r.t.Fatal(err)
	}
	return v, time.Since(began)
}

func TestReadyIsToHaveRunForAMoment(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode()
		n.slowStart = 5 * time.Second
		r := begin(t, n, service(), Begin(service()))
		if v, took := r.ready(); !v.Runs() || took != 6*time.Second {
			t.Errorf("%s after %v", v.Status.State, took)
		}
		if v, took := r.ready(); !v.Runs() || took != 0 {
			t.Errorf("one that has run for long: %s after %v", v.Status.State, took)
		}
		r.end()
	})
}

// One that is on trial is ready when it is known to be healthy, be there a ready probe or not.
func TestReadyWaitsForATrial(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := trialOf(judgedService(func(p *Policy) { p.Rolling = false }))
		r := begin(t, newNode(), d, Begin(d))
		if v, took := r.ready(); !v.Runs() || took < 10*time.Second {
			t.Errorf("%s after %v", v.Status.State, took)
		}
		r.end()
	})
}

func TestReadyTellsACrash(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode()
		n.lifetime, n.code = 10*time.Millisecond, 3
		r := begin(t, n, service(), Begin(service()))
		if v, took := r.ready(); !v.Crashed() || v.Status.LastExit.Code != 3 || took != 10*time.Millisecond {
			t.Errorf("%+v after %v", v.Status, took)
		}
		r.end()
	})
}

// What a workload waits for is no crash, also when it has crashed before.
func TestReadyWaitsForWhatIsOutside(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode()
		n.lifetime, n.code = 10*time.Millisecond, 3
		r := begin(t, n, service(), Begin(service()))
		<-time.After(20 * time.Millisecond)
		n.set(func(n *node) { n.down, n.lifetime = true, 0 })
		<-time.After(5 * time.Second)
		r.is(BackingOff)
		time.AfterFunc(time.Minute, func() { n.set(func(n *node) { n.down = false }) })
		if v, took := r.ready(); !v.Runs() || took < time.Minute {
			t.Errorf("%s after %v", v.Status.State, took)
		}
		r.end()
	})
}

func TestReadyJobs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := begin(t, newNode(), job(), Begin(job()))
		if v, took := r.ready(); !v.Runs() || took != 0 {
			t.Errorf("%s after %v", v.Status.State, took)
		}
		r.end()

		n := newNode()
		n.lifetime, n.code = time.Nanosecond, 3
		r = begin(t, n, job(), Begin(job()))
		<-time.After(time.Hour)
		if v, took := r.ready(); v.Status.State != Failed || took != 0 {
			t.Errorf("%s after %v", v.Status.State, took)
		}
		r.end()
	})
}

func TestReadyEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := begin(t, newNode(), service(), Begin(service()))
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		began := time.Now()
		if _, err := r.WaitReady(ctx); err == nil || time.Since(began) != 10*time.Millisecond {
			t.Errorf("%v after %v", err, time.Since(began))
		}
		r.end()
	})
}

// What runs and does not pass its probes does not do yet what it is for.
func TestReady(t *testing.T) {
	for name, tc := range map[string]struct {
		state State
		of    Policy
		want  bool
	}{
		"a service runs":            {Running, Policy{}, true},
		"it has not started up":     {Starting, Policy{Startup: true}, false},
		"its ready probe fails":     {Running, Policy{Ready: true}, false},
		"its ready probe passes":    {Ready, Policy{Ready: true}, true},
		"a job has not started up":  {Starting, Policy{Job: true, Startup: true}, true},
		"a service waits to be run": {BackingOff, Policy{}, false},
	} {
		v := View{Status: Status{State: tc.state, Instance: &Instance{}}}
		v.Desired.Revision = &Revision{Policy: tc.of}
		if got := v.Ready(); got != tc.want {
			t.Errorf("%s: ready %v", name, got)
		}
	}
}

// What is to run and is not ready can be alerted on; what is not to run, or is done, is
// nothing to wake anybody for.
func TestNotReady(t *testing.T) {
	for name, tc := range map[string]struct {
		state State
		goal  Goal
		run   uint64
		of    Policy
		want  bool
	}{
		"a service runs":               {Running, Run, 1, Policy{}, false},
		"its ready probe fails":        {Running, Run, 1, Policy{Ready: true}, true},
		"its ready probe passes":       {Ready, Run, 1, Policy{Ready: true}, false},
		"it has not started up":        {Starting, Run, 1, Policy{Startup: true}, true},
		"it crashes again and again":   {BackingOff, Run, 1, Policy{}, true},
		"it has failed for good":       {Failed, Run, 1, Policy{}, true},
		"it has completed":             {Completed, Run, 1, Policy{}, false},
		"it has not been started anew": {Completed, Run, 2, Policy{}, true},
		"it was stopped":               {Stopped, Stop, 1, Policy{}, false},
		"it is being removed":          {Stopping, Remove, 1, Policy{}, false},
		"its node is drained":          {Pending, Pause, 1, Policy{}, false},
		"a job waits for its image":    {Pulling, Run, 1, Policy{Job: true}, true},
		"a job runs":                   {Running, Run, 1, Policy{Job: true}, false},
		"a job has failed":             {Failed, Run, 1, Policy{Job: true}, false},
	} {
		v := View{Status: Status{State: tc.state, Run: 1, Instance: &Instance{}}}
		v.Desired = Desired{Goal: tc.goal, Run: tc.run, Revision: &Revision{Policy: tc.of}}
		if got := v.NotReady(); got != tc.want {
			t.Errorf("%s: not ready %v", name, got)
		}
	}
}
