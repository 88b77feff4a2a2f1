package supervise

import (
	"context"
	"time"

	"github.com/purserd/purser/api/launchspec"
)

// Probed is what a probe has found out.
type Probed struct {
	Probe string
	OK    bool
	// Message says why not, without any secret.
	Message string
}

// probing is the instance that is being probed, if one is.
type probing struct {
	instance string
	cancel   context.CancelFunc
}

// probe has the instance probed for as long as it runs and is not to end.
func (s *Supervisor) probe(ctx context.Context, l *lane, st Status) {
	i := st.Instance
	due := i != nil && !i.Ended && !i.Unverified && st.State.Runs() && i.Revision.Policy.probed()
	if due && l.probing.instance == i.ID {
		return
	}
	if l.probing.cancel != nil {
		l.probing.cancel()
		l.probing = probing{}
	}
	if !due {
		return
	}
	ctx, cancel := context.WithCancel(ctx)
	l.probing = probing{i.ID, cancel}
	id, revision, startedUp := i.ID, i.Revision, st.State != Starting
	s.waiting.Go(func() {
		s.containers.Probe(ctx, id, revision, startedUp, func(p Probed) {
			if ctx.Err() != nil {
				return
			}
			s.deliver(outcome{instance: id, within: true, apply: func(_ Desired, st Status, now time.Time) Status {
				return probed(st, p, now)
			}})
		})
	})
}

// notReady begins the reason of a service whose ready probe says why not.
const notReady = "not ready: "

// probed notes what a probe has found out about an instance. What comes once it is to
// end changes nothing any more.
func probed(s Status, p Probed, now time.Time) Status {
	i := *s.Instance
	if !s.State.Runs() || i.Ending != nil {
		return s
	}
	switch {
	case p.Probe == launchspec.ProbeStartup && p.OK:
		if s.State != Starting {
			return s
		}
		i.UpAt = now
		s.Instance = &i
		return enter(s, Running, "", now)
	case p.Probe == launchspec.ProbeReady && p.OK:
		return enter(s, Ready, "", now)
	case p.Probe == launchspec.ProbeReady:
		return enter(s, Running, notReady+p.Message, now)
	case !p.OK:
		i.Ending = &Ending{ProbeFailed, "its " + p.Probe + " probe failed: " + p.Message}
		s.Instance = &i
	}
	return s
}
