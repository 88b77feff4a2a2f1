package cli

import (
	"context"
	"errors"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/purserd/purser/api/codec"
	purserv1 "github.com/purserd/purser/api/purser/v1"
	"github.com/purserd/purser/api/purser/v1/purserv1connect"
)

// fakeNode serves the API over a unix socket with just enough behind it to
// see what the command line makes of it: a function is a process of this
// machine, without any container.
type fakeNode struct {
	purserv1connect.UnimplementedWorkloadsHandler
	mu      sync.Mutex
	changed chan struct{} // closed, and made anew, with every change
	jobs    map[string]*fakeJob
	secrets map[string]*fakeSecret
	images  []*purserv1.NodeImage
	calls   []string
	drain   fakeDrain
}

func startFakeNode(t testing.TB, dir string) *fakeNode {
	t.Helper()
	n := &fakeNode{changed: make(chan struct{}), jobs: map[string]*fakeJob{}, secrets: map[string]*fakeSecret{}}
	mux := http.NewServeMux()
	options := append(codec.HandlerOptions(), connect.WithInterceptors(n.recorder()))
	mux.Handle(purserv1connect.NewWorkloadsHandler(n, options...))
	mux.Handle(purserv1connect.NewSecretsHandler(fakeSecrets{node: n}, options...))
	mux.Handle(purserv1connect.NewAppsHandler(fakeApps{node: n}, options...))
	mux.Handle(purserv1connect.NewImagesHandler(fakeImages{node: n}, options...))
	mux.Handle(purserv1connect.NewNodeHandler(fakeInfo{node: n}, options...))
	mux.Handle(purserv1connect.NewAuditHandler(fakeAudit{node: n}, options...))
	listener, err := net.Listen("unix", filepath.Join(dir, "purser.sock"))
	if err != nil {
		t.Fatal(err)
	}
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	server := &http.Server{Handler: mux, Protocols: protocols}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(listener)
	}()
	t.Cleanup(func() {
		n.killAll()
		server.Close()
		<-done
	})
	return n
}

// recorder notes the unary and streaming calls that were made.
func (n *fakeNode) recorder() connect.Interceptor {
	return recordCalls(func(procedure string) {
		n.mu.Lock()
		defer n.mu.Unlock()
		n.calls = append(n.calls, procedure)
		n.notify()
	})
}

type recordCalls func(procedure string)

func (r recordCalls) WrapUnary(next connect.UnaryFunc) connect.UnaryFunc {
	return func(ctx context.Context, request connect.AnyRequest) (connect.AnyResponse, error) {
		r(request.Spec().Procedure)
		return next(ctx, request)
	}
}

func (r recordCalls) WrapStreamingClient(next connect.StreamingClientFunc) connect.StreamingClientFunc {
	return next
}

func (r recordCalls) WrapStreamingHandler(next connect.StreamingHandlerFunc) connect.StreamingHandlerFunc {
	return func(ctx context.Context, conn connect.StreamingHandlerConn) error {
		r(conn.Spec().Procedure)
		return next(ctx, conn)
	}
}

// notify wakes those that wait for a change. The lock is held.
func (n *fakeNode) notify() {
	close(n.changed)
	n.changed = make(chan struct{})
}

// await waits until ok, which is called with the lock held.
func (n *fakeNode) await(ctx context.Context, ok func() bool) error {
	for {
		n.mu.Lock()
		met, changed := ok(), n.changed
		n.mu.Unlock()
		if met {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func orDefault(environment string) string {
	if environment == "" {
		return defaultEnvironment
	}
	return environment
}

func (n *fakeNode) find(environment, id string) (*fakeJob, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	job := n.jobs[orDefault(environment)+":"+id]
	if job == nil {
		return nil, connect.NewError(connect.CodeNotFound, errors.New("no workload "+id+" in environment "+orDefault(environment)))
	}
	return job, nil
}

func (n *fakeNode) Launch(_ context.Context, r *connect.Request[purserv1.LaunchRequest]) (*connect.Response[purserv1.LaunchResponse], error) {
	if err := codec.Check(r.Msg); err != nil {
		return nil, err
	}
	if err := n.refuseQuarantined(r.Msg.GetSpec(), r.Msg.GetForce()); err != nil {
		return nil, err
	}
	job, err := n.launch(r.Msg.GetSpec())
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&purserv1.LaunchResponse{Workload: job.message(), Changed: true}), nil
}

func (n *fakeNode) List(_ context.Context, r *connect.Request[purserv1.ListRequest]) (*connect.Response[purserv1.ListResponse], error) {
	response := &purserv1.ListResponse{}
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, job := range n.jobs {
		if e := r.Msg.GetEnvironment(); e == "" || e == job.environment {
			response.Workloads = append(response.Workloads, job.snapshot())
		}
	}
	slices.SortFunc(response.Workloads, func(a, b *purserv1.Workload) int {
		return slices.Compare([]string{a.Environment, a.Id}, []string{b.Environment, b.Id})
	})
	return connect.NewResponse(response), nil
}

func (n *fakeNode) Get(_ context.Context, r *connect.Request[purserv1.GetRequest]) (*connect.Response[purserv1.GetResponse], error) {
	job, err := n.find(r.Msg.GetEnvironment(), r.Msg.GetId())
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&purserv1.GetResponse{Workload: job.message()}), nil
}

func (n *fakeNode) Wait(ctx context.Context, r *connect.Request[purserv1.WaitRequest]) (*connect.Response[purserv1.WaitResponse], error) {
	job, err := n.find(r.Msg.GetEnvironment(), r.Msg.GetId())
	if err != nil {
		return nil, err
	}
	err = n.await(ctx, func() bool {
		return slices.Contains(ended, job.state) || slices.Contains([]string{"running", "ready"}, r.Msg.GetUntil()) && job.state == "running" ||
			r.Msg.GetUntil() == "ready" && job.exit != nil
	})
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&purserv1.WaitResponse{Workload: job.message()}), nil
}

func (n *fakeNode) Start(_ context.Context, r *connect.Request[purserv1.StartRequest]) (*connect.Response[purserv1.StartResponse], error) {
	job, err := n.find(r.Msg.GetEnvironment(), r.Msg.GetId())
	if err != nil {
		return nil, err
	}
	if job, err = n.launch(job.spec); err != nil {
		return nil, err
	}
	return connect.NewResponse(&purserv1.StartResponse{Workload: job.message()}), nil
}

func (n *fakeNode) Stop(ctx context.Context, r *connect.Request[purserv1.StopRequest]) (*connect.Response[purserv1.StopResponse], error) {
	job, err := n.find(r.Msg.GetEnvironment(), r.Msg.GetId())
	if err != nil {
		return nil, err
	}
	job.stop()
	if err := n.await(ctx, func() bool { return slices.Contains(ended, job.state) }); err != nil {
		return nil, err
	}
	return connect.NewResponse(&purserv1.StopResponse{Workload: job.message()}), nil
}

func (n *fakeNode) Restart(ctx context.Context, r *connect.Request[purserv1.RestartRequest]) (*connect.Response[purserv1.RestartResponse], error) {
	stop := &purserv1.StopRequest{Environment: r.Msg.GetEnvironment(), Id: r.Msg.GetId()}
	if _, err := n.Stop(ctx, connect.NewRequest(stop)); err != nil {
		return nil, err
	}
	start := &purserv1.StartRequest{Environment: r.Msg.GetEnvironment(), Id: r.Msg.GetId()}
	response, err := n.Start(ctx, connect.NewRequest(start))
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&purserv1.RestartResponse{Workload: response.Msg.GetWorkload()}), nil
}

func (n *fakeNode) Remove(ctx context.Context, r *connect.Request[purserv1.RemoveRequest]) (*connect.Response[purserv1.RemoveResponse], error) {
	job, err := n.find(r.Msg.GetEnvironment(), r.Msg.GetId())
	if err != nil {
		return nil, err
	}
	job.stop()
	if err := n.await(ctx, func() bool { return slices.Contains(ended, job.state) }); err != nil {
		return nil, err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.jobs, job.environment+":"+job.id)
	n.notify()
	return connect.NewResponse(&purserv1.RemoveResponse{}), nil
}

func now() *timestamppb.Timestamp { return timestamppb.New(time.Now()) }
