package dev

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// said collects what the user is told.
type said struct {
	mu    sync.Mutex
	lines []string
}

func (s *said) say(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lines = append(s.lines, fmt.Sprintf(format, args...))
}

func TestChildIsStartedAgain(t *testing.T) {
	var out said
	starts := 0
	again := make(chan struct{}, 8)
	c := newChild("the child", func() *exec.Cmd {
		starts++ // by one goroutine alone
		if starts < 3 {
			return exec.Command("false")
		}
		return exec.Command("sleep", "1000")
	}, out.say)
	c.restarted = func() { again <- struct{}{} }
	c.start()
	if err := <-c.failed; err == nil || !strings.Contains(err.Error(), "exit status 1") {
		t.Errorf("first failure: %v", err)
	}
	<-again
	<-again
	c.end(syscall.SIGTERM)
	<-c.done
	if starts != 3 {
		t.Errorf("started %d times", starts)
	}
	if len(out.lines) != 2 || out.lines[0] != "the child ended (exit status 1); starting it again" {
		t.Errorf("said %q", out.lines)
	}
}

func TestChildThatCannotStart(t *testing.T) {
	var out said
	c := newChild("the child", func() *exec.Cmd { return exec.Command("/no/such/program") }, out.say)
	c.start()
	if err := <-c.failed; err == nil {
		t.Error("no failure")
	}
	c.end(syscall.SIGTERM) // while it waits for its next try
	<-c.done
}

func TestChildThatNeverStarted(t *testing.T) {
	c := newChild("the child", func() *exec.Cmd { panic("started") }, new(said).say)
	c.end(syscall.SIGTERM)
	c.end(syscall.SIGKILL)
	c.start()
	<-c.done
}

func TestChildLog(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.log")
	if err := os.WriteFile(path, []byte("last run\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var out said
	l, err := openLog(path, "x", out.say)
	if err != nil {
		t.Fatal(err)
	}
	lines := []string{
		`{"time":"2026-01-01T00:00:00Z","level":"INFO","msg":"serving"}`,
		`{"time":"2026-01-01T00:00:00Z","level":"ERROR","msg":"cannot store","error":"disk full","id":"a/b"}`,
		`{"time":"2026-01-01T00:00:01Z","level":"ERROR","msg":"cannot store","error":"disk full","id":"a/b"}`,
		`time="2026-01-01T00:00:00Z" level=info msg="containerd successfully booted"`,
		`time="2026-01-01T00:00:00Z" level=error msg="it said \"no\"" error="not found" id=x`,
		`time="2026-01-01T00:00:00Z" level=error msg="copy shim log" error="file already closed"`,
		`time="2026-01-01T00:00:00Z" level=warning msg="level=error is not an error here"`,
		``,
		`panic: oh`,
	}
	text := strings.Join(lines, "\n") + "\n" + strings.Repeat("trace\nmore\n", 30) + "no newline"
	for chunk := range slices.Chunk([]byte(text), 7) {
		if _, err := l.Write(chunk); err != nil {
			t.Fatal(err)
		}
	}
	l.Close()
	want := []string{"x: cannot store error=disk full id=a/b", `x: it said "no": not found`, "x: panic: oh", "x: trace", "x: more"}
	if len(out.lines) != 2+plainLines || !slices.Equal(out.lines[:5], want) {
		t.Errorf("said %q", out.lines)
	}
	kept, err := os.ReadFile(path)
	if err != nil || string(kept) != text {
		t.Errorf("the file has %q, %v", kept, err)
	}
	if old, err := os.ReadFile(path + ".old"); err != nil || string(old) != "last run\n" {
		t.Errorf("the last run's log: %q, %v", old, err)
	}
}

func FuzzSummary(f *testing.F) {
	for _, line := range []string{`{"level":"ERROR","msg":"x"}`, `level=error msg="a\"b" error=c`, `{`, ``, `level=`} {
		f.Add(line)
	}
	f.Fuzz(func(t *testing.T, line string) {
		if text, record := summary(line); text != "" && !record {
			t.Errorf("%q: a summary of what is no record: %q", line, text)
		}
	})
}
