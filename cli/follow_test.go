package cli

import (
	"bytes"
	"context"
	"errors"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"connectrpc.com/connect"

	purserv1 "github.com/purserd/purser/api/purser/v1"
	"github.com/purserd/purser/api/purser/v1/purserv1connect"
	"github.com/purserd/purser/client"
)

// toldNode says of workloads what it is told to, and has a log that may be away.
type toldNode struct {
	purserv1connect.UnimplementedWorkloadsHandler
	tell  chan *purserv1.WatchResponse
	away  atomic.Bool
	lines []*purserv1.LogsResponse
}

// Watch ends, as if the connection broke, with a message of no type.
func (n *toldNode) Watch(ctx context.Context, _ *connect.Request[purserv1.WatchRequest], stream *connect.ServerStream[purserv1.WatchResponse]) error {
	for {
		select {
		case m := <-n.tell:
			if m.GetType() == "" {
				return connect.NewError(connect.CodeAborted, errors.New("cut"))
			}
			if err := stream.Send(m); err != nil {
				return err
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (n *toldNode) Logs(ctx context.Context, r *connect.Request[purserv1.LogsRequest], stream *connect.ServerStream[purserv1.LogsResponse]) error {
	if n.away.Load() {
		return connect.NewError(connect.CodeInternal, errors.New("the log is damaged"))
	}
	for _, line := range n.lines {
		if line.GetTime().AsTime().Before(r.Msg.GetSince().AsTime()) {
			continue
		}
		if err := stream.Send(line); err != nil {
			return err
		}
	}
	<-ctx.Done()
	return ctx.Err()
}

// dial serves the node over pipes, which time in a bubble stands still for.
func (n *toldNode) dial(t *testing.T) *client.Client {
	t.Helper()
	pipes := make(pipeListener)
	mux := http.NewServeMux()
	mux.Handle(purserv1connect.NewWorkloadsHandler(n))
	server := &http.Server{Handler: mux}
	go func() { _ = server.Serve(pipes) }()
	transport := &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) {
		ours, theirs := net.Pipe()
		pipes <- theirs
		return ours, nil
	}}
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		server.Close()
	})
	return &client.Client{Workloads: purserv1connect.NewWorkloadsClient(&http.Client{Transport: transport}, "http://purser")}
}

type pipeListener chan net.Conn

func (l pipeListener) Accept() (net.Conn, error) {
	if conn, ok := <-l; ok {
		return conn, nil
	}
	return nil, net.ErrClosed
}

func (l pipeListener) Close() error   { close(l); return nil }
func (l pipeListener) Addr() net.Addr { return &net.UnixAddr{} }

func running(id string) *purserv1.WatchResponse {
	app, function, _ := strings.Cut(id, "/")
	return &purserv1.WatchResponse{Type: "updated", Workload: &purserv1.Workload{
		Id: id, State: "running", Spec: &purserv1.LaunchSpec{App: &app, Function: &function},
	}}
}

// A workload that goes while its output cannot be read, and comes again, is printed
// once; that nothing can be read is said once.
func TestFollowerPrintsEachLineOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := now()
		n := &toldNode{tell: make(chan *purserv1.WatchResponse)}
		for _, text := range []string{"one", "two"} {
			n.lines = append(n.lines, &purserv1.LogsResponse{Id: "a/f", Stream: "stdout", Time: began, Data: []byte(text + "\n")})
		}
		n.away.Store(true)
		var out bytes.Buffer
		f := &follower{api: n.dial(t), app: "a", from: began.AsTime(), console: &console{out: &out, err: &out}, followed: map[string]*followed{}}
		stop := beside(t.Context(), f.run)
		n.tell <- running("a/f")
		<-time.After(time.Minute)
		n.tell <- &purserv1.WatchResponse{Type: "removed", Workload: &purserv1.Workload{Id: "a/f"}}
		n.tell <- running("a/f")
		synctest.Wait()
		n.away.Store(false)
		<-time.After(time.Minute)
		stop()
		want := []string{
			"f : running", "what f writes cannot be read (the log is damaged); trying again", "f : removed",
			"f : running", "f | one", "f | two",
		}
		if got := strings.Split(strings.TrimSpace(out.String()), "\n"); !slices.Equal(got, want) {
			t.Errorf("got  %q\nwant %q", got, want)
		}
	})
}

// A stream that breaks is taken up again, and nothing is said twice.
func TestWaitsAreToldBeyondABrokenStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &toldNode{tell: make(chan *purserv1.WatchResponse)}
		pulling := func(ref string) *purserv1.WatchResponse {
			return &purserv1.WatchResponse{Type: "updated", Workload: &purserv1.Workload{Id: "a/f", State: "pulling", Reason: "image " + ref}}
		}
		var out bytes.Buffer
		s, api := &session{err: &out}, n.dial(t)
		stop := beside(t.Context(), func(ctx context.Context) { s.tellWaits(ctx, api, []string{"a/f"}) })
		for _, m := range []*purserv1.WatchResponse{pulling("x:1"), {}, pulling("x:1"), pulling("x:2")} {
			n.tell <- m
		}
		synctest.Wait()
		stop()
		if want := "purser: a/f is pulling image x:1\npurser: a/f is pulling image x:2\n"; out.String() != want {
			t.Errorf("got  %q\nwant %q", out.String(), want)
		}
	})
}
