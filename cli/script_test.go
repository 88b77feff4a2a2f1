package cli

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/spf13/cobra"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/purserd/purser/e2e/rig"
)

// TestMain lets the test binary be the purser that the scripts run.
func TestMain(m *testing.M) {
	testscript.Main(leakless{m}, map[string]func(){
		"purser":           func() { os.Exit(Main(os.Args[1:])) },
		"panicking-purser": func() { panickingMain(os.Args[1:]) },
	})
}

// leakless are tests after which no goroutine of theirs runs.
type leakless struct{ *testing.M }

func (m leakless) Run() int {
	code := m.M.Run()
	if err := goleak.Find(); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}

type nodeKey struct{}

// TestScripts runs the command line against a fake node.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(env *testscript.Env) error {
			// A socket's path must be short; the scripts' directories are not.
			dir, err := os.MkdirTemp("", "purser")
			if err != nil {
				return err
			}
			env.Defer(func() { os.RemoveAll(dir) })
			env.Values[nodeKey{}] = startFakeNode(env.T().(testing.TB), dir)
			env.Setenv("PURSER_HOST", "unix://"+filepath.Join(dir, "purser.sock"))
			env.Setenv("TZ", "UTC")
			// The race detector sleeps for a second at the end of each command otherwise.
			env.Setenv("GORACE", "atexit_sleep_ms=0")
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": exitsCommand, "await": awaitCommand, "calls": callsCommand,
			"send": sendCommand, "called": calledCommand, "other": otherCommand, "hurried": hurriedCommand, "draining": drainingCommand,
		},
		RequireExplicitExec: false,
	})
}

func scriptNode(ts *testscript.TestScript) *fakeNode { return ts.Value(nodeKey{}).(*fakeNode) }

// exitsCommand: exits STATUS PROGRAM ARGS…
func exitsCommand(ts *testscript.TestScript, _ bool, args []string) {
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	err = ts.Exec(args[1], args[2:]...)
	got := 0
	if failed := (*exec.ExitError)(nil); errors.As(err, &failed) {
		got = failed.ExitCode()
	} else if err != nil {
		ts.Fatalf("%s: %v", args[1], err)
	}
	if got != want {
		ts.Fatalf("%s exits with %d, want %d", strings.Join(args[1:], " "), got, want)
	}
}

// awaitCommand: await STATE TEXT waits until a workload in that state has
// written the text.
func awaitCommand(ts *testscript.TestScript, _ bool, args []string) {
	n := scriptNode(ts)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	ts.Check(n.await(ctx, func() bool {
		for _, job := range n.jobs {
			wrote := strings.Builder{}
			for _, entry := range job.log {
				wrote.Write(entry.GetData())
			}
			if job.state == args[0] && strings.Contains(wrote.String(), args[1]) {
				return true
			}
		}
		return false
	}))
}

// sendCommand: send SIGNAL, to every command in the background.
func sendCommand(ts *testscript.TestScript, _ bool, args []string) {
	for _, cmd := range ts.BackgroundCmds() {
		ts.Check(cmd.Process.Signal(unix.SignalNum(args[0])))
	}
}

// otherCommand makes PURSER_HOST the address of a server that is no agent.
func otherCommand(ts *testscript.TestScript, _ bool, _ []string) {
	server := httptest.NewUnstartedServer(http.NotFoundHandler())
	server.Config.Protocols = new(http.Protocols)
	server.Config.Protocols.SetUnencryptedHTTP2(true)
	server.Config.Protocols.SetHTTP1(true)
	server.Start()
	ts.Defer(server.Close)
	ts.Setenv("PURSER_HOST", server.URL)
}

// calledCommand: called NAME waits until a call has been made.
func calledCommand(ts *testscript.TestScript, _ bool, args []string) {
	n := scriptNode(ts)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if n.await(ctx, func() bool { return slices.Contains(n.calls, "/purser.v1."+args[0]) }) != nil {
		ts.Fatalf("%s is not called", args[0])
	}
}

// drainingCommand: draining waits until the node drains.
func drainingCommand(ts *testscript.TestScript, _ bool, _ []string) {
	if !rig.ComesTrue(20*time.Second, func() bool { return scriptNode(ts).drain.state() != nil }) {
		ts.Fatalf("it does not drain")
	}
}

// hurriedCommand: hurried SECRET BOOL tells whether its newest version was set in a hurry.
func hurriedCommand(ts *testscript.TestScript, _ bool, args []string) {
	n := scriptNode(ts)
	n.mu.Lock()
	defer n.mu.Unlock()
	if got := n.secrets[defaultEnvironment+":"+args[0]].hurried; strconv.FormatBool(got) != args[1] {
		ts.Fatalf("secret %s was set in a hurry: %v", args[0], got)
	}
}

// callsCommand: calls NAME… compares the calls made since the last time.
func callsCommand(ts *testscript.TestScript, _ bool, want []string) {
	n := scriptNode(ts)
	n.mu.Lock()
	defer n.mu.Unlock()
	var got []string
	for _, procedure := range n.calls {
		got = append(got, strings.TrimPrefix(procedure, "/purser.v1."))
	}
	n.calls = nil
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		ts.Fatalf("calls: %v, want %v", got, want)
	}
}

// TestHelp walks all commands: each says what it does and shows how.
func TestHelp(t *testing.T) {
	var walk func(cmd *cobra.Command)
	walk = func(cmd *cobra.Command) {
		if cmd.Short == "" || cmd.Example == "" {
			t.Errorf("%s: needs a Short and an Example", cmd.CommandPath())
		}
		for line := range strings.Lines(cmd.Example) {
			if !strings.HasPrefix(line, "  ") || !strings.Contains(line, "purser ") {
				t.Errorf("%s: odd line in its example: %q", cmd.CommandPath(), line)
			}
		}
		if strings.HasSuffix(cmd.Short, ".") {
			t.Errorf("%s: Short ends with a full stop", cmd.CommandPath())
		}
		for _, sub := range cmd.Commands() {
			walk(sub)
		}
	}
	walk(newRoot(&session{}))
}
