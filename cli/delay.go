package cli

import (
	"context"
	"time"

	"connectrpc.com/connect"

	purserv1 "github.com/purserd/purser/api/purser/v1"
)

// A run that takes longer than delayFirst is looked at, as it may be one that cannot start,
// and again after twice as long each time, up to delayNext: it may just have been tried anew.
const (
	delayFirst = 3 * time.Second
	delayNext  = 30 * time.Second
)

// tellDelay says what a run waits for, and again when that has changed, until
// ctx ends.
func (r *foreground) tellDelay(ctx context.Context) {
	timer := time.NewTimer(delayFirst)
	defer timer.Stop()
	told := ""
	for next := 2 * delayFirst; ; next = min(2*next, delayNext) {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		w := r.look(ctx)
		if reason := waitsFor(w); reason != "" && reason != told && ctx.Err() == nil {
			r.session.warn("%s; interrupt to give up", sentence(w, time.Now()))
			told = reason
		}
		timer.Reset(next)
	}
}

// look asks for the job; nil when nobody can tell of it.
func (r *foreground) look(ctx context.Context) *purserv1.Workload {
	ctx, done := context.WithTimeout(ctx, callTimeout)
	defer done()
	request := &purserv1.GetRequest{Environment: r.environment, Id: r.id}
	response, err := r.api.Workloads.Get(ctx, connect.NewRequest(request))
	if err != nil {
		return nil
	}
	return response.Msg.GetWorkload()
}
