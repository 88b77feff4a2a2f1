package runtime_test

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/purserd/purser/runtime"
)

// Who empties the run directory takes the OCI runtime's knowledge of containers with
// it: they run on, and can still be signalled and deleted.
func TestEmptiedRunDirectory(t *testing.T) {
	eachVersion(t, func(t *testing.T, n *node) {
		ready := spec("sh", "-c", "trap 'exit 7' TERM; echo ready; while :; do sleep 0.1; done")
		for _, id := range []string{"signalled", "deleted"} {
			n.start(id, ready)
			n.await(id, "ready")
			if err := os.RemoveAll(filepath.Join(n.cfg.RunDir, "instances", id)); err != nil {
				t.Fatal(err)
			}
		}
		code, err := n.Exec(t.Context(), "signalled", runtime.ExecSpec{Command: []string{"sh", "-c", "exit 3"}}, io.Discard, io.Discard)
		if code != 3 || err != nil {
			t.Errorf("a command ended with %d, %v", code, err)
		}
		for _, id := range []string{"signalled", "deleted"} {
			loseState(t, n, id)
		}
		if err := n.Kill(t.Context(), "signalled", syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		if exit := n.wait("signalled"); exit.Code != 7 {
			t.Errorf("signalled, it exited with %+v", exit)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		if err := n.Delete(ctx, "deleted"); err != nil {
			t.Error(err)
		}
		n.delete("signalled")
		// runc does not remove the cgroups of what it does not know.
		n.sweepAll(n.Sweeper(record().known).Impatient())
	})
}

// loseState removes what runc knows of a container.
func loseState(t *testing.T, n *node, id string) {
	t.Helper()
	states, err := filepath.Glob(filepath.Join(n.cfg.RunDir, "private", "runtimes", "*", "root", "*", id))
	if err != nil || len(states) != 1 {
		t.Fatalf("states of runc's: %v, %v", states, err)
	}
	if err := os.RemoveAll(states[0]); err != nil {
		t.Fatal(err)
	}
}
