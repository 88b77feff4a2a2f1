package supervise

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/purserd/purser/api/launchspec"
)

// probedService is a service with probes of these kinds.
func probedService(change func(*Policy)) Desired {
	d := service()
	change(&d.Policy)
	return d
}

func TestProbesSayWhatAServiceIs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode()
		d := probedService(func(p *Policy) { p.Startup, p.Ready, p.Live = true, true, true })
		r := begin(t, n, d, Begin(d))
		r.is(Starting)
		n.probe(Probed{Probe: launchspec.ProbeStartup, OK: true})
		r.is(Running)
		n.probe(Probed{Probe: launchspec.ProbeReady, OK: true})
		r.is(Ready)
		n.probe(Probed{Probe: launchspec.ProbeReady, Message: "connection refused"})
		r.is(Running)
		if v, _ := r.View(); v.Status.Reason != "not ready: connection refused" {
			t.Errorf("reason %q", v.Status.Reason)
		}
		n.probe(Probed{Probe: launchspec.ProbeLive, Message: "status 503"})
		r.is(BackingOff)
		v, _ := r.View()
		if e := v.Status.LastExit; e.Cause != ProbeFailed || e.Reason != "its live probe failed: status 503" || e.Code != 143 {
			t.Errorf("exit %+v", e)
		}
		if n.probed() != 0 {
			t.Error("what has ended is being probed")
		}
		<-time.After(time.Second)
		r.is(Starting)
		n.probe(Probed{Probe: launchspec.ProbeStartup, Message: "too late"})
		r.is(BackingOff)
		r.end()
		if n.probed() != 0 {
			t.Error("it is probed although nobody supervises it")
		}
	})
}

// A failed probe is a failure, whatever exit status it ends with.
func TestFailedProbeWithStatus0(t *testing.T) {
	for policy, want := range map[string]State{"always": BackingOff, "on_failure": BackingOff, "never": Failed} {
		d := probedService(func(p *Policy) { p.Live, p.Restart = true, policy })
		s := exited(d, probed(runningSince(t0), Probed{Probe: launchspec.ProbeLive}, t0), exit(0, t0), t0, 0)
		if s.State != want || s.LastExit.Cause != ProbeFailed {
			t.Errorf("%s: %s, %+v", policy, s.State, s.LastExit)
		}
	}
}

// What is to be stopped is not probed any more.
func TestStopEndsProbing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode()
		n.stubborn = true
		d := probedService(func(p *Policy) { p.Ready = true })
		r := begin(t, n, d, Begin(d))
		n.probe(Probed{Probe: launchspec.ProbeReady, OK: true})
		r.goal(Stop)
		r.is(Stopping)
		if n.probed() != 0 {
			t.Error("it is probed")
		}
		r.end()
	})
}

// An agent that is started anew finds a service as ready as it was.
func TestReadyOutlivesTheAgent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode()
		d := probedService(func(p *Policy) { p.Ready = true })
		r := begin(t, n, d, Begin(d))
		n.probe(Probed{Probe: launchspec.ProbeReady, OK: true})
		r.is(Ready)
		r.end()
		r = begin(t, n, d, r.found(d))
		r.is(Ready)
		if n.probed() != 1 {
			t.Errorf("%d are probed", n.probed())
		}
		r.end()
	})
}

// found is what the next agent finds of a workload on record.
func (r *rig) found(d Desired) Status {
	s := FromRecord(r.memory.status.Record())
	if s.Instance != nil {
		s.Instance.Revision = d.Revision // whose policies are not those of a spec here
	}
	if s.Kept != nil {
		s.Kept.Instance.Revision = d.Revision
	}
	return s
}

// An agent that dies while it ends what failed a probe has a successor that does so.
func TestFailedProbeOutlivesTheAgent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode()
		n.stubborn = true
		d := probedService(func(p *Policy) { p.Live = true })
		r := begin(t, n, d, Begin(d))
		n.probe(Probed{Probe: launchspec.ProbeLive, Message: "status 503"})
		r.is(Stopping)
		r.end()
		n.set(func(n *node) { n.stubborn = false })
		r = begin(t, n, d, r.found(d))
		r.is(BackingOff)
		if v, _ := r.View(); v.Status.LastExit.Cause != ProbeFailed {
			t.Errorf("exit %+v", v.Status.LastExit)
		}
		r.end()
	})
}

func TestPreStopComesBeforeTheSignal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode()
		n.preStop = 4 * time.Second
		d := probedService(func(p *Policy) { p.PreStop = true })
		r := begin(t, n, d, Begin(d))
		r.goal(Stop)
		<-time.After(3 * time.Second)
		r.is(Stopping)
		<-time.After(time.Second)
		r.is(Stopped)
		if n.preStops != 1 || n.kills != 0 {
			t.Errorf("%d commands, %d kills", n.preStops, n.kills)
		}
		r.end()
	})
}

// One that hangs is not waited for longer than the grace.
func TestPreStopThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode()
		n.preStop = time.Hour
		d := probedService(func(p *Policy) { p.PreStop = true })
		r := begin(t, n, d, Begin(d))
		r.goal(Stop)
		<-time.After(10*time.Second - time.Nanosecond)
		r.is(Stopping)
		<-time.After(time.Nanosecond)
		r.is(Stopped)
		if n.kills != 1 {
			t.Errorf("%d kills", n.kills)
		}
		r.end()
	})
}

// What has ready probes is waited for until they pass.
func TestReadyByProbe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode()
		d := probedService(func(p *Policy) { p.Startup, p.Ready = true, true })
		r := begin(t, n, d, Begin(d))
		time.AfterFunc(time.Minute, func() { n.probe(Probed{Probe: launchspec.ProbeStartup, OK: true}) })
		time.AfterFunc(2*time.Minute, func() { n.probe(Probed{Probe: launchspec.ProbeReady, OK: true}) })
		if v, took := r.ready(); v.Status.State != Ready || took != 2*time.Minute {
			t.Errorf("%s after %v", v.Status.State, took)
		}
		r.end()

		n = newNode()
		d = probedService(func(p *Policy) { p.Startup = true })
		r = begin(t, n, d, Begin(d))
		time.AfterFunc(time.Minute, func() { n.probe(Probed{Probe: launchspec.ProbeStartup, OK: true}) })
		if v, took := r.ready(); v.Status.State != Running || took != time.Minute+settleTime {
			t.Errorf("%s after %v", v.Status.State, took)
		}
		r.end()
	})
}

// After a reboot a service comes back at once, whatever its policy, and a job has lost
// an attempt.
func TestReboot(t *testing.T) {
	for name, tc := range map[string]struct {
		d     Desired
		state State
	}{
		"service":         {probedService(func(p *Policy) { p.Restart = "never" }), Running},
		"job":             {job(), Failed},
		"job with a try":  {Desired{Goal: Run, Run: 1, Revision: &Revision{Generation: 1, Policy: Policy{Job: true, Retries: 1, TTL: -1}}}, Running},
		"service, stop":   {Desired{Goal: Stop, Run: 1, Revision: service().Revision}, Stopped},
		"service, update": {Desired{Goal: Run, Run: 2, Revision: service().Revision}, Running},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := newNode()
				first := tc.d
				first.Goal, first.Run = Run, 1
				r := begin(t, n, first, Begin(first))
				r.is(Running)
				r.end()
				n.set(func(n *node) { n.boot, n.exits = "second", map[string]chan uint32{} })
				r = begin(t, n, tc.d, r.found(first))
				r.is(tc.state)
				if v, _ := r.View(); v.Status.LastExit.Cause != Rebooted || v.Status.LastExit.Reason != "the node was rebooted" {
					t.Errorf("exit %+v", v.Status.LastExit)
				}
				r.end()
			})
		})
	}
}
