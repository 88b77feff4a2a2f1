package server

import (
	"context"

	"connectrpc.com/connect"

	"github.com/purserd/purser/agent"
	purserv1 "github.com/purserd/purser/api/purser/v1"
)

// apps serves purser.v1.Apps.
type apps struct{ agent *agent.Agent }

func (s apps) Deploy(ctx context.Context, r *connect.Request[purserv1.DeployRequest]) (*connect.Response[purserv1.DeployResponse], error) {
	m := r.Msg
	changes, revision, err := s.agent.Deploy(ctx, m.GetEnvironment(), m.GetApp(), m.GetSpecs(), m.GetPrune(), m.GetDryRun(), m.GetForce())
	return respond(&purserv1.DeployResponse{Changes: changes, Revision: revision}, err)
}

func (s apps) List(_ context.Context, r *connect.Request[purserv1.ListAppsRequest]) (*connect.Response[purserv1.ListAppsResponse], error) {
	all, err := s.agent.Apps(r.Msg.GetEnvironment())
	return respond(&purserv1.ListAppsResponse{Apps: all}, err)
}

func (s apps) History(_ context.Context, r *connect.Request[purserv1.HistoryRequest]) (*connect.Response[purserv1.HistoryResponse], error) {
	revisions, err := s.agent.History(r.Msg.GetEnvironment(), r.Msg.GetApp())
	return respond(&purserv1.HistoryResponse{Revisions: revisions}, err)
}

func (s apps) Rollback(ctx context.Context, r *connect.Request[purserv1.RollbackAppRequest]) (*connect.Response[purserv1.RollbackAppResponse], error) {
	changes, revision, err := s.agent.Rollback(ctx, r.Msg.GetEnvironment(), r.Msg.GetApp(), r.Msg.GetRevision())
	return respond(&purserv1.RollbackAppResponse{Changes: changes, Revision: revision}, err)
}

func (s apps) Stop(ctx context.Context, r *connect.Request[purserv1.StopAppRequest]) (*connect.Response[purserv1.StopAppResponse], error) {
	stopped, err := s.agent.StopApp(ctx, r.Msg.GetEnvironment(), r.Msg.GetApp())
	return respond(&purserv1.StopAppResponse{Workloads: stopped}, err)
}

func (s apps) Remove(ctx context.Context, r *connect.Request[purserv1.RemoveAppRequest]) (*connect.Response[purserv1.RemoveAppResponse], error) {
	return respond(&purserv1.RemoveAppResponse{}, s.agent.RemoveApp(ctx, r.Msg.GetEnvironment(), r.Msg.GetApp(), r.Msg.GetForce()))
}

// secrets serves purser.v1.Secrets.
type secrets struct{ agent *agent.Agent }

func (s secrets) Put(ctx context.Context, r *connect.Request[purserv1.PutRequest]) (*connect.Response[purserv1.PutResponse], error) {
	return respond(s.agent.PutSecret(ctx, r.Msg))
}

func (s secrets) List(_ context.Context, r *connect.Request[purserv1.ListSecretsRequest]) (*connect.Response[purserv1.ListSecretsResponse], error) {
	return respond(&purserv1.ListSecretsResponse{Secrets: s.agent.Secrets(r.Msg.GetEnvironment())}, nil)
}

func (s secrets) Describe(_ context.Context, r *connect.Request[purserv1.DescribeRequest]) (*connect.Response[purserv1.DescribeResponse], error) {
	return respond(s.agent.DescribeSecret(r.Msg.GetEnvironment(), r.Msg.GetName()))
}

func (s secrets) Rollback(ctx context.Context, r *connect.Request[purserv1.RollbackRequest]) (*connect.Response[purserv1.RollbackResponse], error) {
	return respond(s.agent.RollbackSecret(ctx, r.Msg))
}

func (s secrets) Delete(ctx context.Context, r *connect.Request[purserv1.DeleteRequest]) (*connect.Response[purserv1.DeleteResponse], error) {
	return respond(s.agent.DeleteSecret(ctx, r.Msg.GetEnvironment(), r.Msg.GetName(), r.Msg.GetDestroy()))
}

func (s secrets) Hold(ctx context.Context, r *connect.Request[purserv1.HoldRequest]) (*connect.Response[purserv1.HoldResponse], error) {
	return respond(s.agent.HoldSecret(ctx, r.Msg))
}

func (s secrets) Release(ctx context.Context, r *connect.Request[purserv1.ReleaseRequest]) (*connect.Response[purserv1.ReleaseResponse], error) {
	return respond(s.agent.ReleaseSecret(ctx, r.Msg))
}

func (s secrets) Retry(ctx context.Context, r *connect.Request[purserv1.RetryRequest]) (*connect.Response[purserv1.RetryResponse], error) {
	return respond(s.agent.RetrySecret(ctx, r.Msg))
}

// node serves purser.v1.Node.
type node struct {
	agent   *agent.Agent
	metrics string // address
}

func (s node) Get(ctx context.Context, _ *connect.Request[purserv1.GetNodeRequest]) (*connect.Response[purserv1.GetNodeResponse], error) {
	m := s.agent.Node(ctx)
	m.MetricsAddress = s.metrics
	return connect.NewResponse(m), nil
}

func (s node) Events(ctx context.Context, r *connect.Request[purserv1.EventsRequest], stream *connect.ServerStream[purserv1.EventsResponse]) error {
	err := s.agent.Events(ctx, r.Msg, func(e *purserv1.Event) error {
		return stream.Send(&purserv1.EventsResponse{Event: e})
	})
	return coded(err)
}

func (s node) ListEnvironments(context.Context, *connect.Request[purserv1.ListEnvironmentsRequest]) (*connect.Response[purserv1.ListEnvironmentsResponse], error) {
	all, err := s.agent.Environments()
	return respond(&purserv1.ListEnvironmentsResponse{Environments: all}, err)
}
