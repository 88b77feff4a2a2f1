package agent

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/purserd/purser/agent/feed"
	"github.com/purserd/purser/agent/publish"
	"github.com/purserd/purser/agent/state"
	"github.com/purserd/purser/agent/supervise"
	statev1 "github.com/purserd/purser/api/purser/state/v1"
	purserv1 "github.com/purserd/purser/api/purser/v1"
	"github.com/purserd/purser/runtime"
)

// drainable is an agent with a database that runs workloads; supervisors do not.
func drainable(t *testing.T, records ...*statev1.Workload) *Agent {
	t.Helper()
	a := roomFor(records...)
	a.events, a.changes = feed.New[*purserv1.Event](16), feed.New[Change](16)
	a.publisher, a.runtime = new(publish.Publisher), new(runtime.Runtime)
	db, err := state.Open(filepath.Join(t.TempDir(), "state.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	a.db = db
	return a
}

func (a *Agent) goalOf(function string) supervise.Desired {
	v, _ := a.lookup("dev", "a/"+function).supervisor.View()
	return v.Desired
}

func TestDrainPausesAndUndrainResumes(t *testing.T) {
	stopped := asking("stopped", "1Mi")
	stopped.Goal = string(supervise.Stop)
	a := drainable(t, asking("f", "1Mi"), stopped)
	minute := time.Minute
	if err := a.beginDrain(&minute); err != nil {
		t.Fatal(err)
	}
	d := a.goalOf("f")
	if d.Goal != supervise.Pause || d.Paused != supervise.Drained || time.Until(d.KillBy) > minute || d.KillBy.IsZero() {
		t.Errorf("what runs: %+v", d)
	}
	if d := a.goalOf("stopped"); d.Goal != supervise.Stop || d.KillBy.IsZero() {
		t.Errorf("what is stopped: %+v", d)
	}
	if r := a.lookup("dev", "a/f").record(); r.GetGoal() != string(supervise.Run) {
		t.Errorf("the record's goal is %s", r.GetGoal())
	}
	if changed, err := a.Undrain(); err != nil || !changed {
		t.Errorf("undrain: %v, %v", changed, err)
	}
	if d, err := a.db.Drain(); err != nil || d != nil {
		t.Errorf("an agent that comes next finds the node drained: %v, %v", d, err)
	}
	if d := a.goalOf("f"); d.Goal != supervise.Run || d.Paused != "" || !d.KillBy.IsZero() {
		t.Errorf("afterwards: %+v", d)
	}
	if changed, err := a.Undrain(); err != nil || changed {
		t.Errorf("undrain again: %v, %v", changed, err)
	}
}

func TestDrainedNodeRefusesWhatWouldStart(t *testing.T) {
	a := drainable(t, asking("f", "1Mi"))
	if err := a.beginDrain(nil); err != nil {
		t.Fatal(err)
	}
	again := asking("f", "1Mi")
	again.Run = 2
	w := a.lookup("dev", "a/f")
	for name, err := range map[string]error{
		"launch":   failure(a.Launch(t.Context(), &purserv1.LaunchRequest{Spec: asking("g", "1Mi").GetSpec()})),
		"deploy":   failure(a.Deploy(t.Context(), "dev", "a", nil, false, false, false)),
		"rollback": failure(a.Rollback(t.Context(), "dev", "a", 0)),
		"start":    a.mayRun(w, again),
	} {
		var refusal *Refusal
		if !errors.As(err, &refusal) || refusal.Reason != Later || !strings.Contains(err.Error(), "purser undrain") {
			t.Errorf("%s: got %v", name, err)
		}
	}
	again.Goal = string(supervise.Stop)
	if err := a.mayRun(w, again); err != nil {
		t.Errorf("stop: %v", err)
	}
}

// failure is the error among what a method returns.
func failure[A, B any](_ A, _ B, err error) error { return err }

// withContainer has an agent know of a workload with a container.
func (a *Agent) withContainer(function string) *workload {
	r := asking(function, "1Mi")
	i := &supervise.Instance{ID: function, Revision: supervise.NewRevision(1, r.GetSpec(), nil)}
	w := newWorkload(a, r, supervise.Status{State: supervise.Running, Run: 1, Instance: i})
	a.workloads[w.key] = w
	return w
}

// A node is drained once it is known what runs on it, and that is nothing.
func TestDrainedWhenNothingRuns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := drainable(t)
		if err := a.beginDrain(nil); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		var driving sync.WaitGroup
		driving.Go(func() { a.driveDrain(ctx) })
		synctest.Wait()
		if a.drain.get().GetDrainedAt() != nil {
			t.Error("drained before it is known what runs")
		}
		a.gate.open()
		synctest.Wait()
		if a.drain.get().GetDrainedAt() == nil {
			t.Error("not drained, and nothing runs")
		}
		cancel()
		driving.Wait()
	})
	a := drainable(t)
	a.withContainer("f")
	if err := a.beginDrain(nil); err != nil {
		t.Fatal(err)
	}
	if a.noteDrained(a.drain.get()); a.drain.get().GetDrainedAt() != nil {
		t.Error("drained, and something runs")
	}
}

// What an agent that stops all comes to know of only then is to stop, too.
func TestEndingPauses(t *testing.T) {
	a := drainable(t, asking("f", "1Mi"))
	if err := a.Pause(t.Context()); err != nil {
		t.Fatal(err)
	}
	if d := a.goalOf("f"); d.Goal != supervise.Pause || d.Paused != "" {
		t.Errorf("what there was: %+v", d)
	}
	a.withContainer("g")
	if d := a.goalOf("g"); d.Goal != supervise.Pause {
		t.Errorf("what came later: %+v", d)
	}
	if err := a.beginDrain(nil); err == nil {
		t.Error("a drain was accepted")
	}
}

// A record is not deleted under a container that was taken over meanwhile.
func TestForgetOfWhatWasTakenOver(t *testing.T) {
	a := drainable(t)
	w := a.withContainer("f")
	if err := (journal{w}).Forget(desired(w.record())); !errors.Is(err, supervise.ErrSuperseded) {
		t.Errorf("got %v", err)
	}
}

// A second drain keeps what the first one said, but for a deadline of its own.
func TestDrainAgain(t *testing.T) {
	a := drainable(t, asking("f", "1Mi"))
	hour, minute := time.Hour, time.Minute
	for _, within := range []*time.Duration{&hour, nil, &minute} {
		if err := a.beginDrain(within); err != nil {
			t.Fatal(err)
		}
	}
	d, err := a.db.Drain()
	if err != nil {
		t.Fatal(err)
	}
	if left := time.Until(d.GetDeadline().AsTime()); left > minute || left < 0 {
		t.Errorf("%v are left", left)
	}
	if n := started(a); n != 1 {
		t.Errorf("%d drains have started", n)
	}
}

func started(a *Agent) (n int) {
	entries, _, _ := a.events.After(a.events.Oldest())
	for _, e := range entries {
		if e.Value.GetType() == "DrainStarted" {
			n++
		}
	}
	return n
}

func TestDrainedNodeStaysDrained(t *testing.T) {
	a := drainable(t)
	if err := a.db.SetDrain(&statev1.Drain{Since: timestamppb.Now()}); err != nil {
		t.Fatal(err)
	}
	if err := a.loadDrain(); err != nil {
		t.Fatal(err)
	}
	w := newWorkload(a, asking("f", "1Mi"), supervise.Status{State: supervise.Running, Run: 1})
	if v, _ := w.supervisor.View(); v.Desired.Goal != supervise.Pause {
		t.Errorf("wanted is %s", v.Desired.Goal)
	}
}

// Whoever follows a drain hears of each workload that stops, and of its end.
func TestFollowingADrain(t *testing.T) {
	a := drainable(t, asking("f", "1Mi"), asking("g", "1Mi"))
	if err := a.beginDrain(nil); err != nil {
		t.Fatal(err)
	}
	some := a.all("", "")
	told := make(chan *purserv1.DrainResponse)
	ended := make(chan error)
	go func() {
		ended <- a.followDrain(t.Context(), some, func(r *purserv1.DrainResponse) error { told <- r; return nil })
	}()
	if r := <-told; r.GetTotal() != 2 || r.GetDrain().GetDrainedAt() != nil {
		t.Errorf("first: %v", r)
	}
	go a.noteDrained(a.drain.get())
	for r := range told {
		if r.GetDrain().GetDrainedAt() == nil {
			continue
		}
		if r.GetStopped() != 2 {
			t.Errorf("last: %v", r)
		}
		break
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestFollowingADrainThatIsEnded(t *testing.T) {
	a := drainable(t)
	if err := a.beginDrain(nil); err != nil {
		t.Fatal(err)
	}
	err := a.followDrain(t.Context(), nil, func(*purserv1.DrainResponse) error {
		_, err := a.Undrain()
		return err
	})
	var refusal *Refusal
	if !errors.As(err, &refusal) || refusal.Reason != Precondition {
		t.Errorf("got %v", err)
	}
}
