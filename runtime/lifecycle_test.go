package runtime_test

import (
	"errors"
	"strings"
	"syscall"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/purserd/purser/runtime"
)

func TestLifecycle(t *testing.T) {
	eachVersion(t, func(t *testing.T, n *node) {
		t.Run("output and status", func(t *testing.T) {
			code, out, stderr := n.run("a", spec("sh", "-c", "echo $GREETING; printf no-newline; echo wrong >&2; exit 7"))
			if code != 7 || out != "hello\nno-newline" || stderr != "wrong\n" {
				t.Errorf("status %d, stdout %q, stderr %q", code, out, stderr)
			}
		})
		t.Run("states", func(t *testing.T) { testStates(t, n) })
		t.Run("deleting what runs", func(t *testing.T) {
			n.start("r", spec("sh", "-c", "trap '' TERM; while :; do sleep 1; done"))
			n.delete("r")
			n.delete("r")
			if all, err := n.List(t.Context()); err != nil || len(all) != 0 {
				t.Errorf("left: %v, %v", all, err)
			}
		})
		t.Run("commands that can't be executed", func(t *testing.T) { testStartErrors(t, n) })
	})
}

func testStates(t *testing.T, n *node) {
	in := n.instance("s", spec("sleep", "1000"))
	if err := n.Create(t.Context(), in); err != nil {
		t.Fatal(err)
	}
	defer n.delete("s")
	n.wantState("s", runtime.StateCreated)
	if err := n.Create(t.Context(), in); err == nil {
		t.Error("created a container twice")
	}
	if _, err := n.Start(t.Context(), "s"); err != nil {
		t.Fatal(err)
	}
	f := n.wantState("s", runtime.StateRunning)
	if f.PID == 0 || !proto.Equal(f.Record, in.Record) {
		t.Errorf("found PID %d and record %v", f.PID, f.Record)
	}
	if err := n.Kill(t.Context(), "s", syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	exit := n.wait("s")
	if exit.Code != 137 || exit.At.IsZero() {
		t.Errorf("killed, it exited with %+v", exit)
	}
	if f := n.wantState("s", runtime.StateStopped); f.Exit != exit {
		t.Errorf("listed exit %+v, waited for %+v", f.Exit, exit)
	}
	if err := n.Kill(t.Context(), "s", syscall.SIGTERM); !errors.Is(err, runtime.ErrNotFound) {
		t.Errorf("signal to what has ended: %v", err)
	}
	n.delete("s")
	if _, err := n.Wait(t.Context(), "s"); !errors.Is(err, runtime.ErrNotFound) {
		t.Errorf("waiting for what is deleted: %v", err)
	}
}

func (n *node) wantState(id string, want runtime.State) runtime.Found {
	n.t.Helper()
	all, err := n.List(n.t.Context())
	if err != nil {
		n.t.Fatal(err)
	}
	for _, f := range all {
		if f.ID == id {
			if f.State != want {
				n.t.Errorf("%s is %s, want %s", id, f.State, want)
			}
			return f
		}
	}
	n.t.Fatalf("%s is not listed", id)
	return runtime.Found{}
}

func testStartErrors(t *testing.T, n *node) {
	for _, c := range []struct {
		command string
		code    uint32
	}{
		{"no-such-command", 127},
		{"/no/such/command", 127},
		{"/etc/passwd", 126},
		{"/etc", 126},
	} {
		err := n.Create(t.Context(), n.instance("x", spec(c.command)))
		if err == nil {
			_, err = n.Start(t.Context(), "x")
			n.delete("x")
		}
		var s *runtime.StartError
		if !errors.As(err, &s) {
			t.Errorf("%s: %v", c.command, err)
			continue
		}
		if s.Code != c.code || !strings.Contains(s.Message, c.command) {
			t.Errorf("%s: code %d, %q", c.command, s.Code, s.Message)
		}
	}
	if all, err := n.List(t.Context()); err != nil || len(all) != 0 {
		t.Errorf("left: %v, %v", all, err)
	}
}
