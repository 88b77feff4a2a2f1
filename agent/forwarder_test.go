package agent

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/purserd/purser/runtime/companion"
)

// Who asks for something waits for the forwarder no longer than it wants to, and metrics do not
// wait at all.
func TestForwarderThatIsStopped(t *testing.T) {
	dir := t.TempDir()
	stoppedForwarder(t, filepath.Join(dir, "ports"))
	f, err := newForwarder(dir, func() {}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	for range 2 { // the second one waits for the same start
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		if _, err := f.Owners(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v", err)
		}
	}
	f.measure()
	if err := f.close(); err != nil {
		t.Error(err)
	}
	if took := time.Since(began); took > 4*time.Second { // its patience is longer
		t.Errorf("it took %s", took)
	}
	if _, err := f.Owners(t.Context()); !errors.Is(err, os.ErrClosed) {
		t.Errorf("%v", err)
	}
}

// Where an earlier agent had ports published and none are any more, none is started to be
// asked for them.
func TestForwarderThatHasEnded(t *testing.T) {
	dir := t.TempDir()
	ports := filepath.Join(dir, "ports")
	if err := os.MkdirAll(ports, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(ports, "lock"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := newForwarder(dir, func() {}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if owners, err := f.Owners(t.Context()); len(owners) > 0 || err != nil {
		t.Errorf("owners: %v, %v", owners, err)
	}
	if err := f.Release(t.Context(), "dev/a/f"); err != nil {
		t.Error(err)
	}
	if f.client.Load() != nil || companion.Running(ports) {
		t.Error("one was started")
	}
	if err := f.close(); err != nil {
		t.Error(err)
	}
}

// stoppedForwarder starts a forwarder, and stops it.
func stoppedForwarder(t *testing.T, dir string) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	ready, theirs, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer ready.Close()
	process := exec.Command(self, "port-forwarder", "--dir", dir)
	process.Env, process.ExtraFiles = append(os.Environ(), "PURSER_COMPANION=port forwarder"), []*os.File{theirs}
	if err := errors.Join(process.Start(), theirs.Close()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = process.Process.Kill(); _ = process.Wait() })
	if _, err := ready.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	if err := process.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	for { // until then it may answer
		err := unix.Waitid(unix.P_PID, process.Process.Pid, nil, unix.WSTOPPED|unix.WNOWAIT, nil)
		if err == nil {
			return
		}
		if !errors.Is(err, unix.EINTR) {
			t.Fatal(err)
		}
	}
}
