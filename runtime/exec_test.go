package runtime_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/purserd/purser/e2e/rig"
	"github.com/purserd/purser/runtime"
)

func TestExec(t *testing.T) {
	eachVersion(t, func(t *testing.T, n *node) {
		n.start("e", spec("sleep", "1000"))
		t.Run("streams and status", func(t *testing.T) {
			code, out, stderr := n.exec(runtime.ExecSpec{
				Command: []string{"sh", "-c", "echo $GREETING $MORE; pwd; id -u; echo wrong >&2; exit 3"},
				Env:     map[string]string{"MORE": "world"}, Workdir: "/tmp", User: "app",
			})
			if code != 3 || out != "hello world\n/tmp\n1000\n" || stderr != "wrong\n" {
				t.Errorf("status %d, %q, %q", code, out, stderr)
			}
		})
		t.Run("environment replaced", func(t *testing.T) {
			_, out, _ := n.exec(runtime.ExecSpec{
				Command: []string{"sh", "-c", "env | grep -c GREETING; echo $GREETING"},
				Env:     map[string]string{"GREETING": "hi"},
			})
			if out != "1\nhi\n" {
				t.Errorf("got %q", out)
			}
		})
		t.Run("stdin to its end", func(t *testing.T) {
			data := strings.Repeat("0123456789abcdef", 1<<16)
			code, out, _ := n.exec(runtime.ExecSpec{Command: []string{"cat"}, Stdin: strings.NewReader(data)})
			if code != 0 || out != data {
				t.Errorf("status %d, %d bytes of %d", code, len(out), len(data))
			}
		})
		t.Run("without stdin", func(t *testing.T) {
			if code, out, _ := n.exec(runtime.ExecSpec{Command: []string{"cat"}}); code != 0 || out != "" {
				t.Errorf("status %d, %q", code, out)
			}
		})
		t.Run("children that stay", func(t *testing.T) {
			code, out, _ := n.exec(runtime.ExecSpec{Command: []string{"sh", "-c", "sleep 100 & echo done"}})
			if code != 0 || out != "done\n" {
				t.Errorf("status %d, %q", code, out)
			}
		})
		t.Run("signals", func(t *testing.T) { testExecSignals(t, n) })
		t.Run("not executable", func(t *testing.T) { testExecErrors(t, n) })
		t.Run("of no use", func(t *testing.T) {
			for want, e := range map[string]runtime.ExecSpec{
				"workdir /nope: is not in the container; make it there first": {Workdir: "/nope"},
				"workdir /etc/passwd: is no directory in the container":       {Workdir: "/etc/passwd"},
				`user "nobody-here": unable to find user nobody-here`:         {User: "nobody-here"},
			} {
				e.Command = []string{"true"}
				_, err := n.Exec(t.Context(), "e", e, io.Discard, io.Discard)
				if !errors.As(err, new(*runtime.SpecError)) || !strings.Contains(err.Error(), want) {
					t.Errorf("got  %v\nwant %s", err, want)
				}
			}
		})
		t.Run("cancelled", func(t *testing.T) { testExecCancelled(t, n) })
		t.Run("nothing left", func(t *testing.T) {
			left, err := os.ReadDir(n.cfg.RunDir + "/instances/e")
			for _, l := range left {
				if strings.HasPrefix(l.Name(), "exec-") {
					t.Errorf("left %s", l.Name())
				}
			}
			if err != nil {
				t.Error(err)
			}
		})
	})
}

// A command that runs before those of an earlier process are taken up is none of them.
func TestExecBeforeTheContainerIsTakenUp(t *testing.T) {
	eachVersion(t, func(t *testing.T, n *node) {
		n.start("e", spec("sleep", "1000"))
		if err := n.Close(); err != nil {
			t.Fatal(err)
		}
		n.open()
		left := n.runPath("instances", "e", "exec-zzz")
		if err := os.Mkdir(left, 0o700); err != nil {
			t.Fatal(err)
		}
		running, ended := make(notify, 1), make(chan error, 1)
		stdin, input := io.Pipe()
		defer input.Close()
		go func() {
			code, err := n.Exec(t.Context(), "e", runtime.ExecSpec{
				Command: []string{"sh", "-c", "echo here; read line; exit 7"}, Stdin: stdin,
			}, running, io.Discard)
			if err == nil && code != 7 {
				err = fmt.Errorf("status %d, want 7", code)
			}
			ended <- err
		}()
		<-running
		if err := n.OpenLogs(t.Context(), "e", n.known); err != nil {
			t.Fatal(err)
		}
		if !rig.ComesTrue(10*time.Second, func() bool { _, err := os.Stat(left); return os.IsNotExist(err) }) {
			t.Error("what an earlier process left is still there")
		}
		_, _ = input.Write([]byte("go on\n"))
		if err := <-ended; err != nil {
			t.Error(err)
		}
		n.delete("e")
		n.wantNothing()
	})
}

func (n *node) exec(e runtime.ExecSpec) (code uint32, stdout, stderr string) {
	n.t.Helper()
	var out, errs bytes.Buffer
	code, err := n.Exec(n.t.Context(), "e", e, &out, &errs)
	if err != nil {
		n.t.Fatal(err)
	}
	return code, out.String(), errs.String()
}

// notify is a writer that tells of its first write.
type notify chan struct{}

func (c notify) Write(p []byte) (int, error) {
	select {
	case c <- struct{}{}:
	default:
	}
	return len(p), nil
}

func testExecSignals(t *testing.T, n *node) {
	signals, ready := make(chan syscall.Signal), make(notify, 1)
	go func() {
		<-ready
		signals <- syscall.SIGUSR1
		close(signals)
	}()
	code, err := n.Exec(t.Context(), "e", runtime.ExecSpec{
		Command: []string{"sh", "-c", "trap 'exit 9' USR1; echo ready; while :; do sleep 0.05; done"}, Signals: signals,
	}, ready, io.Discard)
	if err != nil || code != 9 {
		t.Errorf("status %d, %v", code, err)
	}
}

func testExecErrors(t *testing.T, n *node) {
	for command, code := range map[string]uint32{"no-such-command": 127, "/no/such": 127, "/etc/passwd": 126} {
		_, err := n.Exec(t.Context(), "e", runtime.ExecSpec{Command: []string{command}}, io.Discard, io.Discard)
		var s *runtime.StartError
		if !errors.As(err, &s) || s.Code != code {
			t.Errorf("%s: %v", command, err)
		}
	}
	_, err := n.Exec(t.Context(), "nobody", runtime.ExecSpec{Command: []string{"true"}}, io.Discard, io.Discard)
	if !errors.Is(err, runtime.ErrNotFound) {
		t.Errorf("in no container: %v", err)
	}
	if _, err = n.Exec(t.Context(), "e", runtime.ExecSpec{Command: []string{"true"}, User: "stranger"}, io.Discard, io.Discard); err == nil {
		t.Error("as a user that is not there")
	}
}

func testExecCancelled(t *testing.T, n *node) {
	ctx, cancel := context.WithCancel(t.Context())
	ready := make(notify, 1)
	go func() {
		<-ready
		cancel()
	}()
	_, err := n.Exec(ctx, "e", runtime.ExecSpec{
		Command: []string{"sh", "-c", "echo ready; sleep 4242; echo never"},
	}, ready, io.Discard)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if _, out, _ := n.exec(runtime.ExecSpec{Command: []string{"ps", "-o", "args"}}); strings.Contains(out, "4242") {
		t.Errorf("left running:\n%s", out)
	}
}

func TestStdin(t *testing.T) {
	eachVersion(t, func(t *testing.T, n *node) {
		s := spec("sh", "-c", "cat; echo end")
		s.Stdin = new(true)
		n.start("i", s)
		if _, err := n.Stdin("nobody"); !errors.Is(err, runtime.ErrNotFound) {
			t.Errorf("stdin of nobody: %v", err)
		}
		first, err := n.Stdin("i")
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintln(first, "one")
		n.await("i", "one")
		second, err := n.Stdin("i") // one client goes, another comes
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintln(second, "two")
		if err := second.End(); err != nil {
			t.Error(err)
		}
		if exit := n.wait("i"); exit.Code != 0 {
			t.Errorf("status %d", exit.Code)
		}
		n.delete("i")
		if out, _ := n.output("i"); out != "one\ntwo\nend\n" {
			t.Errorf("got %q", out)
		}
		if _, err := first.Write([]byte("x")); err == nil {
			t.Error("wrote to what has ended")
		}
	})
}
