package cli

import (
	"context"
	"slices"
	"time"

	"connectrpc.com/connect"

	purserv1 "github.com/purserd/purser/api/purser/v1"
	"github.com/purserd/purser/client"
)

// tellWaits says what workloads wait for, such as an image, or why they could not be
// started, and again when that has changed, until ctx ends. Less is told while the node
// does not answer.
func (s *session) tellWaits(ctx context.Context, api *client.Client, ids []string) {
	told := map[string]string{}
	for ctx.Err() == nil {
		s.watchWaits(ctx, api, ids, told)
		pause(ctx, jittered(retryPause))
	}
}

// watchWaits tells for as long as the node does; told has what was said last of each
// workload.
func (s *session) watchWaits(ctx context.Context, api *client.Client, ids []string, told map[string]string) {
	stream, err := api.Workloads.Watch(ctx, connect.NewRequest(&purserv1.WatchRequest{Environment: s.environment}))
	if err != nil {
		return
	}
	defer stream.Close()
	for stream.Receive() {
		w := stream.Msg().GetWorkload()
		reason := waitsFor(w)
		if reason == "" || reason == told[w.GetId()] || !slices.Contains(ids, w.GetId()) || ctx.Err() != nil {
			continue
		}
		s.warn("%s", sentence(w, time.Now()))
		told[w.GetId()] = reason
	}
}

// pullsUnsaid is how long a deploy may take before it is told which images it waits for.
const pullsUnsaid = time.Second

// tellPulls says which images workloads that run wait for, to be updated, from a time
// on and until ctx ends. A request that is soon answered is not disturbed.
func (s *session) tellPulls(ctx context.Context, api *client.Client, ids []string, from time.Time, say func(format string, args ...any)) {
	pause(ctx, pullsUnsaid)
	stream, err := api.Node.Events(ctx, connect.NewRequest(&purserv1.EventsRequest{Environment: s.environment, Follow: true}))
	if err != nil {
		return // less is told
	}
	defer stream.Close()
	for stream.Receive() {
		e := stream.Msg().GetEvent()
		if e.GetType() == "Pulling" && slices.Contains(ids, e.GetSubject()) && !e.GetTime().AsTime().Before(from) && ctx.Err() == nil {
			say("%s is pulling %s", e.GetSubject(), printable(e.GetMessage()))
		}
	}
}
