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
// started, and again when that has changed, until ctx ends.
func (s *session) tellWaits(ctx context.Context, api *client.Client, ids []string) {
	stream, err := api.Workloads.Watch(ctx, connect.NewRequest(&purserv1.WatchRequest{Environment: s.environment}))
	if err != nil {
		return // less is told
	}
	defer stream.Close()
	told := map[string]string{}
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
