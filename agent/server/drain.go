package server

import (
	"context"
	"time"

	"connectrpc.com/connect"

	purserv1 "github.com/purserd/purser/api/purser/v1"
)

func (s node) Drain(ctx context.Context, r *connect.Request[purserv1.DrainRequest], stream *connect.ServerStream[purserv1.DrainResponse]) error {
	var within *time.Duration
	if r.Msg.Deadline != nil {
		d, err := time.ParseDuration(r.Msg.GetDeadline())
		if err != nil {
			return connect.NewError(connect.CodeInvalidArgument, err)
		}
		within = &d
	}
	return coded(s.agent.Drain(ctx, within, stream.Send))
}

func (s node) Undrain(context.Context, *connect.Request[purserv1.UndrainRequest]) (*connect.Response[purserv1.UndrainResponse], error) {
	changed, err := s.agent.Undrain()
	return respond(&purserv1.UndrainResponse{Changed: changed}, err)
}
