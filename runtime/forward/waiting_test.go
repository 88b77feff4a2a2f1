package forward

import (
	"context"
	"errors"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Who asks waits no longer than it wants to, whatever else is being asked.
func TestAskingAForwarderThatIsStopped(t *testing.T) {
	n := newNode(t)
	port := freePort(t)
	pid := n.pid()
	halt(t, pid)
	for range 2 { // the second one waits for the first one's answer
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		began := time.Now()
		if err := n.Claim(ctx, "dev/web", []Port{tcpPort(port, 1)}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v", err)
		}
		if took := time.Since(began); took > heartbeat/2 {
			t.Errorf("it took %s", took)
		}
	}
	if err := syscall.Kill(pid, syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	// What was asked for is done, and known.
	if all, err := n.List(t.Context()); err != nil || len(all) != 1 || len(n.mirror.get("dev/web").fds) != 1 {
		t.Errorf("%+v, %v", all, err)
	}
}

// An agent that starts waits no longer, either.
func TestOpenWhileAForwarderIsStopped(t *testing.T) {
	n := newNode(t)
	n.claim("dev/web", tcpPort(freePort(t), 1))
	pid := n.pid()
	n.Close()
	halt(t, pid)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	began := time.Now()
	if _, err := Open(ctx, n.options()); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
	if took := time.Since(began); took > heartbeat/2 {
		t.Errorf("it took %s", took)
	}
	if err := syscall.Kill(pid, syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	n.open()
	if n.pid() != pid {
		t.Error("one that was stopped for a moment was killed")
	}
}

// halt returns once none of a process's threads runs any more.
func halt(t *testing.T, pid int) {
	t.Helper()
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	for {
		err := unix.Waitid(unix.P_PID, pid, nil, unix.WSTOPPED|unix.WNOWAIT, nil)
		if err == nil {
			return
		}
		if !errors.Is(err, unix.EINTR) {
			t.Fatal(err)
		}
	}
}
