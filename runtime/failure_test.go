package runtime_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/purserd/purser/e2e/rig"
	"github.com/purserd/purser/runtime"
	"github.com/purserd/purser/runtime/private"
)

func TestManyAtOnce(t *testing.T) {
	eachVersion(t, func(t *testing.T, n *node) {
		var g errgroup.Group
		for i := range 50 {
			in := n.instance(fmt.Sprintf("many%d", i), spec("sh", "-c", fmt.Sprintf("echo %d; exit %d", i, i)))
			g.Go(func() error { return n.live(t.Context(), in, uint32(i)) })
		}
		if err := g.Wait(); err != nil {
			t.Error(err)
		}
		n.wantNothing()
	})
}

// live takes a container through its life and checks its exit status.
func (n *node) live(ctx context.Context, in runtime.Instance, want uint32) error {
	if err := n.Create(ctx, in); err != nil {
		return err
	}
	if _, err := n.Start(ctx, in.ID); err != nil {
		return err
	}
	exit, err := n.Wait(ctx, in.ID)
	if err != nil {
		return err
	}
	if exit.Code != want {
		return fmt.Errorf("%s: status %d, want %d", in.ID, exit.Code, want)
	}
	return n.Delete(ctx, in.ID)
}

// wantNothing checks that there is no trace of any container.
func (n *node) wantNothing() {
	n.t.Helper()
	if all, err := n.List(n.t.Context()); err != nil || len(all) != 0 {
		n.t.Errorf("containers left: %v, %v", all, err)
	}
	if left, err := os.ReadDir(filepath.Join(n.cfg.RunDir, "instances")); err != nil || len(left) != 0 {
		n.t.Errorf("files left: %v, %v", left, err)
	}
	if left, err := os.ReadDir(n.cfg.RootDir); err != nil && !errors.Is(err, os.ErrNotExist) || len(left) != 0 {
		n.t.Errorf("writable layers left: %v, %v", left, err)
	}
	n.wantSnapshots(0)
}

// wantSnapshots counts the writable snapshots; the others are images' layers.
func (n *node) wantSnapshots(want int) {
	n.t.Helper()
	got := 0
	err := n.client().SnapshotService("overlayfs").Walk(n.t.Context(), countActive(&got))
	if err != nil || got != want {
		n.t.Errorf("%d snapshots of containers, %v; want %d", got, err, want)
	}
}

// TestCancelledCreate ends the context at ever later moments of a create.
func TestCancelledCreate(t *testing.T) {
	eachVersion(t, func(t *testing.T, n *node) {
		in := n.instance("c", spec("sleep", "1000"))
		for wait := time.Millisecond; wait < 200*time.Millisecond; wait = wait * 3 / 2 {
			ctx, cancel := context.WithTimeout(t.Context(), wait)
			err := n.Create(ctx, in)
			cancel()
			if err == nil {
				n.delete("c")
			} else if !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("after %v: %v", wait, err)
			}
			n.wantNothing()
		}
		n.start("c", spec("true"))
	})
}

func TestAdoption(t *testing.T) {
	eachVersion(t, func(t *testing.T, n *node) {
		s := spec("sh", "-c", "echo before; read x; echo $x; read x; echo after")
		s.Stdin = new(true)
		n.start("a", s)
		n.await("a", "before")
		// The agent goes, and containerd too, and what comes meanwhile waits.
		n.Close()
		n.daemon.Stop()
		n.daemon.Start()
		n.open()
		if f := n.wantState("a", runtime.StateRunning); f.Record.GetId() != "app/function" {
			t.Errorf("record %v", f.Record)
		}
		for range 2 {
			if err := n.OpenLogs(t.Context(), "a", n.known); err != nil {
				t.Fatal(err)
			}
		}
		stdin, err := n.Stdin("a")
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintln(stdin, "between")
		n.await("a", "between")
		fmt.Fprintln(stdin, "end")
		if exit := n.wait("a"); exit.Code != 0 {
			t.Errorf("status %d", exit.Code)
		}
		n.delete("a")
		if out, _ := n.output("a"); out != "before\nbetween\nafter\n" {
			t.Errorf("got %q", out)
		}
		if err := n.OpenLogs(t.Context(), "a", n.known); !errors.Is(err, runtime.ErrNotFound) {
			t.Errorf("output of what is gone: %v", err)
		}
	})
}

func TestOutputWhileNobodyReads(t *testing.T) {
	eachVersion(t, func(t *testing.T, n *node) {
		s := spec("sh", "-c", "echo ready; read x; seq 1 20000")
		s.Stdin = new(true)
		n.start("o", s)
		n.await("o", "ready")
		stdin, err := n.Stdin("o")
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintln(stdin, "go")
		n.Close()
		n.open()
		if err := n.OpenLogs(t.Context(), "o", n.known); err != nil {
			t.Fatal(err)
		}
		n.wait("o")
		n.delete("o")
		out, _ := n.output("o")
		if lines := strings.Count(out, "\n"); lines != 20001 || !strings.HasSuffix(out, "\n20000\n") {
			t.Errorf("%d lines, ending %q", lines, out[max(0, len(out)-20):])
		}
	})
}

func TestUnavailable(t *testing.T) {
	n := newNode(t, rig.V16)
	n.start("u", spec("sleep", "1000"))
	if s := n.Status(t.Context()); !s.Connected || !strings.Contains(s.Version, "1.6") {
		t.Errorf("status %+v", s)
	}
	waited := make(chan error, 1)
	go func() {
		_, err := n.Wait(t.Context(), "u")
		waited <- err
	}()
	n.daemon.Stop()
	if err := <-waited; !errors.Is(err, runtime.ErrUnavailable) {
		t.Errorf("waiting: %v", err)
	}
	if s := n.Status(t.Context()); s.Connected || !errors.Is(s.Err, runtime.ErrUnavailable) {
		t.Errorf("status %+v", s)
	}
	if _, err := n.Image(t.Context(), "busybox:test"); !errors.Is(err, runtime.ErrUnavailable) {
		t.Errorf("image: %v", err)
	}
	if _, err := n.List(t.Context()); !errors.Is(err, runtime.ErrUnavailable) || !strings.Contains(err.Error(), n.daemon.Address) {
		t.Errorf("list: %v", err)
	}
	n.daemon.Start()
	if !rig.ComesTrue(30*time.Second, func() bool { return n.Status(t.Context()).Connected }) {
		t.Fatal("it does not connect again")
	}
	n.wantState("u", runtime.StateRunning)
}

func TestShimDies(t *testing.T) {
	eachVersion(t, func(t *testing.T, n *node) {
		n.start("l", spec("sleep", "1000"))
		f := n.wantState("l", runtime.StateRunning)
		type waited struct {
			exit runtime.Exit
			err  error
		}
		done := make(chan waited, 1)
		go func() {
			exit, err := n.Wait(t.Context(), "l")
			done <- waited{exit, err}
		}()
		if err := syscall.Kill(rig.Parent(t, int(f.PID)), syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		w := <-done
		wantKilled(t, w.exit, w.err)
		n.delete("l")
		n.wantNothing()
	})
}

// wantKilled checks what is said of a container that was killed with its shim. Whether
// it is that it was lost depends on the moment, and on the kernel whether its status is
// known.
func wantKilled(t *testing.T, exit runtime.Exit, err error) {
	t.Helper()
	lost := errors.Is(err, runtime.ErrLost) && exit.Lost && (exit.Code == 255 || exit.Code == 137)
	if !lost && (err != nil || exit.Code != 137) {
		t.Errorf("got %+v, %v", exit, err)
	}
}

// A quick restart of containerd must not be taken for the end of a container.
func TestQuickRestart(t *testing.T) {
	eachVersion(t, func(t *testing.T, n *node) {
		n.start("q", spec("sleep", "1000"))
		before := n.wantState("q", runtime.StateRunning)
		waited := make(chan error, 1)
		go func() {
			_, err := n.Wait(t.Context(), "q")
			waited <- err
		}()
		n.daemon.Stop()
		n.daemon.Start()
		if after := n.wantState("q", runtime.StateRunning); after.PID != before.PID {
			t.Errorf("process %d, then %d", before.PID, after.PID)
		}
		// It may not have begun to wait before containerd was back; then it waits on.
		if err := n.Kill(t.Context(), "q", syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		if err := <-waited; errors.Is(err, runtime.ErrLost) || errors.Is(err, runtime.ErrNotFound) {
			t.Errorf("waiting: %v", err)
		}
	})
}

func TestConfig(t *testing.T) {
	good := func() runtime.Config {
		return runtime.Config{Address: "/nowhere", Namespace: "n", Node: "x", RunDir: t.TempDir(), LogDir: t.TempDir(), Wrapper: rig.Wrapper(t)}
	}
	for name, c := range map[string]struct {
		change func(*runtime.Config)
		want   string
	}{
		"good":            {func(*runtime.Config) {}, ""},
		"no address":      {func(c *runtime.Config) { c.Address = "" }, "address"},
		"unknown default": {func(c *runtime.Config) { c.DefaultRuntime = "crun" }, `"crun" is not among`},
		"unknown option":  {options(map[string]any{"NoSuch": 1}), "NoSuch"},
		"wrong type":      {options(map[string]any{"NoPivotRoot": "yes"}), "bool field"},
		"given twice":     {options(map[string]any{"NoPivotRoot": true, "no_pivot_root": true}), "twice"},
		"good option":     {options(map[string]any{"NoPivotRoot": true, "no_new_keyring": true}), ""},
		"root":            {options(map[string]any{"root": "/x"}), "Root"},
		"no wrapper":      {func(c *runtime.Config) { c.Wrapper = "/no/purser-oci" }, "belongs beside purser"},
		"systemd":         {options(map[string]any{"SystemdCgroup": true}), "SystemdCgroup"},
	} {
		cfg := good()
		c.change(&cfg)
		r, err := runtime.New(cfg)
		if c.want == "" && err == nil {
			r.Close()
			if err := private.Unmount(filepath.Join(cfg.RunDir, "private")); err != nil {
				t.Error(err)
			}
			continue
		}
		if c.want == "" || err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

// What a runtime that has outlived its agent is at work in keeps no agent from starting.
func TestTrialThatIsStillUnderWay(t *testing.T) {
	rig.Root(t)
	dir := t.TempDir()
	cfg := runtime.Config{
		Address: "/c.sock", Namespace: "purser", Node: "test", Wrapper: rig.Wrapper(t), Logger: slog.New(slog.DiscardHandler),
		RunDir: filepath.Join(dir, "run"), RootDir: filepath.Join(dir, "rootfs"), LogDir: filepath.Join(dir, "logs"),
	}
	trial := filepath.Join(cfg.RootDir, "trial-1")
	if err := os.MkdirAll(trial, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", trial, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	busy, err := os.Create(filepath.Join(trial, "busy"))
	if err != nil {
		t.Fatal(err)
	}
	r, err := runtime.New(cfg)
	busy.Close()
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(r.Close(), private.Unmount(filepath.Join(cfg.RunDir, "private")), unix.Unmount(trial, 0)); err != nil {
		t.Error(err)
	}
}

func options(o map[string]any) func(*runtime.Config) {
	return func(c *runtime.Config) { c.Runtimes = map[string]runtime.RuntimeConfig{"runc": {Options: o}} }
}

func TestRuntimes(t *testing.T) {
	n := newNode(t, rig.V24)
	// It says its version and cannot run anything, as crun where it refuses the cgroups.
	broken := filepath.Join(t.TempDir(), "broken")
	if err := os.WriteFile(broken, []byte("#!/bin/sh\n[ \"$1\" = --version ] && echo broken 1 && exit\necho no cgroups here >&2; exit 1\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	n.cfg.Runtimes = map[string]runtime.RuntimeConfig{
		"runc": {}, "absent": {Path: "/no/such/runtime"}, "broken": {Path: broken},
		"crun": {Path: rig.Runtime(t, "crun")}, "runsc": {Path: rig.Runtime(t, "runsc")},
	}
	n.Close()
	n.open()
	all := n.Runtimes(t.Context())
	if len(all) != 5 || all[0].Err == nil || all[1].Err == nil || !strings.Contains(all[1].Err.Error(), "no container can be run with it here: "+broken+": exit status 1: no cgroups here") ||
		all[2].Err != nil || all[3].Err != nil || all[4].Err != nil || !all[3].Default || !strings.HasPrefix(all[3].Version, "runc version") {
		t.Errorf("%+v", all)
	}
	for name, want := range map[string]string{"absent": "not installed", "youki": "not configured"} {
		s := spec("true")
		s.Runtime = &name
		if err := n.Create(t.Context(), n.instance("r", s)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	n.wantNothing()
}
