package rig

import (
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// serveRaw gives each connection to a function, and closes it then.
func serveRaw(t *testing.T, serve func(*net.TCPConn)) (dial func(context.Context) (net.Conn, error)) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				serve(conn.(*net.TCPConn))
			}()
		}
	}()
	return func(ctx context.Context) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", l.Addr().String())
	}
}

// asked reads a request.
func asked(conn net.Conn) bool {
	buf := make([]byte, 1024)
	n, err := conn.Read(buf)
	return err == nil && strings.HasSuffix(string(buf[:n]), "\r\n\r\n")
}

const fine = "HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nsome one"

// untilFailure runs a load until a request of it has failed, or some have not.
func untilFailure(l *Load, some int) LoadReport {
	l.Start()
	ComesTrue(10*time.Second, func() bool {
		r := l.Report()
		return len(r.Failures) > 0 || r.Requests >= some
	})
	return l.Stop()
}

// Whatever is not an answer in full is a failure.
func TestLoadCountsFailures(t *testing.T) {
	for name, test := range map[string]struct {
		serve func(*net.TCPConn)
		want  string
	}{
		"closed at once": {func(*net.TCPConn) {}, ""},
		"reset": {func(c *net.TCPConn) {
			asked(c)
			_ = c.SetLinger(0)
		}, "reset"},
		"closed instead of an answer": {func(c *net.TCPConn) { asked(c) }, "EOF"},
		"closed in an answer": {func(c *net.TCPConn) {
			asked(c)
			_, _ = io.WriteString(c, fine[:len(fine)-1])
		}, "reading an answer"},
		"an error": {func(c *net.TCPConn) {
			asked(c)
			_, _ = io.WriteString(c, strings.Replace(fine, "200 OK", "503 Unavailable", 1))
		}, "status 503"},
		"no answer": {func(c *net.TCPConn) {
			asked(c)
			_, _ = io.Copy(io.Discard, c)
		}, "timeout"},
		"closed between two requests": {func(c *net.TCPConn) {
			asked(c)
			_, _ = io.WriteString(c, fine)
		}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			before := time.Now()
			report := untilFailure(&Load{Kept: 1, Pause: time.Millisecond, Patience: 100 * time.Millisecond, Dial: serveRaw(t, test.serve)}, 100)
			if len(report.Failures) == 0 {
				t.Fatalf("nothing has failed: %v", report)
			}
			f := report.Failures[0]
			if !strings.Contains(f.What, test.want) || f.Connected.Before(before) || f.At.Before(f.Connected) {
				t.Errorf("got %+v", f)
			}
			if between := strings.Contains(name, "between"); between != (f.Instance == "some") {
				t.Errorf("connected to %q", f.Instance)
			}
		})
	}
}

// One that is refused fails, and was never connected.
func TestLoadCountsWhatIsRefused(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	report := untilFailure(&Load{Fresh: 1, Dial: func(ctx context.Context) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", l.Addr().String())
	}}, 100)
	if len(report.Failures) == 0 || !strings.Contains(report.Failures[0].What, "refused") || !report.Failures[0].Connected.IsZero() {
		t.Errorf("got %v", report)
	}
}

// What is answered is no failure, and counted by who has answered.
func TestLoadCountsAnswers(t *testing.T) {
	server := http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "some one\n") })}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = server.Serve(l) }()
	t.Cleanup(func() { server.Close() })
	report := untilFailure(&Load{Kept: 2, Fresh: 2, Pause: time.Millisecond, FreshPause: time.Millisecond, Dial: func(ctx context.Context) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", l.Addr().String())
	}}, 100)
	if len(report.Failures) > 0 || report.Requests < 100 || report.Answers["some"] != report.Requests {
		t.Errorf("got %v", report)
	}
}
