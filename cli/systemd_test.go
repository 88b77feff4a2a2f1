package cli

import (
	"context"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/purserd/purser/agent/server"
)

// listen is a service manager that is told things.
func listen(t *testing.T) *net.UnixConn {
	t.Helper()
	path := filepath.Join(t.TempDir(), "notify")
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	t.Setenv("NOTIFY_SOCKET", path)
	return c
}

// told is the next thing that the manager is told.
func told(t *testing.T, c *net.UnixConn) string {
	t.Helper()
	if err := c.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	buffer := make([]byte, 4096)
	n, err := c.Read(buffer)
	if err != nil {
		t.Fatal(err)
	}
	return string(buffer[:n])
}

var quiet = slog.New(slog.DiscardHandler)

func TestManagerIsTold(t *testing.T) {
	c := listen(t)
	m := newManager("/run/x.sock", quiet)
	o := m.options(t.Context(), server.Options{})
	o.Serving()
	if got := told(t, c); got != "READY=1\nSTATUS=Serving on /run/x.sock" {
		t.Errorf("serving: %q", got)
	}
	o.Ending()
	if got := told(t, c); !strings.HasPrefix(got, "STOPPING=1\nSTATUS=") {
		t.Errorf("ending: %q", got)
	}
}

// An OCI runtime that the agent executes would wait for its container to get ready.
func TestNothingInheritsTheManager(t *testing.T) {
	listen(t)
	t.Setenv("WATCHDOG_USEC", "3000000")
	t.Setenv("WATCHDOG_PID", strconv.Itoa(os.Getpid()))
	m := newManager("/run/x.sock", quiet)
	if m.limit != 3*time.Second {
		t.Errorf("the watchdog's limit is %v", m.limit)
	}
	for _, name := range []string{"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"} {
		if _, there := os.LookupEnv(name); there {
			t.Errorf("%s is still there", name)
		}
	}
}

// The watchdog hears of an agent as long as its API answers.
func TestWatchdog(t *testing.T) {
	c := listen(t)
	dir := t.TempDir()
	startFakeNode(t, dir)
	m := newManager(filepath.Join(dir, "purser.sock"), quiet)
	m.limit = 30 * time.Millisecond
	ctx, cancel := context.WithCancel(t.Context())
	defer m.feeding.Wait()
	defer cancel()
	o := m.options(ctx, server.Options{})
	o.Serving()
	for _, want := range []string{"READY=1", "WATCHDOG=1", "WATCHDOG=1"} {
		if got := told(t, c); !strings.HasPrefix(got, want) {
			t.Errorf("got %q, want %s", got, want)
		}
	}
}

func TestWatchdogHearsNothingOfAnAgentThatHangs(t *testing.T) {
	c := listen(t)
	path := filepath.Join(t.TempDir(), "purser.sock")
	deaf, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer deaf.Close()
	m := newManager(path, quiet)
	m.limit = 30 * time.Millisecond
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	m.feedWatchdog(ctx)
	m.notify("STATUS=end")
	if got := told(t, c); got != "STATUS=end" {
		t.Errorf("it heard %q", got)
	}
}

func TestWithoutAManager(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "")
	m := newManager("/run/x.sock", quiet)
	o := m.options(t.Context(), server.Options{})
	o.Serving()
	o.Ending()
	m.feeding.Wait()
}
