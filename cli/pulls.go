package cli

import (
	"context"
	"fmt"
	"slices"

	"connectrpc.com/connect"

	purserv1 "github.com/purserd/purser/api/purser/v1"
	"github.com/purserd/purser/client"
)

// tellPulls says which workloads wait for an image, and why one cannot be had, until
// ctx ends.
func (s *session) tellPulls(ctx context.Context, api *client.Client, ids []string) {
	stream, err := api.Workloads.Watch(ctx, connect.NewRequest(&purserv1.WatchRequest{Environment: s.environment}))
	if err != nil {
		return // less is told
	}
	defer stream.Close()
	told := map[string]string{}
	for stream.Receive() {
		w := stream.Msg().GetWorkload()
		if !slices.Contains(ids, w.GetId()) {
			continue
		}
		text := pullText(w, told[w.GetId()] != "")
		if text != "" && text != told[w.GetId()] && ctx.Err() == nil {
			s.warn("%s: %s", w.GetId(), text)
			told[w.GetId()] = text
		}
	}
}

// pullText says what a workload waits for, if that is an image.
func pullText(w *purserv1.Workload, pulled bool) string {
	switch w.GetState() {
	case "pulling":
		return "pulling " + printable(w.GetReason())
	case "backing_off":
		if pulled {
			return fmt.Sprintf("trying again: %s", printable(w.GetReason()))
		}
	}
	return ""
}
