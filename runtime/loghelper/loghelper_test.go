package loghelper

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	purserv1 "github.com/purserd/purser/api/purser/v1"
	"github.com/purserd/purser/inject"
	"github.com/purserd/purser/runtime/companion"
	"github.com/purserd/purser/runtime/logs"
	"github.com/purserd/purser/runtime/peer"
)

// TestMain is other processes, too: the helper, and one that writes to the journal.
func TestMain(m *testing.M) {
	Main()
	if len(os.Args) > 1 && os.Args[1] == inJournal {
		sendToJournal()
		os.Exit(0)
	}
	// The race detector has every process sleep for a second at its end.
	os.Setenv("GORACE", "atexit_sleep_ms=0")
	goleak.VerifyTestMain(m)
}

// node is an agent's side of a helper.
type node struct {
	*Client
	t        *testing.T
	dir      string
	restarts atomic.Int32
	store    *logs.Store
	command  string
}

func newNode(t *testing.T) *node {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	n := &node{t: t, dir: t.TempDir(), command: self}
	if n.store, err = logs.Open(filepath.Join(n.dir, "logs")); err != nil {
		t.Fatal(err)
	}
	n.open()
	t.Cleanup(func() {
		n.Close()
		n.store.Close()
		n.awaitNone()
	})
	return n
}

// open is the start of an agent.
func (n *node) open() {
	n.t.Helper()
	dir := filepath.Join(n.dir, "helper")
	c, err := Start(Options{Options: companion.Options{
		Dir: dir, Command: []string{n.command, "log-helper"}, Heartbeat: heartbeat,
		Log:       slog.New(slog.NewTextHandler(n.t.Output(), nil)),
		Restarted: func() { n.restarts.Add(1) },
	}})
	if err != nil {
		n.t.Fatal(err)
	}
	n.Client = c
}

// heartbeat is longer than it takes on a busy machine.
const heartbeat = 2 * time.Second

// pid is the helper's.
func (n *node) pid() int {
	n.t.Helper()
	pid, err := n.serving()
	if err != nil {
		n.t.Fatal(err)
	}
	return pid
}

// serving is the process that serves now.
func (n *node) serving() (int, error) {
	conn, err := net.Dial("unix", filepath.Join(n.dir, "helper", socketFile))
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	who, err := peer.Credentials(conn.(*net.UnixConn))
	if err != nil {
		return 0, err
	}
	return int(who.Pid), nil
}

// awaitNone waits until no helper has the directory.
func (n *node) awaitNone() {
	n.t.Helper()
	lock, err := companion.Lock(filepath.Join(n.dir, "helper"))
	if err != nil {
		n.t.Fatal(err)
	}
	lock.Close()
}

// container is one, as its shim sees it: it holds both ends of the FIFOs.
type container struct {
	n              *node
	name           string
	stdout, stderr *os.File
}

func (n *node) container(name string, values inject.Redactions) *container {
	n.t.Helper()
	c := &container{n: n, name: name}
	spec := Spec{
		Instance: name, LogDir: filepath.Join(n.dir, "logs"), Limits: logs.Limits{Size: 1 << 20, Segments: 100},
		Stdout: filepath.Join(n.dir, name+".out"), Stderr: filepath.Join(n.dir, name+".err"),
	}
	for _, path := range []string{spec.Stdout, spec.Stderr} {
		if err := unix.Mkfifo(path, 0o600); err != nil {
			n.t.Fatal(err)
		}
	}
	if err := n.Open(n.t.Context(), spec, values); err != nil {
		n.t.Fatal(err)
	}
	c.stdout, c.stderr = openShim(n.t, spec.Stdout), openShim(n.t, spec.Stderr)
	return c
}

func openShim(t *testing.T, path string) *os.File {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// exit is the end of the container's processes and of its shim.
func (c *container) exit() {
	c.stdout.Close()
	c.stderr.Close()
	if err := c.n.End(c.n.t.Context(), c.name, 500*time.Millisecond); err != nil {
		c.n.t.Error(err)
	}
}

// output is what is in the log, to its end.
func (c *container) output(stream logs.Stream) string {
	c.n.t.Helper()
	var all bytes.Buffer
	for e, err := range c.n.store.Read(c.n.t.Context(), c.name, logs.ReadOptions{Tail: -1, Follow: true}) {
		if err != nil {
			c.n.t.Fatal(err)
		}
		if e.Stream == stream {
			all.Write(e.Data)
		}
	}
	return all.String()
}

// await waits until the log holds a text.
func (c *container) await(text string) {
	c.n.t.Helper()
	c.awaitFor(10*time.Second, text)
}

func (c *container) awaitFor(limit time.Duration, text string) {
	c.n.t.Helper()
	ctx, cancel := context.WithTimeout(c.n.t.Context(), limit)
	defer cancel()
	var all bytes.Buffer
	for e, err := range c.n.store.Read(ctx, c.name, logs.ReadOptions{Tail: -1, Follow: true}) {
		if err != nil {
			c.n.t.Fatalf("%v; there is %q", err, all.String())
		}
		if all.Write(e.Data); strings.Contains(all.String(), text) {
			return
		}
	}
	c.n.t.Fatalf("the log ended: %q", all.String())
}

const value = "correct-horse-battery-staple"

// secret resolves to one value.
func secret(t *testing.T, value string) inject.Redactions {
	t.Helper()
	r, err := inject.Resolve(t.Context(), source(value), inject.Request{
		Environment: "dev", Refs: []*purserv1.SecretRef{{Name: new("s")}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return r.Redactions()
}

type source string

func (s source) Get(context.Context, string, string, uint32) (*inject.Secret, error) {
	return &inject.Secret{Version: 1, Data: map[string]inject.Value{"K": inject.NewValue([]byte(s))}}, nil
}

func TestOutputIsStoredRedacted(t *testing.T) {
	n := newNode(t)
	c := n.container("a", secret(t, value))
	fmt.Fprintf(c.stdout, "it is %s\n", value)
	fmt.Fprint(c.stderr, "prompt> ")
	c.await("prompt> ")
	fmt.Fprint(c.stdout, value[:10])
	c.await("[partial]") // nobody waits for the rest
	fmt.Fprintln(c.stdout, value[10:])
	c.exit()
	if got := c.output(logs.Stdout); strings.Contains(got, value[10:]) || !strings.HasPrefix(got, "it is [secret:s/K]\n[partial]") {
		t.Errorf("stdout %q", got)
	}
	if got := c.output(logs.Stderr); got != "prompt> " {
		t.Errorf("stderr %q", got)
	}
	if got := n.Counters(); got.Redactions == 0 || got.LostBytes != 0 {
		t.Errorf("%+v", got)
	}
	if err := n.End(t.Context(), "a", time.Second); err != nil {
		t.Fatal(err)
	}
	left, err := filepath.Glob(filepath.Join(n.dir, "helper", instancesDir, "*"))
	if len(left) > 0 || err != nil {
		t.Errorf("left: %v, %v", left, err)
	}
}

// A value that is added while the container runs is not stored from then on, nor is
// one of before; also by a helper that has been started since.
func TestValuesAreAdded(t *testing.T) {
	n := newNode(t)
	c := n.container("a", secret(t, "an older value"))
	say := func(want string) {
		t.Helper()
		fmt.Fprintln(c.stdout, "an older value, a newer value")
		c.await(want)
	}
	say("[secret:s/K], a newer value\n")
	if err := n.Redact(t.Context(), "a", secret(t, "a newer value")); err != nil {
		t.Fatal(err)
	}
	say("[secret:s/K], [secret:s/K]\n")
	before := n.pid()
	if err := syscall.Kill(before, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if err := n.Resume(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	say("[secret:s/K], [secret:s/K]\n[secret:s/K], [secret:s/K]\n")
	c.exit()
	if err := n.Redact(t.Context(), "a", secret(t, "too late")); err != nil {
		t.Errorf("of what has ended: %v", err)
	}
}

// A helper that is killed at any moment loses nothing, and stores nothing twice.
func TestKilledHelper(t *testing.T) {
	n := newNode(t)
	c := n.container("a", secret(t, value))
	const lines = 40000
	want := func(i int) string { return fmt.Sprintf("%d [secret:s/K] and more\n", i) }
	write := func(to *os.File) {
		var batch []byte
		for i := range lines {
			batch = fmt.Appendf(batch, "%d %s and more\n", i, value)
			if i%7 == 0 || i == lines-1 {
				if _, err := to.Write(batch); err != nil {
					t.Error(err)
				}
				batch = batch[:0]
			}
		}
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		both := make(chan struct{})
		go func() { defer close(both); write(c.stderr) }()
		write(c.stdout)
		<-both
	}()
	kills := 0
	for running := true; running; {
		select {
		case <-done:
			running = false
		case <-time.After(30 * time.Millisecond):
			if pid, err := n.serving(); err == nil && syscall.Kill(pid, syscall.SIGKILL) == nil {
				kills++
			}
		}
	}
	c.exit()
	for _, stream := range []logs.Stream{logs.Stdout, logs.Stderr} {
		got := strings.SplitAfter(c.output(stream), "\n")
		for i := range lines {
			if i >= len(got) || got[i] != want(i) {
				t.Fatalf("%s: line %d of %d is %.100q", stream, i, len(got), got[min(i, len(got)-1)])
			}
		}
		if len(got) != lines+1 {
			t.Errorf("%s: %d lines", stream, len(got)-1)
		}
	}
	if kills < 3 || n.restarts.Load() == 0 {
		t.Errorf("%d kills, %d restarts", kills, n.restarts.Load())
	}
	t.Logf("%d kills", kills)
}

// While no agent is there the helper reads on, and the next agent finds it.
func TestAgentGone(t *testing.T) {
	n := newNode(t)
	c := n.container("a", inject.Redactions{})
	before := n.pid()
	n.Close()
	big := strings.Repeat("x", 1<<20) + "\n"
	if _, err := io.WriteString(c.stdout, big); err != nil {
		t.Fatal(err)
	}
	n.open()
	if n.pid() != before {
		t.Error("another helper serves")
	}
	if err := n.Resume(t.Context(), "a"); err != nil {
		t.Error(err)
	}
	c.exit()
	if got := c.output(logs.Stdout); got != big {
		t.Errorf("%d bytes", len(got))
	}
	if err := n.Drain(t.Context(), "a", time.Second); err != nil {
		t.Error(err)
	}
	if err := n.Resume(t.Context(), "never"); err == nil || !strings.Contains(err.Error(), ErrUnknown.Error()) {
		t.Errorf("resumed what nobody knows: %v", err)
	}
}

// An agent of another executable replaces the helper, which leaves everything to the
// next one.
func TestUpgrade(t *testing.T) {
	n := newNode(t)
	c := n.container("a", secret(t, value))
	fmt.Fprintf(c.stdout, "one\n%s", value[:10])
	c.await("[partial]")
	before := n.pid()
	n.Close()
	content, err := os.ReadFile(n.command)
	if err != nil {
		t.Fatal(err)
	}
	n.command = filepath.Join(n.dir, "other")
	if err := os.WriteFile(n.command, content, 0o700); err != nil {
		t.Fatal(err)
	}
	n.open()
	if n.pid() == before {
		t.Error("the helper is still the old one")
	}
	fmt.Fprintf(c.stdout, "%s\ntwo\n", value[10:])
	c.exit()
	got := c.output(logs.Stdout)
	if !strings.HasPrefix(got, "one\n[partial]") || !strings.HasSuffix(got, "\ntwo\n") || strings.Contains(got, value[11:]) {
		t.Errorf("got %q", got)
	}
	if n.restarts.Load() != 0 {
		t.Errorf("an upgrade counts as a death")
	}
}

// What a container left running cannot keep its log open.
func TestEndOfWhatIsHeldOpen(t *testing.T) {
	n := newNode(t)
	c := n.container("a", inject.Redactions{})
	fmt.Fprintln(c.stdout, "last words")
	if err := n.End(t.Context(), "a", 100*time.Millisecond); err != nil {
		t.Fatal(err)
	}
	if got := c.output(logs.Stdout); got != "last words\n" {
		t.Errorf("got %q", got)
	}
	c.exit()
}

// stop returns once none of a helper's threads runs any more: until then it may
// answer.
func stop(t *testing.T, pid int) {
	t.Helper()
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	for {
		err := unix.Waitid(unix.P_PID, pid, nil, unix.WSTOPPED, nil)
		if err == nil {
			return
		}
		if !errors.Is(err, unix.EINTR) {
			t.Fatal(err)
		}
	}
}

// A helper that does not answer is killed, and the next one goes on.
func TestHelperThatHangs(t *testing.T) {
	n := newNode(t)
	c := n.container("a", secret(t, value))
	before := n.pid()
	stop(t, before)
	fmt.Fprintln(c.stdout, "while it hangs")
	c.awaitFor(10*heartbeat, "while it hangs")
	if err := n.Resume(t.Context(), "a"); err != nil { // by the next one
		t.Error(err)
	}
	if n.pid() == before || n.restarts.Load() != 1 {
		t.Errorf("%d restarts", n.restarts.Load())
	}
	c.exit()
}

// An agent that comes while the helper hangs does not wait for it.
func TestAgentComesWhileTheHelperHangs(t *testing.T) {
	n := newNode(t)
	c := n.container("a", secret(t, value))
	before := n.pid()
	n.Close()
	stop(t, before)
	n.open()
	if n.pid() == before {
		t.Error("the helper that hangs is used")
	}
	fmt.Fprintln(c.stdout, "goes on")
	c.exit()
	if got := c.output(logs.Stdout); got != "goes on\n" {
		t.Errorf("got %q", got)
	}
}

// Without the values nobody knows what must not be stored.
func TestValuesAreGone(t *testing.T) {
	n := newNode(t)
	c := n.container("a", secret(t, value))
	if err := os.Remove(filesOf(filepath.Join(n.dir, "helper"), "a").values()); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(n.pid(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	fmt.Fprintln(c.stdout, value)
	c.exit()
	if got := c.output(logs.Stdout); !strings.HasPrefix(got, "[purser: 29 bytes of output are lost here: the secrets") {
		t.Errorf("got %q", got)
	}
	if n.Counters().LostBytes != 29 {
		t.Errorf("%+v", n.Counters())
	}
}

// A damaged spec is as good as none, for an agent that knows what it was.
func TestSpecIsDamaged(t *testing.T) {
	n := newNode(t)
	c := n.container("a", secret(t, value))
	path := filesOf(filepath.Join(n.dir, "helper"), "a").spec()
	spec, err := filesOf(filepath.Join(n.dir, "helper"), "a").read()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("garbage"), 0o600); err != nil {
		t.Fatal(err)
	}
	before := n.pid()
	if err := syscall.Kill(before, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	for err = nil; err == nil; err = n.Resume(t.Context(), "a") {
	}
	if !errors.Is(err, ErrUnknown) {
		t.Fatalf("resumed: %v", err)
	}
	// The rest of what nobody knows the beginning of is not stored.
	spec.Middle = true
	if err := n.Open(t.Context(), spec, secret(t, value)); err != nil {
		t.Fatal(err)
	}
	fmt.Fprintln(c.stdout, value[10:])
	fmt.Fprintln(c.stdout, strings.Repeat("x", longestHold))
	fmt.Fprintln(c.stdout, "known again, as "+value)
	c.exit()
	if got := c.output(logs.Stdout); strings.Contains(got, value[10:]) || !strings.HasSuffix(got, "known again, as [secret:s/K]\n") {
		t.Errorf("got %q", got)
	}
}

// hang keeps the turn, as a disk that does not answer does.
func (i *instance) hang() (answer func()) {
	<-i.turn
	i.hangs.Store(true)
	return func() {
		i.hangs.Store(false)
		i.release()
	}
}

// The rest of a value, of which the beginning was dropped while the disk hung, is not
// stored: not by the helper, nor by one that comes after it was killed at any moment.
func TestDropsInTheMiddleOfAValue(t *testing.T) {
	for _, killed := range []string{"never", "while it hangs", "after the next batch"} {
		t.Run(killed, func(t *testing.T) {
			dir := t.TempDir()
			f := filesOf(dir, "a")
			if err := os.MkdirAll(f.dir, 0o700); err != nil {
				t.Fatal(err)
			}
			spec := Spec{Instance: "a", LogDir: filepath.Join(dir, "logs"), Stdout: filepath.Join(dir, "out")}
			if err := unix.Mkfifo(spec.Stdout, 0o600); err != nil {
				t.Fatal(err)
			}
			out := openShim(t, spec.Stdout)
			defer out.Close()
			counted, err := openCounters(dir)
			if err != nil {
				t.Fatal(err)
			}
			values := &compilation{compile: secret(t, value).Matcher}
			helper := func() *stream {
				i, err := openInstance(f, spec, values, counted)
				if err != nil {
					t.Fatal(err)
				}
				return i.streams[0]
			}
			say := func(s *stream, text string) {
				t.Helper()
				fmt.Fprint(out, text)
				if err := s.batch(s.take); err != nil {
					t.Fatal(err)
				}
			}
			end := func(s *stream) { // as a kill does, but for what a process has
				close(s.ended)
				s.instance.how = leaving
				s.instance.finish()
			}
			s := helper()
			say(s, "before ")
			answer := s.instance.hang()
			say(s, "x "+value[:10])
			if killed == "while it hangs" {
				answer()
				end(s)
				s = helper()
			} else {
				answer()
			}
			say(s, value[10:13])
			if killed == "after the next batch" {
				end(s)
				s = helper()
			}
			say(s, value[13:]+"\n")
			say(s, strings.Repeat("y", longestHold)+" after\n")
			end(s)
			store, err := logs.Open(spec.LogDir)
			if err != nil {
				t.Fatal(err)
			}
			var got bytes.Buffer
			for e, err := range store.Read(t.Context(), "a", logs.ReadOptions{Tail: -1}) {
				if err != nil {
					t.Fatal(err)
				}
				got.Write(e.Data)
			}
			if n := strings.Count(got.String(), "bytes of output are lost here"); n == 0 || n > 2 {
				t.Errorf("what was dropped is told of %d times: %q", n, got.String())
			}
			if strings.Contains(got.String(), value[16:]) || !strings.HasPrefix(got.String(), "before ") || !strings.HasSuffix(got.String(), " after\n") {
				t.Errorf("got %q", got.String())
			}
		})
	}
}
