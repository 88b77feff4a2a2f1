package supervise

import (
	"context"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"time"
)

// begin carries out an action in a goroutine of its own, so that a slow
// container runtime never keeps the supervisor from hearing of new wishes.
func (s *Supervisor) begin(ctx context.Context, l *lane, action Action, d Desired, i *Instance) {
	ctx, cancel := withLimit(ctx, action)
	l.inflight = inflight{action: action, cancel: cancel}
	s.waiting.Go(func() {
		o := s.perform(ctx, action, d, i)
		o.lane, o.action = l, action
		if i != nil {
			o.instance = i.ID
		}
		s.deliver(o)
	})
}

// deliver hands an outcome to Run. An action that was cancelled still has one,
// so only the end of Run lets go of it.
func (s *Supervisor) deliver(o outcome) {
	select {
	case s.outcomes <- o:
	case <-s.done:
	}
}

// limits bound the actions that a container runtime which hangs would hang
// too. A start has none: it is called off instead.
var limits = map[Action]time.Duration{
	Inspect: 30 * time.Second,
	Promote: 30 * time.Second,
	Signal:  30 * time.Second,
	Kill:    30 * time.Second,
	Delete:  2 * time.Minute,
}

func withLimit(ctx context.Context, action Action) (context.Context, context.CancelCauseFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	limit, ok := limits[action]
	if !ok {
		return ctx, cancel
	}
	ctx, stop := context.WithTimeout(ctx, limit)
	return ctx, func(cause error) {
		cancel(cause)
		stop()
	}
}

func (s *Supervisor) perform(ctx context.Context, action Action, d Desired, i *Instance) outcome {
	switch action {
	case Inspect:
		return s.inspect(ctx, i.ID)
	case Start:
		return s.start(ctx, i)
	case Abort:
		return outcome{apply: aborted}
	case Promote:
		return s.promote(ctx, i.ID)
	case PreStop:
		return s.preStop(ctx, i)
	case Signal:
		return s.signal(ctx, i)
	case Kill:
		return s.kill(ctx, i)
	case Delete:
		return s.delete(ctx, i.ID)
	case Forget:
		return s.forget(ctx, d)
	default:
		panic(fmt.Sprintf("supervise: no such action %q", action))
	}
}

func (s *Supervisor) start(ctx context.Context, i *Instance) outcome {
	got, err := s.containers.Start(ctx, i.ID, i.Revision, func(state State, reason string) {
		s.deliver(outcome{instance: i.ID, within: true, apply: func(_ Desired, st Status, now time.Time) Status {
			return entered(st, state, reason, now)
		}})
	})
	at := time.Now()
	if err == nil {
		return outcome{apply: func(d Desired, st Status, now time.Time) Status {
			return started(st, got, at)
		}}
	}
	return outcome{apply: func(d Desired, st Status, now time.Time) Status {
		return startFailed(d, st, err, now, mathrand.Float64())
	}}
}

// complain logs a failure that is tried again: loudly the first time.
func (s *Supervisor) complain(st Status, text string, err error) {
	log := s.log.Warn
	if st.Instance.Holds > 0 {
		log = s.log.Debug
	}
	log(text, "instance", st.Instance.ID, "error", err)
}

// inspect finds out what became of an instance while no agent looked.
func (s *Supervisor) inspect(ctx context.Context, id string) outcome {
	found, err := s.containers.Inspect(ctx, id)
	return outcome{apply: func(d Desired, st Status, now time.Time) Status {
		switch {
		case errors.Is(err, ErrGone):
			return vanished(d, st, found.Boot, now, mathrand.Float64())
		case err != nil:
			s.complain(st, "cannot look at a container yet", err)
			return held(st, now)
		case found.Running:
			return adopted(st, found, now)
		case found.Exit != nil:
			exit := *found.Exit
			exit.StartedAt = st.Instance.StartedAt
			return exited(d, st, exit, now, mathrand.Float64())
		default:
			return vanished(d, st, found.Boot, now, mathrand.Float64())
		}
	}}
}

// signal sends the stop signal. One that finds nobody is not an error: the
// exit is on its way.
func (s *Supervisor) signal(ctx context.Context, i *Instance) outcome {
	err := s.containers.Stop(ctx, i.ID, i.Revision)
	return outcome{apply: func(d Desired, st Status, now time.Time) Status {
		switch {
		case errors.Is(err, context.Canceled):
			return st // SIGKILL is due
		case err != nil && !errors.Is(err, ErrGone):
			s.complain(st, "cannot send the stop signal; trying again", err)
			return held(st, now)
		default:
			return signalled(st)
		}
	}}
}

// promote has an instance take over from the kept one.
func (s *Supervisor) promote(ctx context.Context, id string) outcome {
	err := s.containers.Promote(ctx, id)
	return outcome{apply: func(_ Desired, st Status, now time.Time) Status {
		switch {
		case !st.Instance.Promoting:
			return st // it was called off
		case err != nil:
			s.complain(st, "an instance cannot take over yet; trying again", err)
			return held(st, now)
		default:
			return promoted(st)
		}
	}}
}

// preStop runs the command that comes before the stop signal. That it failed is told
// where it ran; the signal follows in any case.
func (s *Supervisor) preStop(ctx context.Context, i *Instance) outcome {
	err := s.containers.PreStop(ctx, i.ID, i.Revision)
	return outcome{apply: func(_ Desired, st Status, now time.Time) Status {
		if err != nil && !errors.Is(err, context.Canceled) {
			s.log.Debug("the command before the stop signal failed", "instance", i.ID, "error", err)
		}
		return preStopped(st)
	}}
}

func (s *Supervisor) kill(ctx context.Context, i *Instance) outcome {
	err := s.containers.Kill(ctx, i.ID)
	return outcome{apply: func(d Desired, st Status, now time.Time) Status {
		if err != nil && !errors.Is(err, ErrGone) {
			s.complain(st, "cannot kill a container; trying again", err)
			return held(st, now)
		}
		return killed(st, now)
	}}
}

func (s *Supervisor) delete(ctx context.Context, id string) outcome {
	err := s.containers.Delete(ctx, id)
	return outcome{apply: func(d Desired, st Status, now time.Time) Status {
		if err != nil && !errors.Is(err, ErrGone) {
			s.complain(st, "cannot delete a container; trying again", err)
			return held(st, now)
		}
		return deleted(st)
	}}
}

func (s *Supervisor) forget(ctx context.Context, d Desired) outcome {
	err := s.journal.Forget(d)
	if err == nil {
		return outcome{gone: true}
	}
	if !errors.Is(err, ErrSuperseded) {
		s.log.Error("cannot delete a workload's record; trying again", "error", err)
		sleep(ctx)
	}
	return outcome{apply: func(_ Desired, st Status, _ time.Time) Status { return st }}
}

// watch waits for the exit of an instance that runs, once.
func (s *Supervisor) watch(ctx context.Context, l *lane, st Status) {
	i := st.Instance
	if i == nil || i.Ended || i.Unverified || i.StartedAt.IsZero() || l.watched == i.ID {
		return
	}
	l.watched = i.ID
	id, startedAt := i.ID, i.StartedAt
	s.waiting.Go(func() {
		exit, gone := s.await(ctx, id)
		if ctx.Err() != nil {
			return
		}
		exit.StartedAt, exit.Instance = startedAt, id
		s.deliver(outcome{lane: l, instance: id, apply: func(d Desired, st Status, now time.Time) Status {
			if gone {
				return vanished(d, st, st.Instance.Boot, now, mathrand.Float64())
			}
			return exited(d, st, exit, now, mathrand.Float64())
		}})
	})
}

// await waits for an exit for as long as it takes, through restarts of
// containerd.
func (s *Supervisor) await(ctx context.Context, id string) (exit Exit, gone bool) {
	for ctx.Err() == nil {
		exit, err := s.containers.Wait(ctx, id)
		if err == nil {
			return exit, false
		}
		if errors.Is(err, ErrGone) {
			return Exit{}, true
		}
		s.log.Debug("lost sight of a container; looking again", "instance", id, "error", err)
		sleep(ctx)
	}
	return Exit{}, false
}

// sleep waits before something that failed is tried again.
func sleep(ctx context.Context) {
	select {
	case <-time.After(actionPause):
	case <-ctx.Done():
	}
}
