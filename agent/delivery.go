package agent

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/moby/sys/signal"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/purserd/purser/agent/rotate"
	"github.com/purserd/purser/agent/supervise"
	"github.com/purserd/purser/api/launchspec"
	statev1 "github.com/purserd/purser/api/purser/state/v1"
	purserv1 "github.com/purserd/purser/api/purser/v1"
	"github.com/purserd/purser/failpoint"
	"github.com/purserd/purser/inject"
	"github.com/purserd/purser/runtime"
)

// A trial of other files has its steps on record: begun, delivered, and ending while the
// files of before are put back. One goroutine a workload (attend) takes the next step for
// as long as there is one, so that no two are ever at the same files; an agent that dies
// leaves the rest to the next.

// What follows once files were put back.
const (
	endBackOut = "back_out" // the trial is over
	endAgain   = "again"    // it is tried once more: with another instance if its own has ended
)

// delivery is what is known of the files of a trial: since when they are there, as this
// agent has seen it, or why they cannot be.
type delivery struct {
	at     time.Time
	failed string
}

// files says whether a trial is one of other files in an instance that goes on.
func files(t *statev1.Trial) bool { return t != nil && t.GetMode() != rotate.ModeRestart }

// attend has the files of a workload's trial seen to.
func (r *rotator) attend(ctx context.Context, w *workload) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.attended[w.key] {
		return
	}
	r.attended[w.key] = true
	r.working.Go(func() {
		defer r.poke() // something may be to do again
		defer r.leave(w.key)
		r.seeTo(ctx, w)
	})
}

func (r *rotator) leave(key string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.attended, key)
}

// know notes what is known of a delivery.
func (r *rotator) know(key string, d delivery) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.deliveries[key] = d
}

// forget drops what is known of workloads that are gone.
func (r *rotator) forget(s *survey) {
	gone := func(key string) bool { _, there := s.subjects[key]; return !there }
	maps.DeleteFunc(r.checked, func(key string, _ checked) bool { return gone(key) })
	r.mu.Lock()
	defer r.mu.Unlock()
	maps.DeleteFunc(r.deliveries, func(key string, _ delivery) bool { return gone(key) && !r.attended[key] })
	maps.DeleteFunc(r.fetches, func(key string, f *fetch) bool { return gone(key) && f.over })
}

// seeTo takes the steps of a trial until there is none to take.
func (r *rotator) seeTo(ctx context.Context, w *workload) {
	for tries := 0; ctx.Err() == nil; tries++ {
		record := w.record()
		t := record.GetTrial()
		var err error
		switch {
		case !files(t):
			return
		case t.GetEnding() != "":
			err = r.putBack(ctx, w, record)
		case t.GetDeliveredAt() == nil:
			err = r.deliver(ctx, w, record)
		default:
			return
		}
		if errors.Is(err, supervise.ErrGone) && !goesOn(w, t.GetInstance()) {
			return // what that means is the plan's
		}
		if err != nil && !errors.Is(err, errStale) {
			r.agent.log.Warn("cannot replace the files of secrets yet", "workload", w.id(), "error", err)
			r.poke() // as others may wait for it
			pause(ctx, min(retryPause<<min(tries, 10), maxRetryPause))
		}
	}
}

// goesOn says whether an instance is there that is neither ended nor being ended.
func goesOn(w *workload, instance string) bool {
	v, _ := w.supervisor.View()
	i := v.Status.Instance
	return i != nil && i.ID == instance && !i.Ended && i.StopSince.IsZero() && i.Ending == nil
}

// pause waits for a while.
func pause(ctx context.Context, long time.Duration) {
	select {
	case <-time.After(long):
	case <-ctx.Done():
	}
}

// deliver replaces the files of a trial's instance, and notes that.
func (r *rotator) deliver(ctx context.Context, w *workload, record *statev1.Workload) error {
	t := record.GetTrial()
	r.know(w.key, delivery{})
	if err := r.replaceFiles(ctx, w, t, t.GetPins()); err != nil {
		r.know(w.key, delivery{failed: err.Error()})
		return err
	}
	failpoint.Here("rotation.delivered")
	r.know(w.key, delivery{at: time.Now()})
	return r.amend(w, record, func(record *statev1.Workload) { record.Trial.DeliveredAt = timestamppb.Now() })
}

// putBack puts the files back of before a trial, and has happen what is to follow.
func (r *rotator) putBack(ctx context.Context, w *workload, record *statev1.Workload) error {
	t := record.GetTrial()
	err := r.replaceFiles(ctx, w, t, record.GetPins())
	lost := isA[*inject.MissingError](err) // a version that was destroyed never comes back
	if err != nil && !lost && !errors.Is(err, supervise.ErrGone) {
		return err
	}
	failpoint.Here("rotation.restored")
	follow := giveUpTrial
	if t.GetEnding() == endAgain {
		if follow = tryAnother; err == nil && r.recovers(ctx, w, record) {
			follow = tryAgain
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		r.know(w.key, delivery{})
	}
	if err := r.amend(w, record, follow); err != nil || !lost {
		return err
	}
	w.emit(warning, "FilesNotPutBack", "container %s goes on with the files of %s: %v", t.GetInstance(), setText(t.GetSet()), err)
	return nil
}

// recovers waits until an instance is ready again that the files of before were put back
// for, as long as it may take for that, and says whether it is still there.
func (r *rotator) recovers(ctx context.Context, w *workload, record *statev1.Workload) bool {
	instance := record.GetTrial().GetInstance()
	ctx, cancel := context.WithTimeout(ctx, launchspec.HealthTimeout(record.GetSpec()))
	defer cancel()
	_, _ = w.supervisor.WaitFor(ctx, func(v supervise.View) bool {
		i := v.Status.Instance
		return w.record() != record || i == nil || i.ID != instance || i.Ended || v.Ready()
	})
	return goesOn(w, instance)
}

// tryAgain has a record try the files again that it has tried, in the same instance.
func tryAgain(r *statev1.Workload) {
	again := proto.CloneOf(r.GetTrial())
	again.Try, again.Ending, again.DeliveredAt, again.BeganAt = again.GetTry()+1, "", nil, timestamppb.Now()
	r.Trial = again
}

// tryAnother has a record try in another instance what it has tried.
func tryAnother(r *statev1.Workload) {
	tryAgain(r)
	r.Trial.Mode, r.Trial.Instance, r.Trial.Run = rotate.ModeRestart, "", lastRun(r)+1
	r.TriedRun = r.Trial.GetRun()
}

// amend writes a record, if it still is as it was.
func (r *rotator) amend(w *workload, was *statev1.Workload, change func(*statev1.Workload)) error {
	_, _, err := r.agent.rewrite(w.environment(), w.id(), func(now *workload, record *statev1.Workload) error {
		if now != w || w.record() != was {
			return errStale
		}
		change(record)
		return nil
	})
	return err
}

// deliveryTime is how long the files of an instance may take to be replaced.
const deliveryTime = 30 * time.Second

// replaceFiles replaces the files of an instance by those of pins, and sends it a signal
// where the trial is of that kind.
func (r *rotator) replaceFiles(ctx context.Context, w *workload, t *statev1.Trial, pins []*purserv1.Pin) error {
	ctx, cancel := context.WithTimeout(ctx, deliveryTime)
	defer cancel()
	if err := failpoint.Error("rotation.deliver"); err != nil {
		return err
	}
	if err := w.refresh(ctx, t.GetInstance(), pins); err != nil {
		return err
	}
	if t.GetMode() != rotate.ModeSignal {
		return nil
	}
	return w.sendRotationSignal(ctx, t.GetInstance())
}

// refresh replaces the files of secrets of an instance that runs by those of pins.
func (w *workload) refresh(ctx context.Context, instance string, pins []*purserv1.Pin) error {
	v, _ := w.supervisor.View()
	i := v.Status.Container(instance)
	if i == nil || i.Ended {
		return gone(fmt.Errorf("container %s: %w", instance, runtime.ErrNotFound))
	}
	resolution, err := w.resolution(ctx, i.Revision.Spec, pins)
	if err != nil {
		return err
	}
	w.recordGiven(ctx, w.record(), resolution, instance)
	return gone(w.agent.runtime.Refresh(ctx, instance, resolution.Directories, resolution.Redactions()))
}

// sendRotationSignal tells an instance of its new files.
func (w *workload) sendRotationSignal(ctx context.Context, instance string) error {
	name := launchspec.RotationSignal(w.record().GetSpec())
	sig, err := signal.ParseSignal(name)
	if err != nil {
		return fmt.Errorf("rotation.signal %s: %w", name, err)
	}
	return gone(w.agent.runtime.Kill(ctx, instance, sig))
}
