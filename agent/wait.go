package agent

import (
	"context"

	"github.com/purserd/purser/agent/supervise"
	purserv1 "github.com/purserd/purser/api/purser/v1"
)

// Wait returns once a workload runs (until "running"), is ready or has crashed
// ("ready"), or has ended for good ("finished", which counts for all).
func (a *Agent) Wait(ctx context.Context, environment, id, until string) (*purserv1.Workload, error) {
	w, err := a.get(environment, id)
	if err != nil {
		return nil, err
	}
	v, err := w.await(ctx, until)
	if err != nil {
		return nil, err
	}
	return w.messageOf(v), nil
}

func (w *workload) await(ctx context.Context, until string) (supervise.View, error) {
	switch until {
	case "ready":
		return w.supervisor.WaitReady(ctx)
	case "running":
		return w.supervisor.WaitFor(ctx, func(v supervise.View) bool { return v.Settled() || v.Runs() })
	default:
		return w.supervisor.WaitFor(ctx, supervise.View.Settled)
	}
}
