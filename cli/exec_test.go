package cli

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	purserv1 "github.com/purserd/purser/api/purser/v1"
	"github.com/purserd/purser/e2e/rig"
)

// sit is a fake node with the workload a/f, and a terminal that a program of this
// test binary runs on. It leaves the terminal as it was, and its stderr is returned.
func sit(t *testing.T, program string, args ...string) (term *rig.Terminal, wait func() (string, int)) {
	t.Helper()
	dir, err := os.MkdirTemp("", "purser")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	n := startFakeNode(t, dir)
	n.mu.Lock()
	n.jobs["dev:a/f"] = &fakeJob{node: n}
	n.mu.Unlock()
	term = rig.OpenTerminal(t, 24, 80)
	before := term.Modes()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Env = append(os.Environ(), "PURSER_HOST=unix://"+filepath.Join(dir, "purser.sock"), "GORACE=atexit_sleep_ms=0")
	var stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = term.Line, term.Line, &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return term, func() (string, int) {
		t.Helper()
		_ = cmd.Wait()
		if term.Modes() != before {
			t.Error("the terminal is not what it was")
		}
		return stderr.String(), cmd.ProcessState.ExitCode()
	}
}

// Only an agent that lets the command run on makes purser say that it does.
func TestDetached(t *testing.T) {
	for command, want := range map[string]struct {
		text string
		code int
	}{
		"sh":   {"purser: detached: the command runs on in a/f\n", 0},
		"lost": {"the node is gone", exitNotRun},
	} {
		term, wait := sit(t, "purser", "exec", "-it", "a/f", "--", command)
		term.Await("ready", 1)
		term.Type("\x10\x11")
		text, code := wait()
		if code != want.code || !strings.Contains(text, want.text) || command == "lost" && strings.Contains(text, "runs on") {
			t.Errorf("%s: status %d, %q", command, code, text)
		}
	}
}

// panickingMain is a purser that cannot show output without a panic.
func panickingMain(args []string) {
	root := newRoot(&session{in: os.Stdin, out: panicking{}, err: os.Stderr, lookup: os.LookupEnv})
	root.SetArgs(args)
	_ = root.ExecuteContext(context.Background())
}

type panicking struct{}

func (panicking) Write(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	modes, err := unix.IoctlGetTermios(int(os.Stdin.Fd()), unix.TCGETS)
	if err != nil || modes.Lflag&(unix.ICANON|unix.ISIG|unix.ECHO) != 0 {
		panic("the keys are not the command's")
	}
	panic("the keys are the command's")
}

// A panic leaves the terminal as it was.
func TestPanicRestoresTheTerminal(t *testing.T) {
	_, wait := sit(t, "panicking-purser", "exec", "-it", "a/f", "--", "sh")
	if text, code := wait(); code != 2 || !strings.Contains(text, "panic: the keys are the command's") {
		t.Errorf("status %d, %q", code, text)
	}
}

// Who waits with standard input is told once that the agent does not ask for it.
func TestAgentThatNeverAsksForInput(t *testing.T) {
	for name, tc := range map[string]struct {
		asks time.Duration
		told int32
	}{
		"never": {0, 1}, "late": {time.Minute, 1}, "soon": {roomPatience / 2, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var told atomic.Int32
				s := newSender(func(*purserv1.ExecRequest) error { return nil }, func() { told.Add(1) })
				if tc.asks > 0 {
					time.AfterFunc(tc.asks, func() { s.grant(3) })
				}
				stop := time.AfterFunc(time.Hour, s.stop)
				defer stop.Stop()
				// The second waits for more room, of which nothing is said.
				_ = s.copy(strings.NewReader("four"), func(b []byte) *purserv1.ExecRequest { return &purserv1.ExecRequest{Stdin: b} })
				if told.Load() != tc.told {
					t.Errorf("told %d times", told.Load())
				}
			})
		})
	}
}
