package e2e

import (
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/purserd/purser/e2e/rig"
)

func TestNobodyThere(t *testing.T) {
	t.Parallel()
	cmd := exec.Command(purser(t), "--host", "unix:///nonexistent/purser.sock", "ps")
	r := finish(t, cmd)
	if r.code == 0 || !strings.Contains(r.stderr, "/nonexistent/purser.sock") || !strings.Contains(r.stderr, "purser dev") {
		t.Errorf("got %+v", r)
	}
	r = finish(t, exec.Command(purser(t), "--host", "unix:///nonexistent/purser.sock", "run", "--image", "x", "--", "true"))
	if r.code != 125 {
		t.Errorf("run: exit status %d", r.code)
	}
}

// Signals to purser run reach the function.
func TestRunPassesSignalsOn(t *testing.T) {
	onOne(t, func(t *testing.T, n *node) {
		cmd := n.command("run", "--image", image, "--", "sh", "-c", `trap "echo got it; exit 33" TERM; echo ready; while :; do sleep 0.05; done`)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		var text string
		buf := make([]byte, 100)
		for !strings.Contains(text, "ready") {
			k, err := out.Read(buf)
			if err != nil {
				t.Fatalf("%v after %q", err, text)
			}
			text += string(buf[:k])
		}
		cmd.Process.Signal(syscall.SIGTERM)
		for {
			k, err := out.Read(buf)
			text += string(buf[:k])
			if err != nil {
				break
			}
		}
		cmd.Wait()
		if code := cmd.ProcessState.ExitCode(); code != 33 || !strings.Contains(text, "got it") {
			t.Errorf("exit status %d, %q", code, text)
		}
		n.eventually("the workload to be gone", func() bool { return strings.Contains(n.must("ps", "-a", "-o", "json"), `"workloads": []`) })
	})
}

// A run whose client is killed with SIGKILL goes on; it can be seen and removed.
func TestRunIsKilled(t *testing.T) {
	t.Parallel()
	n := newNode(t, rig.V24)
	cmd := n.command("run", "--image", image, "--", "sleep", "1000")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var list struct{ Workloads []workload }
	n.eventually("it to run", func() bool {
		n.json(&list, "ps")
		return len(list.Workloads) == 1 && list.Workloads[0].State == "running"
	})
	cmd.Process.Kill()
	cmd.Wait()
	time.Sleep(200 * time.Millisecond)
	n.must("rm", "-f", list.Workloads[0].ID)
}

func TestCompletion(t *testing.T) {
	t.Parallel()
	n := newNode(t, rig.V24)
	n.deploySleeper()
	for _, tc := range []struct {
		args []string
		want string
	}{
		{[]string{"__complete", "logs", ""}, "a/f"},
		{[]string{"__complete", "secret", "show", ""}, "s"},
		{[]string{"__complete", "ps", "-E", ""}, "dev"},
		{[]string{"__complete", "run", "--image", ""}, image},
		{[]string{"__complete", "app", "stop", ""}, "a"},
	} {
		out := n.must(tc.args...)
		if !strings.Contains("\n"+out, "\n"+tc.want) {
			t.Errorf("%v: %q", tc.args, out)
		}
	}
}
