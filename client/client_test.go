package client_test

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"connectrpc.com/connect"
	"go.uber.org/goleak"

	"github.com/purserd/purser/api/codec"
	purserv1 "github.com/purserd/purser/api/purser/v1"
	"github.com/purserd/purser/api/purser/v1/purserv1connect"
	"github.com/purserd/purser/client"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// node is an agent that has one workload and echoes what an exec reads.
type node struct {
	purserv1connect.UnimplementedWorkloadsHandler
}

func (node) List(context.Context, *connect.Request[purserv1.ListRequest]) (*connect.Response[purserv1.ListResponse], error) {
	return connect.NewResponse(&purserv1.ListResponse{Workloads: []*purserv1.Workload{{Environment: "dev", Id: "a/f", State: "running"}}}), nil
}

func (node) Exec(_ context.Context, stream *connect.BidiStream[purserv1.ExecRequest, purserv1.ExecResponse]) error {
	for {
		req, err := stream.Receive()
		if err != nil || req.GetCloseStdin() {
			return stream.Send(&purserv1.ExecResponse{Exit: &purserv1.Exit{Code: 7}})
		}
		if err := stream.Send(&purserv1.ExecResponse{Stream: "stdout", Data: req.GetStdin()}); err != nil {
			return err
		}
	}
}

// tb is what the tests and the example share.
type tb interface {
	Fatal(...any)
	Cleanup(func())
}

// serve runs an agent's API on a listener.
func serve(t tb, listener net.Listener) {
	mux := http.NewServeMux()
	mux.Handle(purserv1connect.NewWorkloadsHandler(node{}, append(codec.HandlerOptions(), connect.WithInterceptors(codec.Validate()))...))
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	server := &http.Server{Handler: mux, Protocols: &protocols}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(listener)
	}()
	t.Cleanup(func() {
		server.Close()
		<-done
	})
}

func listen(t *testing.T, network, address string) net.Listener {
	t.Helper()
	listener, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	return listener
}

func newClient(t *testing.T, host string, options ...connect.ClientOption) *client.Client {
	t.Helper()
	c, err := client.New(host, options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func TestHosts(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "a b%20?#.sock")
	serve(t, listen(t, "unix", socket))
	tcp := listen(t, "tcp", "127.0.0.1:0")
	serve(t, tcp)
	for _, host := range []string{"unix://" + socket, "unix:" + socket, "http://" + tcp.Addr().String(), "http://" + tcp.Addr().String() + "/"} {
		for name, options := range map[string][]connect.ClientOption{
			"connect": nil, "json": {connect.WithProtoJSON()}, "grpc": {connect.WithGRPC()}, "grpc-web": {connect.WithGRPCWeb()},
		} {
			t.Run(name+" "+host[:5], func(t *testing.T) {
				c := newClient(t, host, options...)
				res, err := c.Workloads.List(t.Context(), connect.NewRequest(&purserv1.ListRequest{}))
				if err != nil {
					t.Fatal(err)
				}
				if got := res.Msg.GetWorkloads(); len(got) != 1 || got[0].GetId() != "a/f" {
					t.Errorf("got %v", got)
				}
			})
		}
	}
}

func TestBothDirectionsAtOnce(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s")
	serve(t, listen(t, "unix", socket))
	stream := newClient(t, "unix://"+socket).Workloads.Exec(t.Context())
	for _, text := range []string{"one", "two"} {
		if err := stream.Send(&purserv1.ExecRequest{Stdin: []byte(text)}); err != nil {
			t.Fatal(err)
		}
		if res, err := stream.Receive(); err != nil || string(res.GetData()) != text {
			t.Fatalf("got %v, %v; want %q", res, err, text)
		}
	}
	if err := stream.CloseRequest(); err != nil {
		t.Fatal(err)
	}
	if res, err := stream.Receive(); err != nil || res.GetExit().GetCode() != 7 {
		t.Errorf("got %v, %v", res, err)
	}
	if err := stream.CloseResponse(); err != nil {
		t.Error(err)
	}
}

func TestMalformedHosts(t *testing.T) {
	tests := map[string]string{
		"":                                    "want unix:///path/to/socket or http://host:port",
		"/run/purser.sock":                    "want unix:///path/to/socket or http://host:port; did you mean unix:///run/purser.sock?",
		"https://localhost:1":                 "want unix:///path/to/socket or http://host:port",
		"localhost:9750":                      "want unix:///path/to/socket or http://host:port",
		"unix://":                             "want an absolute path",
		"unix://purser.sock":                  "want an absolute path",
		"http://localhost":                    "want a name and a port",
		"http://:80":                          "want a name and a port",
		"http://localhost:80/api":             "want nothing but a name and a port",
		"http://u@localhost:80":               "want nothing but a name and a port",
		"http://[::1":                         "missing ']' in host",
		"unix:///" + strings.Repeat("x", 107): "the path is 108 bytes long, a unix socket's may be 107 at most",
	}
	for host, want := range tests {
		if _, err := client.New(host); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %s", host, err, want)
		}
	}
}

func TestLongestSocketPath(t *testing.T) {
	dir, err := os.MkdirTemp("/tmp", "")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	socket := dir + "/" + strings.Repeat("x", 107-len(dir)-1)
	serve(t, listen(t, "unix", socket))
	c := newClient(t, "unix://"+socket)
	if _, err := c.Workloads.List(t.Context(), connect.NewRequest(&purserv1.ListRequest{})); err != nil {
		t.Error(err)
	}
}

func TestUnreachable(t *testing.T) {
	dead := filepath.Join(t.TempDir(), "dead.sock")
	listener := listen(t, "unix", dead)
	listener.(*net.UnixListener).SetUnlinkOnClose(false)
	listener.Close()
	closed := listen(t, "tcp", "127.0.0.1:0")
	closed.Close()
	for name, host := range map[string]string{
		"no socket":   "unix:///nonexistent/purser.sock",
		"nobody":      "unix://" + dead,
		"closed port": "http://" + closed.Addr().String(),
	} {
		t.Run(name, func(t *testing.T) {
			c := newClient(t, host)
			_, err := c.Workloads.List(t.Context(), connect.NewRequest(&purserv1.ListRequest{}))
			checkUnreachable(t, err, host)
			stream := c.Workloads.Exec(t.Context())
			_ = stream.Send(&purserv1.ExecRequest{})
			_, err = stream.Receive()
			checkUnreachable(t, err, host)
		})
	}
}

func checkUnreachable(t *testing.T, err error, host string) {
	t.Helper()
	var unreachable *client.UnreachableError
	if !client.Unreachable(err) || !errors.As(err, &unreachable) || unreachable.Host != host {
		t.Fatalf("got %v", err)
	}
	if connect.CodeOf(err) != connect.CodeUnavailable {
		t.Errorf("code is %v", connect.CodeOf(err))
	}
	if !strings.Contains(err.Error(), "no agent answers at "+host) {
		t.Errorf("got %v", err)
	}
	if strings.Contains(host, "nonexistent") && !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v is not fs.ErrNotExist", err)
	}
}

// An agent that answers with an error is there, and so is one that the caller
// did not wait for.
func TestNotUnreachable(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s")
	serve(t, listen(t, "unix", socket))
	c := newClient(t, "unix://"+socket)
	_, err := c.Workloads.Get(t.Context(), connect.NewRequest(&purserv1.GetRequest{Id: "x"}))
	if client.Unreachable(err) || connect.CodeOf(err) != connect.CodeUnimplemented {
		t.Errorf("got %v", err)
	}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = newClient(t, "unix:///nonexistent/s").Workloads.List(cancelled, connect.NewRequest(&purserv1.ListRequest{}))
	if client.Unreachable(err) || connect.CodeOf(err) != connect.CodeCanceled {
		t.Errorf("got %v", err)
	}
	if client.Unreachable(nil) {
		t.Error("nil is no error")
	}
}
