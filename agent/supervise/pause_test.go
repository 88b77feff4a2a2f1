package supervise

import (
	"testing"
	"testing/synctest"
	"time"
)

// drained is what is wanted of a workload on a node that is drained.
func drained(d Desired) Desired {
	d.Goal, d.Paused = Pause, Drained
	return d
}

func TestDrainedServiceComesBack(t *testing.T) {
	for _, restart := range []string{"always", "on_failure", "never"} {
		synctest.Test(t, func(t *testing.T) {
			d := service()
			d.Policy.Restart = restart
			n := newNode()
			r := begin(t, n, d, Begin(d))
			r.Want(drained(d))
			r.is(Pending)
			if v, _ := r.View(); v.Status.Reason != Drained || v.Status.Instance != nil {
				t.Errorf("%s: got %+v", restart, v.Status)
			}
			<-time.After(time.Hour)
			r.is(Pending)
			r.Want(d)
			r.is(Running)
			if n.starts() != 2 {
				t.Errorf("%s: %d starts", restart, n.starts())
			}
			r.end()
		})
	}
}

// What is called off too late is not taken for an exit of the service's own.
func TestDrainThatEndsWhileServiceStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := service()
		d.Policy.Restart = "never"
		n := newNode()
		n.stubborn = true
		r := begin(t, n, d, Begin(d))
		r.Want(drained(d))
		r.is(Stopping)
		r.Want(d)
		r.is(Stopping)
		<-time.After(d.Policy.Grace)
		r.is(Running)
		if n.starts() != 2 {
			t.Errorf("%d starts", n.starts())
		}
		r.end()
	})
}

func TestDrainedJobUsesUpAnAttempt(t *testing.T) {
	for retries, want := range map[uint32]State{0: Failed, 1: Pending} {
		synctest.Test(t, func(t *testing.T) {
			d := job()
			d.Policy.Retries = retries
			n := newNode()
			r := begin(t, n, d, Begin(d))
			r.Want(drained(d))
			r.is(want)
			v, _ := r.View()
			if reason := v.Status.LastExit.Reason; reason != "stopped as the node is drained: exited with status 143 (SIGTERM)" {
				t.Errorf("reason %q", reason)
			}
			r.Want(d)
			if want == Pending {
				want = Running
			}
			r.is(want)
			r.end()
		})
	}
}

func TestDeadlineCutsGraceShort(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode()
		n.stubborn = true
		r := begin(t, n, service(), Begin(service()))
		r.Want(drained(service()))
		<-time.After(time.Second)
		r.is(Stopping)
		// The deadline is set while the grace runs.
		d := drained(service())
		d.KillBy = time.Now().Add(2 * time.Second)
		r.Want(d)
		<-time.After(2*time.Second - time.Millisecond)
		r.is(Stopping)
		<-time.After(time.Millisecond)
		r.is(Pending)
		r.end()
	})
}
