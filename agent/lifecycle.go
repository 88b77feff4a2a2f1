package agent

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/moby/sys/signal"
	"google.golang.org/protobuf/proto"

	"github.com/purserd/purser/agent/state"
	"github.com/purserd/purser/agent/supervise"
	statev1 "github.com/purserd/purser/api/purser/state/v1"
	purserv1 "github.com/purserd/purser/api/purser/v1"
	"github.com/purserd/purser/failpoint"
	"github.com/purserd/purser/inject/audit"
)

// rewrite persists a change of what is wanted of a workload, and returns what
// was wanted before. change may refuse.
func (a *Agent) rewrite(environment, id string, change func(w *workload, r *statev1.Workload) error) (*workload, *statev1.Workload, error) {
	w, old, err := a.rewriteWith(environment, id, change, func(*state.Tx) error { return nil }, func() {})
	if err == nil {
		w.tellGivenUp(old, "something else is asked of it")
	}
	return w, old, err
}

// rewriteWith is rewrite with something else that is persisted together with it, and what
// follows once that is done.
func (a *Agent) rewriteWith(environment, id string, change func(w *workload, r *statev1.Workload) error, also func(*state.Tx) error, then func()) (*workload, *statev1.Workload, error) {
	a.writing.Lock()
	defer a.writing.Unlock()
	w, err := a.get(environment, id)
	if err != nil {
		return nil, nil, err
	}
	if a.ending.Load() {
		return nil, nil, refuse(Later, "the node is stopping")
	}
	old := w.record()
	r := proto.CloneOf(old)
	if err := change(w, r); err != nil {
		return nil, nil, err
	}
	if proto.Equal(r, old) {
		return w, old, nil
	}
	// To go back to an earlier run is no start of anything that was not let in already.
	if runOf(r) > lastRun(old) {
		if err := a.mayRun(w, r); err != nil {
			return nil, nil, err
		}
	}
	if r.GetGoal() != old.GetGoal() || !proto.Equal(r.GetSpec(), old.GetSpec()) {
		end, err := a.reserve(context.Background(), plan{record: r, workload: w})
		if err != nil {
			return nil, nil, err
		}
		defer end()
	}
	if err := failpoint.Error("wish.record"); err != nil {
		return nil, nil, err
	}
	err = a.db.Update(func(tx *state.Tx) error { return errors.Join(tx.PutWorkload(r), also(tx)) })
	if err != nil {
		return nil, nil, fmt.Errorf("persisting what is wanted of %s: %w", id, err)
	}
	failpoint.Here("wish.recorded")
	then()
	w.accept(r, nil)
	return w, old, nil
}

// mayRun refuses a record that asks for a new instance while the node is drained or has
// no room.
func (a *Agent) mayRun(w *workload, r *statev1.Workload) error {
	if r.GetGoal() != string(supervise.Run) {
		return nil
	}
	if err := a.refuseDrained(); err != nil {
		return err
	}
	return a.admit(plan{action: actionUpdate, record: r, workload: w})
}

// Start runs a workload that was stopped, or has ended, again on its pins. One
// that runs is left alone.
func (a *Agent) Start(ctx context.Context, environment, id string) (*purserv1.Workload, error) {
	w, old, err := a.rewrite(environment, id, func(w *workload, r *statev1.Workload) error {
		if err := notRemoved(r); err != nil {
			return err
		}
		view, _ := w.supervisor.View()
		if r.GetGoal() == string(supervise.Run) && !view.Settled() {
			return nil
		}
		r.Goal = string(supervise.Run)
		renew(r)
		return nil
	})
	if err != nil {
		return nil, err
	}
	if r := w.record(); r.GetRun() != old.GetRun() {
		a.recordWish(ctx, audit.Start, r)
	}
	return w.message(), nil
}

// Stop ends a workload's container and returns once that is done. grace
// overrides the spec's.
func (a *Agent) Stop(ctx context.Context, environment, id string, grace *time.Duration) (*purserv1.Workload, error) {
	w, _, err := a.rewrite(environment, id, func(_ *workload, r *statev1.Workload) error {
		if err := notRemoved(r); err != nil {
			return err
		}
		r.Goal = string(supervise.Stop)
		giveUpTrial(r)
		return nil
	})
	if err != nil {
		return nil, err
	}
	w.hasten(grace)
	v, err := w.supervisor.WaitFor(ctx, func(v supervise.View) bool {
		return v.Desired.Goal != supervise.Stop || v.Empty() && v.Status.State.Ended()
	})
	if err != nil {
		return nil, err
	}
	if v.Desired.Goal != supervise.Stop {
		return nil, refuse(Precondition, "workload %s in environment %s was wanted otherwise before it had stopped", id, w.environment())
	}
	return w.messageOf(v), nil
}

// Remove stops a workload and forgets it; with force without waiting for it to
// stop by itself. It returns once its processes have ended: from then on the
// workload is not to be seen any more, while what is left of its container is
// deleted.
func (a *Agent) Remove(ctx context.Context, environment, id string, force bool) error {
	w, old, err := a.rewrite(environment, id, func(_ *workload, r *statev1.Workload) error {
		r.Goal = string(supervise.Remove)
		giveUpTrial(r)
		return nil
	})
	if err != nil {
		return err
	}
	if force {
		w.hasten(new(time.Duration))
	}
	if _, err = w.supervisor.WaitFor(ctx, removed); err != nil {
		return err
	}
	a.releasePins(w.environment(), allPins(old))
	return nil
}

// removed says whether a workload is gone, but for what has to be deleted.
func removed(v supervise.View) bool {
	return v.Gone || v.Desired.Goal == supervise.Remove && v.Quiet()
}

// hasten changes the grace of a stop that is wanted.
func (w *workload) hasten(grace *time.Duration) {
	if grace != nil {
		w.want(func(d *supervise.Desired) { d.Grace = grace })
	}
}

// Restart replaces a workload's container: on its pins, or on the latest
// versions of its secrets. A service that runs well goes back from those if it fails with
// them twice.
func (a *Agent) Restart(ctx context.Context, environment, id string, secrets bool) (*purserv1.Workload, error) {
	w, old, err := a.rewrite(environment, id, func(w *workload, r *statev1.Workload) error {
		if err := notRemoved(r); err != nil {
			return err
		}
		well := keptRunning(r.GetSpec()) && r.GetGoal() == string(supervise.Run) && r.GetFallback() == nil && w.runsWell()
		r.Goal = string(supervise.Run)
		if !secrets {
			renew(r)
			return nil
		}
		resolution, err := a.resolveLatest(ctx, r.GetEnvironment(), r.GetSpec().GetSecrets(), nil)
		switch {
		case err != nil:
			return &Refusal{Reason: Precondition, Err: err}
		case well && !state.SamePins(resolution.Pins, r.GetPins()):
			try(r, resolution.Pins)
		default:
			renew(r)
			r.Pins = resolution.Pins
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	a.recordWish(ctx, audit.Restart, w.record())
	w.emit(normal, "Restarting", "restart requested%s", onPins(pinsOf(w.record())))
	a.releaseDropped(old, w.record())
	return w.message(), nil
}

func notRemoved(r *statev1.Workload) error {
	if r.GetGoal() == string(supervise.Remove) {
		return refuse(Precondition, "workload %s in environment %s is being removed", r.GetId(), r.GetEnvironment())
	}
	return nil
}

// lastSignal is the highest that Linux has.
const lastSignal = 64

// Signal sends a signal to the first process of a workload's container.
func (a *Agent) Signal(ctx context.Context, environment, id, name string) error {
	sig, err := signal.ParseSignal(name)
	if err != nil || sig < 1 || sig > lastSignal {
		return refuse(Invalid, "signal %s: must be a number from 1 to %d, or a name such as SIGTERM", name, lastSignal)
	}
	w, instance, err := a.runningInstance(environment, id)
	if err != nil {
		return err
	}
	if err := a.runtime.Kill(ctx, instance, sig); err != nil {
		return fmt.Errorf("sending %s to %s: %w", name, w.id(), err)
	}
	return nil
}

// runningInstance returns the container of a workload that runs: of two, the one that
// serves.
func (a *Agent) runningInstance(environment, id string) (*workload, string, error) {
	w, err := a.get(environment, id)
	if err != nil {
		return nil, "", err
	}
	v, _ := w.supervisor.View()
	for _, i := range append([]*supervise.Instance{v.Serving()}, v.Status.Containers()...) {
		if i != nil && !i.StartedAt.IsZero() && !i.Ended {
			return w, i.ID, nil
		}
	}
	return nil, "", refuse(Precondition, "workload %s in environment %s does not run: it is %s", w.id(), w.environment(), w.standstill(v.Status))
}

// standstill says why a workload does not run, and what to do about it.
func (w *workload) standstill(s supervise.Status) string {
	switch {
	case s.State.Ended():
		return fmt.Sprintf("%s; to start it: purser start -E %s %s", s.State, w.environment(), w.id())
	case s.Reason == "":
		return fmt.Sprintf("%s; see purser get -E %s %s", s.State, w.environment(), w.id())
	}
	return fmt.Sprintf("%s: %s; see purser get -E %s %s", s.State, s.Reason, w.environment(), w.id())
}
