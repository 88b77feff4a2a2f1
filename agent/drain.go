package agent

import (
	"context"
	"fmt"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/purserd/purser/agent/supervise"
	statev1 "github.com/purserd/purser/api/purser/state/v1"
	purserv1 "github.com/purserd/purser/api/purser/v1"
	"github.com/purserd/purser/metrics"
)

// loadDrain finds the drain of an earlier agent.
func (a *Agent) loadDrain() error {
	d, err := a.db.Drain()
	if err != nil {
		return fmt.Errorf("reading whether the node is drained: %w", err)
	}
	a.drain.set(d)
	return nil
}

// refuseDrained refuses what would start something on a node that is drained.
func (a *Agent) refuseDrained() error {
	err := drainedError(a.drain.get())
	if err == nil {
		return nil
	}
	a.metrics.NotAdmitted(metrics.Drained)
	return &Refusal{Reason: Later, Err: err}
}

// drainedError says why nothing is started; nil when the node is not drained.
func drainedError(d *statev1.Drain) error {
	if d == nil {
		return nil
	}
	return fmt.Errorf("the node has been drained since %s and starts nothing; to end that: purser undrain",
		d.GetSince().AsTime().Local().Format(time.DateTime))
}

// desired is what the supervisor is to strive for by a record, on a node that may be
// drained, by an agent that may be stopping all.
func (a *Agent) desired(r *statev1.Workload) supervise.Desired {
	d := desired(r)
	drain := a.drain.get()
	switch {
	case d.Goal != supervise.Run:
	case drain != nil:
		d.Goal, d.Paused = supervise.Pause, supervise.Drained
	case a.ending.Load():
		d.Goal = supervise.Pause
	}
	if drain.GetDeadline() != nil {
		d.KillBy = drain.GetDeadline().AsTime()
	}
	return d
}

// unpaused is the goal of the record behind that of a supervisor.
func unpaused(g supervise.Goal) supervise.Goal {
	if g == supervise.Pause {
		return supervise.Run
	}
	return g
}

// Drain has the node start nothing any more and stops what runs, all at once. It tells
// of the progress until nothing runs; the drain goes on when ctx ends before. A node
// that is drained already may be given another deadline.
func (a *Agent) Drain(ctx context.Context, within *time.Duration, tell func(*purserv1.DrainResponse) error) error {
	before := a.runningNow()
	if err := a.beginDrain(within); err != nil {
		return err
	}
	return a.followDrain(ctx, before, tell)
}

// beginDrain persists a drain and has all supervisors know of it.
func (a *Agent) beginDrain(within *time.Duration) error {
	a.writing.Lock()
	defer a.writing.Unlock()
	if a.ending.Load() {
		return refuse(Later, "the node is stopping")
	}
	old := a.drain.get()
	d := &statev1.Drain{Since: timestamppb.Now()}
	if old != nil {
		d = proto.CloneOf(old)
	}
	if within != nil {
		d.Deadline = timestamppb.New(time.Now().Add(*within))
	}
	if old != nil && proto.Equal(d, old) {
		return nil
	}
	if err := a.db.SetDrain(d); err != nil {
		return fmt.Errorf("persisting that the node is drained: %w", err)
	}
	a.drain.set(d)
	if old == nil {
		a.emit(normal, "DrainStarted", "", "", "the node starts nothing any more, and stops what runs: %d workload(s)%s", len(a.runningNow()), deadlineText(d))
	}
	a.wishAnew()
	return nil
}

func deadlineText(d *statev1.Drain) string {
	if d.GetDeadline() == nil {
		return ""
	}
	return "; what runs at " + d.GetDeadline().AsTime().Local().Format(time.DateTime) + " is killed"
}

// wishAnew has every supervisor take account of a drain that has begun or ended, or of
// the end of the agent.
func (a *Agent) wishAnew() {
	for _, w := range a.all("", "") {
		w.want(func(*supervise.Desired) {})
	}
}

// Undrain has the node start what is to run, and accept launches. It tells whether it
// was drained.
func (a *Agent) Undrain() (bool, error) {
	a.writing.Lock()
	defer a.writing.Unlock()
	d := a.drain.get()
	if d == nil {
		return false, nil
	}
	if a.ending.Load() {
		return false, refuse(Later, "the node is stopping")
	}
	if err := a.db.SetDrain(nil); err != nil {
		return false, fmt.Errorf("persisting that the node is not drained: %w", err)
	}
	a.drain.set(nil)
	a.emit(normal, "Undrained", "", "", "the node accepts launches again, after %s", time.Since(d.GetSince().AsTime()).Round(time.Second))
	a.wishAnew()
	return true, nil
}

// runningNow are the workloads that have a container, or may.
func (a *Agent) runningNow() []*workload {
	var found []*workload
	for _, w := range a.all("", "") {
		if v, _ := w.supervisor.View(); !emptied(v) {
			found = append(found, w)
		}
	}
	return found
}

// emptied says whether nothing is left of a workload's containers.
func emptied(v supervise.View) bool { return v.Empty() }

// driveDrain notes when the node that is being drained has become empty, as long as
// the agent runs: whoever asked for it may have left.
func (a *Agent) driveDrain(ctx context.Context) {
	// Until then containers may run that the agent does not know yet.
	if err := a.gate.pass(ctx, nil); err != nil {
		return
	}
	for ctx.Err() == nil {
		d, changed := a.drain.view()
		if d == nil || d.GetDrainedAt() != nil {
			select {
			case <-changed:
			case <-ctx.Done():
			}
			continue
		}
		if a.awaitEmpty(ctx, changed) {
			a.noteDrained(d)
		}
	}
}

// awaitEmpty waits until no workload has a container; it gives up when the drain is
// another.
func (a *Agent) awaitEmpty(ctx context.Context, changed <-chan struct{}) bool {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		select {
		case <-changed:
			cancel()
		case <-ctx.Done():
		}
	}()
	for _, w := range a.all("", "") {
		if _, err := w.supervisor.WaitFor(ctx, emptied); err != nil {
			return false
		}
	}
	return ctx.Err() == nil
}

// noteDrained persists that nothing runs any more. Before all had heard of the drain
// one may have begun to.
func (a *Agent) noteDrained(of *statev1.Drain) {
	a.writing.Lock()
	defer a.writing.Unlock()
	if a.drain.get() != of || len(a.runningNow()) > 0 {
		return
	}
	d := proto.CloneOf(of)
	d.DrainedAt = timestamppb.Now()
	if err := a.db.SetDrain(d); err != nil {
		// It is so all the same; an agent that comes after finds out again.
		a.log.Error("cannot persist that the node is drained", "error", err)
	}
	a.drain.set(d)
	a.emit(normal, "Drained", "", "", "no workload runs, after %s", d.GetDrainedAt().AsTime().Sub(d.GetSince().AsTime()).Round(100*time.Millisecond))
}

// followDrain tells how many of some workloads have stopped, each time that another
// has, until the node is empty.
func (a *Agent) followDrain(ctx context.Context, some []*workload, tell func(*purserv1.DrainResponse) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stopped := make(chan struct{})
	var waiting sync.WaitGroup
	defer waiting.Wait()
	defer cancel()
	for _, w := range some {
		waiting.Go(func() {
			if _, err := w.supervisor.WaitFor(ctx, emptied); err != nil {
				return
			}
			select {
			case stopped <- struct{}{}:
			case <-ctx.Done():
			}
		})
	}
	for {
		d, changed := a.drain.view()
		if d == nil {
			return refuse(Precondition, "the drain was ended before the node was empty; workloads are started again")
		}
		if err := tell(drainProgress(d, some)); err != nil {
			return err
		}
		if d.GetDrainedAt() != nil {
			return nil
		}
		select {
		case <-stopped:
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// drainProgress is how many of some workloads have stopped.
func drainProgress(d *statev1.Drain, some []*workload) *purserv1.DrainResponse {
	r := &purserv1.DrainResponse{Drain: drainMessage(d), Total: uint32(len(some))}
	for _, w := range some {
		v, _ := w.supervisor.View()
		if emptied(v) {
			r.Stopped++
			continue
		}
		r.Remaining = append(r.Remaining, &purserv1.Remaining{
			Environment: w.environment(), Id: w.id(), State: string(v.Status.State), Reason: v.Status.Reason,
		})
	}
	return r
}

// drainMessage is a drain as the API shows it; nil for none.
func drainMessage(d *statev1.Drain) *purserv1.DrainState {
	if d == nil {
		return nil
	}
	return &purserv1.DrainState{Since: d.GetSince(), Deadline: d.GetDeadline(), DrainedAt: d.GetDrainedAt()}
}
