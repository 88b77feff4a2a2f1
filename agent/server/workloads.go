package server

import (
	"context"
	"time"

	"connectrpc.com/connect"

	"github.com/purserd/purser/agent"
	purserv1 "github.com/purserd/purser/api/purser/v1"
)

// workloads serves purser.v1.Workloads.
type workloads struct{ agent *agent.Agent }

func (s workloads) Launch(ctx context.Context, r *connect.Request[purserv1.LaunchRequest]) (*connect.Response[purserv1.LaunchResponse], error) {
	w, changed, err := s.agent.Launch(ctx, r.Msg)
	return respond(&purserv1.LaunchResponse{Workload: w, Changed: changed}, err)
}

func (s workloads) Start(ctx context.Context, r *connect.Request[purserv1.StartRequest]) (*connect.Response[purserv1.StartResponse], error) {
	w, err := s.agent.Start(ctx, r.Msg.GetEnvironment(), r.Msg.GetId())
	return respond(&purserv1.StartResponse{Workload: w}, err)
}

func (s workloads) Stop(ctx context.Context, r *connect.Request[purserv1.StopRequest]) (*connect.Response[purserv1.StopResponse], error) {
	var grace *time.Duration
	if r.Msg.Grace != nil {
		d, err := time.ParseDuration(r.Msg.GetGrace())
		if err != nil {
			return nil, connect.NewError(connect.CodeInvalidArgument, err)
		}
		grace = &d
	}
	w, err := s.agent.Stop(ctx, r.Msg.GetEnvironment(), r.Msg.GetId(), grace)
	return respond(&purserv1.StopResponse{Workload: w}, err)
}

func (s workloads) Remove(ctx context.Context, r *connect.Request[purserv1.RemoveRequest]) (*connect.Response[purserv1.RemoveResponse], error) {
	err := s.agent.Remove(ctx, r.Msg.GetEnvironment(), r.Msg.GetId(), r.Msg.GetForce())
	return respond(&purserv1.RemoveResponse{}, err)
}

func (s workloads) Get(_ context.Context, r *connect.Request[purserv1.GetRequest]) (*connect.Response[purserv1.GetResponse], error) {
	w, err := s.agent.Get(r.Msg.GetEnvironment(), r.Msg.GetId())
	return respond(&purserv1.GetResponse{Workload: w}, err)
}

func (s workloads) List(_ context.Context, r *connect.Request[purserv1.ListRequest]) (*connect.Response[purserv1.ListResponse], error) {
	return respond(&purserv1.ListResponse{Workloads: s.agent.List(r.Msg.GetEnvironment(), r.Msg.GetApp())}, nil)
}

func (s workloads) Watch(ctx context.Context, r *connect.Request[purserv1.WatchRequest], stream *connect.ServerStream[purserv1.WatchResponse]) error {
	return coded(s.agent.Watch(ctx, r.Msg.GetEnvironment(), r.Msg.GetAfter(), stream.Send))
}

func (s workloads) Wait(ctx context.Context, r *connect.Request[purserv1.WaitRequest]) (*connect.Response[purserv1.WaitResponse], error) {
	w, err := s.agent.Wait(ctx, r.Msg.GetEnvironment(), r.Msg.GetId(), r.Msg.GetUntil())
	return respond(&purserv1.WaitResponse{Workload: w}, err)
}

func (s workloads) Logs(ctx context.Context, r *connect.Request[purserv1.LogsRequest], stream *connect.ServerStream[purserv1.LogsResponse]) error {
	return coded(s.agent.Logs(ctx, r.Msg, stream.Send))
}

func (s workloads) Signal(ctx context.Context, r *connect.Request[purserv1.SignalRequest]) (*connect.Response[purserv1.SignalResponse], error) {
	err := s.agent.Signal(ctx, r.Msg.GetEnvironment(), r.Msg.GetId(), r.Msg.GetSignal())
	return respond(&purserv1.SignalResponse{}, err)
}

func (s workloads) Restart(ctx context.Context, r *connect.Request[purserv1.RestartRequest]) (*connect.Response[purserv1.RestartResponse], error) {
	w, err := s.agent.Restart(ctx, r.Msg.GetEnvironment(), r.Msg.GetId(), r.Msg.GetSecrets())
	return respond(&purserv1.RestartResponse{Workload: w}, err)
}
