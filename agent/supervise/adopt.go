package supervise

import (
	"context"
	"time"
)

// Adoptee is a container that is there and that the status does not know.
type Adoptee struct {
	// Instance is it, as far as can be told: without StartedAt it has never run.
	Instance Instance
	// Run is the workload's run that it belongs to; one of no run is replaced.
	Run uint64
	// Running: it was seen running.
	Running bool
	// Kept is the one beside it that a rolling change was to replace; nil for none.
	Kept *Adoptee
	// Beside: the instance that the status has is that one.
	Beside bool
}

// Recovered is the status of a workload of which nothing is left but a container.
func Recovered(c Adoptee, now time.Time) Status {
	since := c.Instance.StartedAt
	if since.IsZero() {
		since = now
	}
	return adopt(Status{Since: since}, c, since)
}

// adopt makes a container the workload's instance, in the place of one that is gone
// or was only planned. What became of it is found out as with any that an earlier
// agent has left: it is inspected next.
func adopt(s Status, c Adoptee, now time.Time) Status {
	switch {
	case c.Beside && s.Kept == nil && s.Instance != nil:
		s = keep(s)
	case c.Kept != nil && s.Kept == nil:
		k := adopt(Status{Since: now}, *c.Kept, now)
		s.Kept = &k
	}
	i := c.Instance
	i.Unverified = true
	if s.Run != c.Run {
		s.Attempts, s.Failures = 0, 0
	}
	s.Instance, s.Run, s.NextTry = &i, c.Run, time.Time{}
	s.Attempts = max(s.Attempts, 1)
	if i.StartedAt.IsZero() {
		return enter(s, Creating, "", now)
	}
	s.ObservedGeneration = i.Revision.Generation
	if !c.Running {
		return enter(s, Stopping, "container "+i.ID+" has ended while nobody watched", now)
	}
	if i.Revision.Policy.Startup {
		return enter(s, Starting, "", now) // nobody knows whether it has started up
	}
	return enter(s, Running, "", now)
}

// Adopt makes a container the workload's instance and has the workload wanted as d
// says from then on. A start that is under way is called off: it must not have begun
// to create a container. It fails when the supervisor has ended.
func (s *Supervisor) Adopt(ctx context.Context, d Desired, c Adoptee) error {
	folded := make(chan struct{})
	o := outcome{within: true, apply: func(_ Desired, st Status, now time.Time) Status {
		defer close(folded)
		if s.main.inflight.action == Start {
			s.main.inflight.cancel(nil) // its outcome is of another instance, and not heeded
		}
		s.update(func(v *View) { v.Desired = d })
		return adopt(st, c, now)
	}}
	select {
	case s.outcomes <- o:
		select {
		case <-folded:
			return nil
		case <-s.done: // it ended in between
			return ErrGone
		}
	case <-s.done:
		return ErrGone
	case <-ctx.Done():
		return ctx.Err()
	}
}
