package e2e

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/purserd/purser/e2e/rig"
)

// watcher is a `purser deploy --watch` at work.
type watcher struct {
	n    *node
	path string
	cmd  *exec.Cmd
	done chan error

	mu  sync.Mutex
	out bytes.Buffer
	// seen is how much of out has been asked for.
	seen int
}

func (w *watcher) Write(data []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.out.Write(data)
}

// watch deploys a file and watches it.
func (n *node) watch(path, content string, more ...string) *watcher {
	n.t.Helper()
	w := &watcher{n: n, path: path, done: make(chan error, 1)}
	w.write(content)
	w.cmd = n.command(append([]string{"deploy", path, "--watch"}, more...)...)
	w.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	w.cmd.Stdout, w.cmd.Stderr = w, w
	if err := w.cmd.Start(); err != nil {
		n.t.Fatal(err)
	}
	go func() { w.done <- w.cmd.Wait() }()
	n.t.Cleanup(func() { w.cmd.Process.Kill() })
	return w
}

func (w *watcher) write(content string) {
	w.n.t.Helper()
	if err := os.WriteFile(w.path, []byte(content), 0o600); err != nil {
		w.n.t.Fatal(err)
	}
}

// replace saves as many programs do: a new file is renamed over the old one.
func (w *watcher) replace(content string) {
	w.n.t.Helper()
	if err := os.WriteFile(w.path+".tmp", []byte(content), 0o600); err != nil {
		w.n.t.Fatal(err)
	}
	if err := os.Rename(w.path+".tmp", w.path); err != nil {
		w.n.t.Fatal(err)
	}
}

// text is all that was printed.
func (w *watcher) text() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.out.String()
}

// prints waits for texts, in whatever order, behind what was waited for before.
func (w *watcher) prints(wants ...string) {
	w.n.t.Helper()
	deadline := time.Now().Add(patience)
	for {
		text := w.text()[w.seen:]
		end, missing := 0, ""
		for _, want := range wants {
			i := strings.Index(text, want)
			if i < 0 {
				missing = want
				break
			}
			end = max(end, i+len(want))
		}
		if missing == "" {
			w.seen += end
			return
		}
		if time.Now().After(deadline) {
			w.n.t.Fatalf("it does not print %q:\n%s\nbehind what was seen:\n%s", missing, w.text(), text)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// interrupt ends it as Ctrl-C does.
func (w *watcher) interrupt() {
	w.n.t.Helper()
	w.cmd.Process.Signal(syscall.SIGINT)
	select {
	case err := <-w.done:
		if err != nil {
			w.n.t.Errorf("interrupted, it ends with %v", err)
		}
	case <-time.After(patience):
		w.n.t.Fatal("interrupted, it does not end")
	}
}

// counting is an app of a function that writes a word and numbers.
func counting(word string, more ...string) string {
	return fmt.Sprintf(`app: a
functions:
- function: f
  image: {ref: %s}
  env: {WORD: %s}
  stop: {grace: 0s}
  command: [sh, -c, 'i=0; while :; do echo $WORD-$i; i=$((i+1)); sleep 0.05; done']
%s`, image, word, strings.Join(more, ""))
}

const second = "- {function: second, image: {ref: " + image + "}, command: [sh, -c, 'echo on stderr >&2; exec sleep 100000'], stop: {grace: 0s}}\n"

// A file is deployed whenever it is saved, however that is done, and what its
// functions write is printed all the while.
func TestDeployWatch(t *testing.T) {
	t.Parallel()
	n := newNode(t, rig.V24)
	path := filepath.Join(t.TempDir(), "app.yaml")
	w := n.watch(path, counting("one"))
	w.prints("watching "+path, "revision 1 of a in dev\n  created a/f\n", "f : running\n", "f | one-0\n", "f | one-5\n")

	w.write(counting("two"))
	w.prints("revision 2 of a in dev\n  updated a/f\n    env.WORD: one → two\n", "f | two-0\n")
	w.replace(counting("three", second))
	w.prints("created a/second\n", "env.WORD: two → three", "f      | three-0\n", "second | on stderr\n", "second : running\n")

	// As vim saves, with its other files.
	for _, noise := range []string{".app.yaml.swp", "4913", "app.yaml~"} {
		os.WriteFile(filepath.Join(filepath.Dir(path), noise), []byte("app: x\n"), 0o600)
		os.Remove(filepath.Join(filepath.Dir(path), noise))
	}
	os.Rename(path, path+"~")
	w.write(counting("four"))
	os.Remove(path + "~")
	w.prints("removed a/second\n", "second : removed\n", "f      | four-0\n")

	// Mistakes are printed, and what runs goes on.
	before := n.get("a/f")
	w.write(counting("five") + "  comand: [x]\n")
	w.prints("app.yaml:8:3: functions[0].comand: is no field here; did you mean command?", "what was deployed before runs on; waiting for "+path+" to be saved")
	w.write("app: [\n")
	w.prints("the file has 1 mistake", "waiting for")
	w.write(counting("five", "  secrets: [{name: none}]\n"))
	w.prints("secret none", "trying again")
	w.write(strings.Replace(counting("five"), image, "localhost/none:1", 1))
	w.prints("localhost/none:1", "is not on this node", "trying again")
	if after := n.get("a/f"); after.pid() != before.pid() {
		t.Errorf("wrong files changed what runs: %+v, then %+v", before, after)
	}
	w.replace(counting("six"))
	w.prints("env.WORD: four → six", "f      | six-0\n")

	// Gone and back.
	os.Remove(path)
	w.prints("is gone; what was deployed runs on")
	w.write(counting("six"))
	w.prints("nothing to change")
	os.Remove(path)
	w.prints("is gone")
	w.write(counting("seven"))
	w.prints("f      | seven-0\n")

	w.interrupt()
	if !strings.HasSuffix(w.text(), "not watching any more; app a in dev runs on; to stop it: purser app stop -E dev a\n") {
		t.Errorf("it ends with:\n%s", tail(w.text(), 3))
	}
	if got := n.get("a/f"); got.State != "running" {
		t.Errorf("afterwards the function is %+v", got)
	}
	n.must("app", "stop", "-E", "dev", "a")
	w.countsUp(t)
}

// countsUp looks for a line that was printed twice, or not at all.
func (w *watcher) countsUp(t *testing.T) {
	t.Helper()
	next := map[string]int{}
	for line := range strings.Lines(w.text()) {
		name, text, _ := strings.Cut(strings.TrimSpace(line), " | ")
		word, number, counts := strings.Cut(text, "-")
		if strings.TrimSpace(name) != "f" || !counts {
			continue
		}
		if number == "0" {
			next[word] = 0
		}
		if number != fmt.Sprint(next[word]) {
			t.Errorf("%q is printed, and %d is next", line, next[word])
		}
		next[word]++
	}
}

// The agent may end and come back: no line is lost, none printed twice, and the
// file that was saved meanwhile is deployed.
func TestDeployWatchOutlastsTheAgent(t *testing.T) {
	onOne(t, func(t *testing.T, n *node) {
		w := n.watch(filepath.Join(t.TempDir(), "app.yaml"), counting("one"))
		w.prints("f | one-0\n")
		pid := n.get("a/f").pid()
		for range 3 {
			w.prints("f | one-")
			agent := n.pidOf(t, "purser agent")
			syscall.Kill(agent, syscall.SIGKILL)
			n.eventually("a new agent", func() bool { return !alive(agent) && n.serves() })
			w.seen = len(w.text())
			w.prints("f | one-")
		}
		if got := n.get("a/f").pid(); got != pid {
			t.Errorf("process %d became %d", pid, got)
		}
		agent := n.pidOf(t, "purser agent")
		syscall.Kill(agent, syscall.SIGSTOP) // so that no other starts yet
		w.write(counting("two"))
		syscall.Kill(agent, syscall.SIGKILL)
		w.prints("env.WORD: one → two", "f | two-0\n", "f | two-9\n")
		w.interrupt()
		w.countsUp(t)
	})
}

// What a watch finds running is not printed again from its beginning; a single spec
// touches nothing else; jobs that end and crashes are told of.
func TestDeployWatchOfOne(t *testing.T) {
	t.Parallel()
	n := newNode(t, rig.V24)
	n.deploy(counting("other"), "--wait")
	path := filepath.Join(t.TempDir(), "one.yaml")
	one := func(script string) string {
		return "app: a\nfunction: one\nimage: {ref: " + image + "}\nrestart: {policy: on_failure, backoff_min: 100s, backoff_max: 100s}\nstop: {grace: 0s}\ncommand: [sh, -c, '" + script + "']\n"
	}
	w := n.watch(path, one("echo begun; exec sleep 100000"))
	w.prints("created a/one\n", "one | begun\n")
	w.interrupt()
	if text := w.text(); strings.Contains(text, "other") || !strings.Contains(text, "a/one in dev runs on; to stop it: purser stop -E dev a/one\n") {
		t.Errorf("it printed\n%s", text)
	}
	w = n.watch(path, one("echo begun; exec sleep 100000"))
	w.prints("revision ", "nothing to change\n", "one : running\n")
	w.write(one("printf unfinished; exit 3"))
	w.prints("one : failed: exited with status 3", "generation 2 failed, and generation 1 is in force again", "one | unfinished")
	w.write(one("echo finished"))
	w.prints("one | finished\n", "one : completed")
	w.write(one("echo finished again"))
	w.prints("one | finished again\n", "one : completed")
	n.must("restart", "a/one")
	w.prints("one | finished again\n")
	// Of another app, from then on.
	w.write(strings.NewReplacer("app: a", "app: b\nenvironment: prod").Replace(one("echo elsewhere; exec sleep 100000")))
	w.prints("a/one in dev runs on; to stop it: purser stop -E dev a/one; the file is of b/one in prod now", "one | elsewhere\n")
	n.must("restart", "a/one")
	n.must("restart", "-E", "prod", "b/one")
	w.prints("one | elsewhere\n")
	w.write("app: ")
	w.prints("waiting for")
	w.interrupt()
	if text := w.text(); strings.Contains(text, "| begun") || strings.Count(text, "| finished again\n") != 2 {
		t.Errorf("it printed\n%s", text)
	}
	if r := n.run("deploy", filepath.Join(t.TempDir(), "none.yaml"), "--watch"); r.code != 1 || !strings.Contains(r.stderr, "no such file") {
		t.Errorf("without a file: %+v", r)
	}
	cmd := n.command("deploy", path, "--watch", "--host", "unix:///nowhere.sock")
	w.write(one("true"))
	if r := finish(t, cmd); r.code != 1 || !strings.Contains(r.stderr, "nowhere.sock") {
		t.Errorf("without a node: %+v", r)
	}
}

// A file on the far side of links that are swapped, as Kubernetes delivers them.
func TestDeployWatchOfLinks(t *testing.T) {
	t.Parallel()
	n := newNode(t, rig.V24)
	dir := t.TempDir()
	version := func(name, content string) {
		t.Helper()
		if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name, "app.yaml"), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(name, filepath.Join(dir, "..tmp")); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(filepath.Join(dir, "..tmp"), filepath.Join(dir, "..data")); err != nil {
			t.Fatal(err)
		}
	}
	version("..1", counting("one"))
	path := filepath.Join(dir, "app.yaml")
	if err := os.Symlink("..data/app.yaml", path); err != nil {
		t.Fatal(err)
	}
	w := n.watch(path, counting("one"))
	w.prints("f | one-0\n")
	version("..2", counting("two"))
	os.RemoveAll(filepath.Join(dir, "..1"))
	w.prints("one → two", "f | two-0\n")
	version("..3", counting("three"))
	w.prints("two → three", "f | three-0\n")
	w.interrupt()
}

// A file that lacks a secret is deployed once that is set, without another save.
func TestDeployWatchWaitsForASecret(t *testing.T) {
	t.Parallel()
	n := newNode(t, rig.V24)
	path := filepath.Join(t.TempDir(), "app.yaml")
	w := n.watch(path, strings.ReplaceAll(sleeperWithSecret, "RUNTIME", "runc"))
	w.prints("make it with: purser secret set -E dev s KEY=-", "nothing is deployed yet; trying again until it can be")
	n.runWith("one", "secret", "set", "s", "KEY=-")
	w.prints("created a/f")
	w.mu.Lock()
	defer w.mu.Unlock()
	if got := strings.Count(w.out.String(), "make it with"); got != 1 {
		t.Errorf("what is lacking was told %d times", got)
	}
}
