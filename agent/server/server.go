package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"time"

	"connectrpc.com/connect"
	"connectrpc.com/grpchealth"
	"connectrpc.com/grpcreflect"
	"golang.org/x/sys/unix"

	"github.com/purserd/purser/agent"
	"github.com/purserd/purser/agent/config"
	"github.com/purserd/purser/api/codec"
	"github.com/purserd/purser/api/purser/v1/purserv1connect"
	"github.com/purserd/purser/runtime/private"
)

// Options say how the daemon ends.
type Options struct {
	// StopOnExit stops every container before Run returns; the next agent
	// brings the workloads back. Without it they run on.
	StopOnExit bool
	// Serving and Ending, unless nil, are called once requests are answered, and when
	// ctx has ended.
	Serving, Ending func()
}

// closing bounds the time that open requests have to end.
const closing = 2 * time.Second

// Run serves a node until ctx ends.
func Run(ctx context.Context, cfg *config.Config, log *slog.Logger, options Options) (err error) {
	// Who may read what is written for containers is said by modes, and must not
	// depend on who started the agent: under 077 only root would reach the files of
	// secrets in a container.
	unix.Umask(0o022)
	if err := private.LockProcess(cfg.AllowSwap); err != nil {
		return err
	}
	a, err := agent.Open(cfg, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, a.Close()) }()
	api, err := listenUnix(cfg.Socket)
	if err != nil {
		return err
	}
	scrapes, err := listenMetrics(cfg.Metrics.Address)
	if err != nil {
		return errors.Join(err, api.Close())
	}

	// Requests end before the workloads are let go, and those before the
	// databases are closed.
	driving, letGo := context.WithCancel(context.WithoutCancel(ctx))
	driven := make(chan struct{})
	go func() { defer close(driven); a.Run(driving) }()
	defer func() { letGo(); <-driven }()

	servers := []*served{serve(api, handler(a, metricsAddress(scrapes)))}
	if scrapes != nil {
		mux := http.NewServeMux()
		mux.Handle("/metrics", a.MetricsHandler())
		mux.HandleFunc("/healthz", healthz)
		mux.Handle("/readyz", readyz(a.Ready))
		servers = append(servers, serve(scrapes, mux))
	}
	log.Info("serving", "socket", cfg.Socket, "metrics", metricsAddress(scrapes))
	tell(options.Serving)
	err = awaitEnd(ctx, servers)
	tell(options.Ending)
	if options.StopOnExit {
		log.Info("stopping all workloads")
		err = errors.Join(err, a.Pause(context.WithoutCancel(ctx)))
	}
	for _, s := range servers {
		s.end()
	}
	return err
}

func tell(who func()) {
	if who != nil {
		who()
	}
}

// awaitEnd waits for ctx, or for a server that cannot serve any more: an agent
// that nobody can talk to is better started anew.
func awaitEnd(ctx context.Context, servers []*served) error {
	failed := make(chan error, len(servers))
	for _, s := range servers {
		go func() {
			<-s.done
			failed <- s.err
		}()
	}
	select {
	case <-ctx.Done():
		return nil
	case err := <-failed:
		return fmt.Errorf("serving: %w", err)
	}
}

// handler is the API's handler.
func handler(a *agent.Agent, metrics string) http.Handler {
	options := append(codec.HandlerOptions(), connect.WithInterceptors(watcher{}, codec.Validate()))
	mux := http.NewServeMux()
	mux.Handle(purserv1connect.NewWorkloadsHandler(workloads{a}, options...))
	mux.Handle(purserv1connect.NewAppsHandler(apps{a}, options...))
	mux.Handle(purserv1connect.NewSecretsHandler(secrets{a}, options...))
	mux.Handle(purserv1connect.NewImagesHandler(images{a}, options...))
	mux.Handle(purserv1connect.NewVolumesHandler(volumes{a}, options...))
	mux.Handle(purserv1connect.NewNodeHandler(node{a, metrics}, options...))
	mux.Handle(purserv1connect.NewAuditHandler(auditTrail{a}, options...))
	names := []string{
		purserv1connect.WorkloadsName, purserv1connect.AppsName, purserv1connect.SecretsName,
		purserv1connect.ImagesName, purserv1connect.VolumesName, purserv1connect.NodeName,
		purserv1connect.AuditName,
	}
	mux.Handle(grpchealth.NewHandler(grpchealth.NewStaticChecker(names...)))
	reflector := grpcreflect.NewStaticReflector(append(names, grpchealth.HealthV1ServiceName)...)
	mux.Handle(grpcreflect.NewHandlerV1(reflector))
	mux.Handle(grpcreflect.NewHandlerV1Alpha(reflector))
	return watch(a, mux)
}

// served is a server at work.
type served struct {
	server *http.Server
	cancel context.CancelFunc
	done   chan struct{}
	err    error // set when done is closed
}

// serve serves HTTP/1 and HTTP/2 without TLS, as gRPC wants it, on a listener.
func serve(l net.Listener, h http.Handler) *served {
	ctx, cancel := context.WithCancel(context.Background())
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	s := &served{cancel: cancel, done: make(chan struct{}), server: &http.Server{
		Handler:           h,
		Protocols:         protocols,
		ReadHeaderTimeout: 10 * time.Second,
		// What a stream sends that is not being read must not keep the others of its
		// connection from sending.
		HTTP2:       &http.HTTP2Config{MaxReceiveBufferPerStream: inboxSize, MaxReceiveBufferPerConnection: 12 * inboxSize},
		BaseContext: func(net.Listener) context.Context { return ctx },
		ConnContext: withPeer,
	}}
	go func() { defer close(s.done); s.err = s.server.Serve(l) }()
	return s
}

// end tells open requests to end, and waits for that, but not for ever.
func (s *served) end() {
	s.cancel()
	ctx, cancel := context.WithTimeout(context.Background(), closing)
	defer cancel()
	if s.server.Shutdown(ctx) != nil {
		s.server.Close()
	}
	<-s.done
}

// listenUnix listens on a socket that only its owner may use. A socket that
// nobody listens on is an earlier agent's, and is replaced.
func listenUnix(path string) (net.Listener, error) {
	if c, err := net.Dial("unix", path); err == nil {
		c.Close()
		return nil, fmt.Errorf("another agent serves on %s", path)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("replacing the socket: %w", err)
	}
	// The directory is the agent's own (0700), so that there is no moment at
	// which the socket could be used before its mode is set.
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("listening on %s: %w", path, err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(fmt.Errorf("protecting the socket: %w", err), l.Close())
	}
	return l, nil
}

func listenMetrics(address string) (net.Listener, error) {
	if address == "" {
		return nil, nil
	}
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("serving metrics ([metrics] address in the configuration): %w", err)
	}
	return l, nil
}

// metricsAddress is where metrics are served; empty when they are not.
func metricsAddress(l net.Listener) string {
	if l == nil {
		return ""
	}
	return l.Addr().String()
}
