package netprobe_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	goruntime "runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"

	purserv1 "github.com/purserd/purser/api/purser/v1"
	"github.com/purserd/purser/runtime/netprobe"
)

// The main thread is nobody's room: its network is taken for the process's.
func init() { goruntime.LockOSThread() }

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// room is a network namespace with loopback alone, held by a thread.
type room struct {
	t    testing.TB
	tid  int
	call chan func()
	*netprobe.Network
}

func newRoom(t testing.TB) *room {
	t.Helper()
	r := &room{t: t, call: make(chan func())}
	ready, ended := make(chan error), make(chan struct{})
	go func() {
		defer close(ended)
		goruntime.LockOSThread() // for good: the thread ends with the room
		r.tid = unix.Gettid()
		ready <- errors.Join(unix.Unshare(unix.CLONE_NEWNET), raiseLoopback())
		for do := range r.call {
			do()
		}
	}()
	if err := <-ready; err != nil {
		t.Fatal(err)
	}
	n, err := netprobe.Open(r.tid)
	if err != nil {
		t.Fatal(err)
	}
	r.Network = n
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
		close(r.call)
		<-ended
	})
	return r
}

func raiseLoopback() error {
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	if err != nil {
		return err
	}
	defer unix.Close(s)
	r, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	r.SetUint16(unix.IFF_UP)
	return unix.IoctlIfreq(s, unix.SIOCSIFFLAGS, r)
}

// listen listens within the room, and returns the port.
func (r *room) listen(address string) (net.Listener, uint32) {
	r.t.Helper()
	var l net.Listener
	var err error
	done := make(chan struct{})
	r.call <- func() {
		defer close(done)
		l, err = net.Listen("tcp", address)
	}
	<-done
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { l.Close() })
	return l, uint32(l.Addr().(*net.TCPAddr).Port)
}

// serve serves HTTP within the room.
func (r *room) serve(secure bool, handler http.HandlerFunc) (port uint32) {
	l, port := r.listen("127.0.0.1:0")
	s := httptest.NewUnstartedServer(handler)
	s.Listener.Close()
	s.Listener = l
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	if secure {
		s.StartTLS()
	} else {
		s.Start()
	}
	r.t.Cleanup(s.Close)
	return port
}

// try makes one try, and returns what went wrong and what the server said.
func (r *room) try(p *purserv1.Probe) (message, answer string) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), 5*time.Second)
	defer cancel()
	var said strings.Builder
	err := r.Try(ctx, p, &said)
	return fmt.Sprint(err), said.String()
}

func get(port uint32, path string) *purserv1.HttpProbe {
	return &purserv1.HttpProbe{Port: &port, Path: &path}
}

func TestTCP(t *testing.T) {
	r := newRoom(t)
	_, port := r.listen("127.0.0.1:0")
	_, six := r.listen("[::1]:0")
	for name, c := range map[string]struct {
		port uint32
		want string
	}{"listens": {port, "<nil>"}, "listens at ::1 alone": {six, "<nil>"}, "nobody there": {1, "connecting to port 1: connection refused"}} {
		if got, _ := r.try(&purserv1.Probe{Tcp: &purserv1.TcpProbe{Port: &c.port}}); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
	// It is the room's, and nobody else's.
	outside, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer outside.Close()
	p := uint32(outside.Addr().(*net.TCPAddr).Port)
	if got, _ := r.try(&purserv1.Probe{Tcp: &purserv1.TcpProbe{Port: &p}}); p != port && p != six && got == "<nil>" {
		t.Error("connected to the node's own server")
	}
	own, err := netprobe.Open(unix.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if err := own.Try(t.Context(), &purserv1.Probe{Tcp: &purserv1.TcpProbe{Port: &p}}, io.Discard); err != nil {
		t.Errorf("the node's own network: %v", err)
	}
	if err := own.Close(); err != nil {
		t.Error(err)
	}
}

func TestHTTP(t *testing.T) {
	r := newRoom(t)
	var last atomic.Pointer[http.Request]
	handler := func(w http.ResponseWriter, q *http.Request) {
		last.Store(q)
		switch q.URL.Path {
		case "/ok":
		case "/broken":
			http.Error(w, "the database hunter2 is away", http.StatusServiceUnavailable)
		case "/endless":
			w.WriteHeader(500)
			for {
				if _, err := w.Write(make([]byte, 1<<10)); err != nil {
					return
				}
			}
		case "/away":
			http.Redirect(w, q, "http://elsewhere.example/broken", http.StatusFound)
		case "/here":
			http.Redirect(w, q, "/broken", http.StatusFound)
		case "/round":
			http.Redirect(w, q, "/round", http.StatusFound)
		case "/cut":
			panic(http.ErrAbortHandler)
		}
	}
	port, secure := r.serve(false, handler), r.serve(true, handler)
	for path, want := range map[string]string{
		"/ok": "<nil>", "/broken": "HTTP status 503 Service Unavailable", "/endless": "HTTP status 500 Internal Server Error",
		"/away": "<nil>", "/here": "HTTP status 503 Service Unavailable", "/round": "redirects more than 10 times",
		"/cut": "the server closed the connection without an answer",
	} {
		got, answer := r.try(&purserv1.Probe{Http: get(port, path)})
		if got != want {
			t.Errorf("%s: %s, want %s", path, got, want)
		}
		if path == "/broken" && answer != "the database hunter2 is away\n" || len(answer) > netprobe.MaxAnswer {
			t.Errorf("%s: %d bytes, %.50q", path, len(answer), answer)
		}
	}
	p := get(secure, "/ok?x=1")
	p.Scheme, p.Host, p.Headers = new("https"), new("shop.example:99"), map[string]string{"X-Probe": "yes", "user-agent": "mine"}
	if got, _ := r.try(&purserv1.Probe{Http: p}); got != "<nil>" {
		t.Fatal(got)
	}
	seen := last.Load()
	if seen.Host != "shop.example:99" || seen.TLS.ServerName != "shop.example" || seen.Header.Get("X-Probe") != "yes" || seen.UserAgent() != "mine" || seen.URL.RawQuery != "x=1" || !seen.Close {
		t.Errorf("%+v", seen)
	}
	wrong := get(port, "/ok")
	wrong.Scheme = new("https")
	if got, _ := r.try(&purserv1.Probe{Http: wrong}); got != "the server does not speak TLS: with scheme: http it may answer" {
		t.Error(got)
	}
}

// What a server that speaks something else says is in no error.
func TestNoHTTP(t *testing.T) {
	r := newRoom(t)
	l, port := r.listen("127.0.0.1:0")
	served := make(chan struct{})
	go func() {
		defer close(served)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = c.Read(make([]byte, 1<<10))
			fmt.Fprintln(c, "220 hunter2 ESMTP")
			c.Close()
		}
	}()
	if got, answer := r.try(&purserv1.Probe{Http: get(port, "/")}); got != "the server's answer is not HTTP" || answer != "" {
		t.Errorf("%s, %q", got, answer)
	}
	if got, answer := r.try(&purserv1.Probe{Grpc: &purserv1.GrpcProbe{Port: &port}}); strings.Contains(got, "hunter2") || got == "<nil>" {
		t.Errorf("%s, %q", got, answer)
	}
	l.Close()
	<-served
}

// A server that accepts and says nothing holds nobody up.
func TestSilence(t *testing.T) {
	r := newRoom(t)
	_, port := r.listen("127.0.0.1:0")
	for name, p := range map[string]*purserv1.Probe{
		"http": {Http: get(port, "/")}, "https": {Http: &purserv1.HttpProbe{Port: &port, Scheme: new("https")}}, "grpc": {Grpc: &purserv1.GrpcProbe{Port: &port}},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		if err := r.Try(ctx, p, io.Discard); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s: %v", name, err)
		}
		cancel()
	}
}

func TestGRPC(t *testing.T) {
	r := newRoom(t)
	l, port := r.listen("127.0.0.1:0")
	checks, s := health.NewServer(), grpc.NewServer()
	grpc_health_v1.RegisterHealthServer(s, checks)
	checks.SetServingStatus("db", grpc_health_v1.HealthCheckResponse_NOT_SERVING)
	bare, without := r.listen("127.0.0.1:0")
	other := grpc.NewServer()
	for server, l := range map[*grpc.Server]net.Listener{s: l, other: bare} {
		served := make(chan struct{})
		go func() {
			defer close(served)
			_ = server.Serve(l)
		}()
		t.Cleanup(func() { server.Stop(); <-served })
	}
	for name, c := range map[string]struct {
		port    uint32
		service string
		want    string
	}{
		"serves": {port, "", "<nil>"}, "one does not": {port, "db", "the server says NOT_SERVING"},
		"unknown":     {port, "x", `the server's health service does not know the service "x"`},
		"no health":   {without, "", "the server does not have the service grpc.health.v1.Health"},
		"not there":   {1, "", "connecting to port 1: connection refused"},
		"speaks HTTP": {r.serve(false, func(w http.ResponseWriter, _ *http.Request) {}), "", "the call failed with Unavailable"},
	} {
		if got, answer := r.try(&purserv1.Probe{Grpc: &purserv1.GrpcProbe{Port: &c.port, Service: &c.service}}); got != c.want {
			t.Errorf("%s: %s (%s), want %s", name, got, answer, c.want)
		}
	}
}

// Threads that were in a room are back in the agent's own network.
func TestThreadsComeBack(t *testing.T) {
	r := newRoom(t)
	_, port := r.listen("127.0.0.1:0")
	for range 50 {
		if got, _ := r.try(&purserv1.Probe{Tcp: &purserv1.TcpProbe{Port: &port}}); got != "<nil>" {
			t.Fatal(got)
		}
	}
	var ours unix.Stat_t
	if err := unix.Stat(fmt.Sprintf("/proc/%d/ns/net", unix.Getpid()), &ours); err != nil {
		t.Fatal(err)
	}
	threads, err := os.ReadDir("/proc/self/task")
	if err != nil {
		t.Fatal(err)
	}
	for _, thread := range threads {
		var its unix.Stat_t
		err := unix.Stat(fmt.Sprintf("/proc/self/task/%s/ns/net", thread.Name()), &its)
		if err == nil && its.Ino != ours.Ino && thread.Name() != fmt.Sprint(r.tid) {
			t.Errorf("thread %s is in another network", thread.Name())
		}
	}
}
