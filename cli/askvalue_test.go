package cli

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/purserd/purser/e2e/rig"
)

// asked runs a purser that asks for a value on a terminal, types keys, and returns
// the node, what the terminal showed, and the status, once it was told. The terminal is as it was.
func asked(t *testing.T, keys, told string) (n *fakeNode, shown string, code int) {
	t.Helper()
	dir, err := os.MkdirTemp("", "purser")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	n = startFakeNode(t, dir)
	term := rig.OpenTerminal(t, 24, 80)
	before := term.Modes()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, "purser", "secret", "set", "db", "PASSWORD=-")
	cmd.Env = append(os.Environ(), "PURSER_HOST=unix://"+filepath.Join(dir, "purser.sock"), "GORACE=atexit_sleep_ms=0")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = term.Line, term.Line, term.Line
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	term.Await("value of PASSWORD: ", 1)
	term.Type(keys)
	_ = cmd.Wait()
	term.Await("\n", 1)
	term.Await(told, 1)
	if term.Modes() != before {
		t.Error("the terminal is not what it was")
	}
	return n, term.Shown(), cmd.ProcessState.ExitCode()
}

// A value that is typed ends with its line, and is not shown.
func TestValueIsAskedFor(t *testing.T) {
	n, shown, code := asked(t, "hunter2 \n", "secret db in dev (a new environment): version 1 (keys PASSWORD)")
	if code != 0 || strings.Contains(shown, "hunter2") {
		t.Errorf("status %d, %q", code, shown)
	}
	if got := n.secrets["dev:db"]; got == nil || string(got.newest()["PASSWORD"]) != "hunter2 " {
		t.Errorf("set: %v", got)
	}
}

func TestNoValueIsTyped(t *testing.T) {
	for name, tc := range map[string]struct {
		keys string
		code int
		text string
	}{
		"enter":     {"\n", exitFailed, "reading the value of PASSWORD: nothing was typed"},
		"ctrl-d":    {"\x04", exitFailed, "reading the value of PASSWORD: nothing was typed"},
		"ctrl-c":    {"hunter2\x03", exitSignalled + 2, "value of PASSWORD: "},
		"cut short": {strings.Repeat("hunter2 ", 1000) + "\n", exitFailed, "too long to be typed"},
	} {
		n, shown, code := asked(t, tc.keys, tc.text)
		if code != tc.code || strings.Contains(shown, "hunter2") || len(n.secrets) > 0 {
			t.Errorf("%s: status %d, %q", name, code, shown)
		}
	}
}
