package server

import (
	"context"

	"connectrpc.com/connect"

	"github.com/purserd/purser/agent"
	purserv1 "github.com/purserd/purser/api/purser/v1"
)

// volumes serves purser.v1.Volumes.
type volumes struct{ agent *agent.Agent }

func (s volumes) Create(_ context.Context, r *connect.Request[purserv1.CreateVolumeRequest]) (*connect.Response[purserv1.CreateVolumeResponse], error) {
	v, created, err := s.agent.CreateVolume(r.Msg)
	return respond(&purserv1.CreateVolumeResponse{Volume: v, Created: created}, err)
}

func (s volumes) List(ctx context.Context, r *connect.Request[purserv1.ListVolumesRequest]) (*connect.Response[purserv1.ListVolumesResponse], error) {
	all, err := s.agent.Volumes(ctx, r.Msg.GetEnvironment())
	return respond(&purserv1.ListVolumesResponse{Volumes: all}, err)
}

func (s volumes) Remove(ctx context.Context, r *connect.Request[purserv1.RemoveVolumeRequest]) (*connect.Response[purserv1.RemoveVolumeResponse], error) {
	return respond(&purserv1.RemoveVolumeResponse{}, s.agent.RemoveVolume(ctx, r.Msg.GetEnvironment(), r.Msg.GetName()))
}
