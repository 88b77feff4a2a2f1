package supervise

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/purserd/purser/api/launchspec"
)

// The startup probe that an earlier agent was asking is asked by the next one, too; one
// that has passed is not asked again.
func TestStartupOutlivesTheAgent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode()
		d := probedService(func(p *Policy) { p.Startup, p.Live = true, true })
		r := begin(t, n, d, Begin(d))
		r.end()
		r = begin(t, n, d, r.found(d))
		r.is(Starting)
		if n.probed() != 1 || n.startedUp {
			t.Errorf("%d are probed, started up: %v", n.probed(), n.startedUp)
		}
		n.probe(Probed{Probe: launchspec.ProbeStartup, OK: true})
		r.is(Running)
		r.end()
		r = begin(t, n, d, r.found(d))
		r.is(Running)
		if n.probed() != 1 || !n.startedUp {
			t.Errorf("%d are probed, started up: %v", n.probed(), n.startedUp)
		}
		r.end()
	})
}

// What an earlier agent had running is probed once it is known that it runs.
func TestProbingWaitsForAdoption(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode()
		d := probedService(func(p *Policy) { p.Live = true })
		r := begin(t, n, d, Begin(d))
		r.end()
		n.set(func(n *node) { n.down = true })
		r = begin(t, n, d, r.found(d))
		if n.probed() != 0 {
			t.Error("it is probed although nobody knows whether it runs")
		}
		n.set(func(n *node) { n.down = false })
		<-time.After(5 * time.Second)
		if n.probed() != 1 {
			t.Errorf("%d are probed", n.probed())
		}
		r.end()
	})
}

// A start that an agent had recorded, and did not come to, is no attempt of a job.
func TestStartThatTheAgentDiedBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode()
		d := job()
		d.Policy.Retries = 1
		planned := Begin(d)
		planned.Instance.Unverified = true
		n.lifetime, n.code = time.Second, 9
		r := begin(t, n, d, planned)
		v, err := r.WaitFor(t.Context(), func(v View) bool { return v.Status.State == Failed })
		if err != nil || n.starts() != 2 || v.Status.Attempts != 2 {
			t.Errorf("%v, %d starts, %d attempts", err, n.starts(), v.Status.Attempts)
		}
		r.end()
	})
}

// Every instance is on record before anything of it is made: none that is not can be.
func TestInstancesAreRecordedFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode()
		n.lifetime, n.code = time.Second, 1
		r := begin(t, n, service(), Begin(service()))
		n.set(func(n *node) {
			n.creating = func(id string) {
				if recorded := r.memory.instance(); recorded != id {
					t.Errorf("%s is created while %q is on record", id, recorded)
				}
			}
		})
		r.memory.fail(errors.New("no space left on device"))
		<-time.After(time.Minute)
		if n.starts() != 1 {
			t.Errorf("%d starts, although none but the first could be recorded", n.starts())
		}
		r.memory.fail(nil)
		<-time.After(2 * actionPause)
		if n.starts() < 2 {
			t.Error("it was not started when it could be recorded")
		}
		r.end()
	})
}
