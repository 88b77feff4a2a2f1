package cli

import (
	"context"
	"time"

	"connectrpc.com/connect"

	purserv1 "github.com/purserd/purser/api/purser/v1"
)

// A run that takes longer than delayFirst is looked at, and again from time to
// time, as it may be one that cannot start.
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
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		if reason := r.delay(ctx); reason != "" && reason != told && ctx.Err() == nil {
			r.session.warn("waiting: %s; interrupt to give up", printable(reason))
			told = reason
		}
		timer.Reset(delayNext)
	}
}

// delay is why the job does not run; empty when it does, or nobody can tell.
func (r *foreground) delay(ctx context.Context) string {
	ctx, done := context.WithTimeout(ctx, callTimeout)
	defer done()
	request := &purserv1.GetRequest{Environment: r.environment, Id: r.id}
	response, err := r.api.Workloads.Get(ctx, connect.NewRequest(request))
	if err != nil {
		return ""
	}
	switch w := response.Msg.GetWorkload(); w.GetState() {
	case "pulling":
		return "pulling " + w.GetReason()
	case "backing_off", "starting":
		return w.GetReason()
	default:
		return ""
	}
}
