package runtime_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/containerd/containerd/api/services/tasks/v1"
	"github.com/containerd/containerd/api/types/task"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/typeurl/v2"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/purserd/purser/e2e/rig"
	"github.com/purserd/purser/runtime"
)

// An agent that dies while a command is started leaves a shim that waits for the
// command's streams to be opened and answers nothing meanwhile. The container runs all
// the same, for who looks at it and who lists, and the next agent has the shim go on.
func TestShimWaitsForAnAgentThatDied(t *testing.T) {
	eachVersion(t, func(t *testing.T, n *node) {
		n.start("l", spec("sleep", "1000"))
		before := n.wantState("l", runtime.StateRunning)
		old := strings.Contains(n.Status(t.Context()).Version, "1.6") // later ones answer meanwhile
		if err := n.Close(); err != nil {
			t.Fatal(err)
		}
		client := n.client()
		ctx := namespaces.WithNamespace(t.Context(), n.cfg.Namespace)
		dir := filepath.Join(n.cfg.RunDir, "instances", "l", "exec-left")
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		stdout := filepath.Join(dir, "stdout")
		if err := unix.Mkfifo(stdout, 0o600); err != nil {
			t.Fatal(err)
		}
		process, err := typeurl.MarshalAnyToProto(&specs.Process{Args: []string{"sleep", "1000"}, Cwd: "/", Env: []string{"PATH=/bin"}})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := client.TaskService().Exec(ctx, &tasks.ExecProcessRequest{ContainerID: "l", ExecID: "exec-left", Stdout: stdout, Terminal: false, Spec: process}); err != nil {
			t.Fatal(err)
		}
		started := make(chan error, 1)
		go func() {
			_, err := client.TaskService().Start(ctx, &tasks.StartRequest{ContainerID: "l", ExecID: "exec-left"})
			started <- err
		}()
		hangs := func() bool {
			answer, err := client.TaskService().Get(ctx, &tasks.GetRequest{ContainerID: "l"})
			return err != nil || answer.GetProcess().GetStatus() == task.Status_UNKNOWN
		}
		if old && !rig.ComesTrue(20*time.Second, hangs) {
			t.Fatal("the shim does not wait for anybody")
		}
		n.open()
		if after := n.wantState("l", runtime.StateRunning); after.PID != before.PID {
			t.Errorf("process %d, then %d", before.PID, after.PID)
		}
		all, err := n.List(t.Context())
		if err != nil || len(all) != 1 || all[0].State != runtime.StateRunning || all[0].PID != before.PID {
			t.Errorf("listed are %+v, %v", all, err)
		}
		began := time.Now()
		if err := n.OpenLogs(t.Context(), "l", n.known); err != nil {
			t.Fatal(err)
		}
		<-started
		if !rig.ComesTrue(time.Until(began.Add(20*time.Second)), func() bool { _, err := os.Stat(dir); return os.IsNotExist(err) }) {
			t.Error("the shim went on late, by itself, or what the command had is still there")
		}
		n.delete("l")
		n.wantNothing()
	})
}

// A container whose shim hangs runs, for who looks at it and who lists.
func TestShimHangs(t *testing.T) {
	eachVersion(t, func(t *testing.T, n *node) {
		n.start("h", spec("sleep", "1000"))
		pid := n.wantState("h", runtime.StateRunning).PID
		shim := rig.Parent(t, int(pid))
		if err := syscall.Kill(shim, syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = syscall.Kill(shim, syscall.SIGCONT) })
		stopped := func() bool {
			stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", shim))
			return err != nil || strings.Contains(string(stat), ") T ")
		}
		for deadline := time.Now().Add(10 * time.Second); !stopped(); {
			if time.Now().After(deadline) {
				t.Fatal("the shim does not stop")
			}
		}
		if f := n.wantState("h", runtime.StateRunning); f.PID != pid {
			t.Errorf("inspected is %+v", f)
		}
		all, err := n.List(t.Context())
		if err != nil || len(all) != 1 || all[0].State != runtime.StateRunning || all[0].PID != pid {
			t.Errorf("listed are %+v, %v", all, err)
		}
		if err := n.Runs(t.Context(), "h"); err == nil || errors.Is(err, runtime.ErrNotFound) {
			t.Errorf("nobody can tell whether it runs: %v", err)
		}
		if err := syscall.Kill(shim, syscall.SIGCONT); err != nil {
			t.Fatal(err)
		}
		n.delete("h")
		n.wantNothing()
	})
}
