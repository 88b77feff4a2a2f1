package agent

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/purserd/purser/agent/probe"
	"github.com/purserd/purser/agent/supervise"
	"github.com/purserd/purser/api/launchspec"
	purserv1 "github.com/purserd/purser/api/purser/v1"
	"github.com/purserd/purser/runtime"
	"github.com/purserd/purser/runtime/netprobe"
)

// Probe asks an instance's probes until ctx ends, or one says that it is to be ended:
// startup or live has failed. startedUp says that startup has passed before. report is
// told of every change, one call at a time; see [probe.Prober].
func (c containers) Probe(ctx context.Context, instance string, revision *supervise.Revision, startedUp bool, report func(supervise.Probed)) {
	t := &probed{containers: c, instance: instance, revision: revision}
	defer t.close()
	probe.Prober{
		Spec: revision.Spec, Target: t, Begun: c.w.startOf(instance), Started: startedUp,
		Report: func(r probe.Report) { report(supervise.Probed{Probe: r.Probe, OK: r.OK, Message: r.Message}) },
		Failed: c.w.agent.metrics.ProbeFailed,
	}.Run(ctx)
}

// startOf is when an instance was started; now if nobody knows yet.
func (w *workload) startOf(instance string) time.Time {
	v, _ := w.supervisor.View()
	if i := v.Status.Container(instance); i != nil && !i.StartedAt.IsZero() {
		return i.StartedAt
	}
	return time.Now()
}

// probed is an instance as a target of probes.
type probed struct {
	containers
	instance string
	revision *supervise.Revision

	mu      sync.Mutex
	network *netprobe.Network // once it was needed
	told    bool              // that no try can be made
}

// now is the instance's revision, which is another one once its files were replaced.
func (t *probed) now() *supervise.Revision {
	v, _ := t.w.supervisor.View()
	if i := v.Status.Container(t.instance); i != nil {
		return i.Revision
	}
	return t.revision
}

func (t *probed) close() {
	if t.network != nil {
		t.network.Close()
	}
}

// Try makes one try. What fails as its container ends says nothing about it. That a try
// cannot be made is told once, unless it is told by others: that containerd is away, or
// the container has ended.
func (t *probed) Try(ctx context.Context, p *purserv1.Probe) error {
	err := t.try(ctx, p)
	if err == nil || errors.Is(ctx.Err(), context.Canceled) {
		return err
	}
	if gone := t.Reach(context.Background()); errors.Is(gone, runtime.ErrNotFound) {
		return notMade(gone)
	}
	t.tell(err)
	return err
}

// Reach fails unless containerd says soon that the instance runs.
func (t *probed) Reach(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	return t.w.agent.runtime.Runs(ctx, t.instance)
}

// askTime bounds a question to containerd after a try, or about one that hangs. It is part
// of the try's time to settle.
const askTime = time.Second

// tell has an event for the first of a row of tries that cannot be made.
func (t *probed) tell(err error) {
	unmade := errors.Is(err, probe.ErrNotMade) && !errors.Is(err, runtime.ErrUnavailable)
	t.mu.Lock()
	first := unmade && !t.told
	t.told = unmade
	t.mu.Unlock()
	if first {
		t.w.emit(warning, "ProbeNotMade", "container %s: %v", t.instance, err)
	}
}

func (t *probed) try(ctx context.Context, p *purserv1.Probe) error {
	if p.GetExec() != nil {
		return t.exec(ctx, p)
	}
	network, err := t.open(ctx)
	if errors.Is(err, runtime.ErrNoNetwork) {
		return err
	}
	if err = errors.Join(err, ctx.Err()); err != nil {
		return notMade(err)
	}
	var said answer
	given := givenTo(t.w.record(), t.instance)
	if err = network.Try(ctx, p, said.stdout()); err == nil || ctx.Err() != nil {
		return err
	}
	if told := t.w.say(ctx, t.instance, t.now(), given, &said, err.Error()); !errors.Is(told, errUnshown) {
		return told
	}
	return err // which holds nothing of what was said
}

// openTime bounds the opening of a network. It is not the try's: one with a short timeout
// would never be made on a slow node.
const openTime = 2 * time.Second

// open opens the instance's network, which stays open.
func (t *probed) open(ctx context.Context) (*netprobe.Network, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.network == nil {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), openTime)
		defer cancel()
		network, err := t.w.agent.runtime.Network(ctx, t.instance)
		if err != nil {
			return nil, err
		}
		t.network = network
	}
	return t.network, nil
}

// exec runs a probe's command. One whose time is over has failed, unless it is
// containerd that does not answer.
func (t *probed) exec(ctx context.Context, p *purserv1.Probe) error {
	err := t.command(ctx, t.instance, t.now(), p.GetExec().GetCommand())
	switch {
	case err == nil, errors.Is(err, errCommand):
		return err
	case errors.Is(err, runtime.ErrNoTurn): // it says nothing of the container
	case errors.Is(ctx.Err(), context.DeadlineExceeded) && t.Reach(context.Background()) == nil:
		return fmt.Errorf("took longer than %v, and %s", launchspec.ProbeTimeout(p), err)
	}
	return notMade(err)
}

func notMade(err error) error { return fmt.Errorf("%w: %w", probe.ErrNotMade, err) }
