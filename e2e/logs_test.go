package e2e

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/purserd/purser/e2e/rig"
)

// floodImage has a program that writes much.
func floodImage(t *testing.T) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), "flood")
	build := exec.Command("go", "build", "-trimpath", "-o", program, "./flood")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building the payload: %v\n%s", err, out)
	}
	content, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	return rig.Busybox(t, rig.Image{Ref: "localhost/flood:1", Files: map[string]string{"bin/flood": string(content)}})
}

// logHelper is the process ID of the node's log helper.
func (n *node) logHelper() int {
	n.t.Helper()
	found := rig.Processes(n.dir, "log-helper --dir")
	if len(found) != 1 {
		n.t.Fatalf("log helpers: %v", found)
	}
	return found[0]
}

// A container that writes much does not notice that its agent dies, and nothing of
// what it writes is lost; nor when the log helper dies.
func TestLogsOutliveTheAgent(t *testing.T) {
	n := emptyNodeWith(t, rig.V24, "[logs]\nsegment_size = '64Mi'\nsegments = 100\n")
	n.must("image", "import", floodImage(t))
	n.deploy(`
app: a
function: f
kind: job
image: {ref: localhost/flood:1}
command: [flood, -rate, "50", -for, 12s]
`)
	n.await("a/f", "running", inState("running"))
	end := n.drive()
	for i := range 10 {
		end()
		if i%4 == 3 {
			if err := syscall.Kill(n.logHelper(), syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
		}
		end = n.startAgent()
	}
	if w := n.get("a/f"); w.State != "running" {
		t.Errorf("the flood is over too early: %+v", w)
	}
	w := n.await("a/f", "completed", inState("completed"))
	lines, waited := n.flooded(w.LastExit.Instance)
	if waited > 3000 {
		t.Errorf("it had to wait for %d ms", waited)
	}
	t.Logf("%d lines, waited %d ms at most", lines, waited)
	if got := n.metric("purser_log_lost_bytes_total"); got != "0" {
		t.Errorf("%s bytes are lost", got)
	}
	end()
}

// A hundred containers write at once; nobody's lines are lost or another's.
func TestHundredWriters(t *testing.T) {
	n := emptyNodeWith(t, rig.V24, "[logs]\nsegments = 100\n")
	n.must("image", "import", floodImage(t))
	app := "app: a\ndefaults: {kind: job, image: {ref: localhost/flood:1}, stop: {grace: 0s}}\nfunctions:\n"
	for i := range 100 {
		app += fmt.Sprintf("  - {function: f%d, command: [flood, -rate, '0.5', -for, 5s]}\n", i)
	}
	n.deploy(app)
	longest := 0
	for i := range 100 {
		w := n.await(fmt.Sprintf("a/f%d", i), "completed", inState("completed"))
		_, waited := n.flooded(w.LastExit.Instance)
		longest = max(longest, waited)
	}
	t.Logf("nobody waited longer than %d ms", longest)
	if longest > 3000 {
		t.Errorf("somebody waited for %d ms", longest)
	}
}

// drive keeps purser dev from starting agents, each after a longer pause, and returns
// what kills the one that there is.
func (n *node) drive() (end func()) {
	n.t.Helper()
	agent := n.pidOf(n.t, "purser agent")
	if err := syscall.Kill(n.dev.Process.Pid, syscall.SIGSTOP); err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(n.letGo)
	return func() { _ = syscall.Kill(agent, syscall.SIGKILL) }
}

// letGo has purser dev start agents again.
func (n *node) letGo() {
	if n.dev != nil {
		_ = n.dev.Process.Signal(syscall.SIGCONT)
	}
}

// startAgent starts an agent in the place of one that was killed.
func (n *node) startAgent() (end func()) {
	n.t.Helper()
	agent := n.onNetwork(n.purser(), "agent", "--config", filepath.Join(n.dir, "agent.toml"))
	agent.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := agent.Start(); err != nil {
		n.t.Fatal(err)
	}
	end = sync.OnceFunc(func() {
		_ = agent.Process.Kill()
		_ = agent.Wait()
	})
	n.t.Cleanup(end)
	n.eventually("the agent", func() bool { return n.serves() })
	return end
}

// flooded checks that each line of a flood is in the log, once and in order, and
// returns what the program says of itself.
func (n *node) flooded(instance string) (lines, waited int) {
	n.t.Helper()
	var err error
	last := strings.TrimSpace(n.lastErrors(instance))
	if _, err = fmt.Sscanf(last, "%d lines, waited %d ms", &lines, &waited); err != nil {
		n.t.Fatalf("the end of its stderr is %q", last)
	}
	next, piece := 0, ""
	n.records(instance, "stdout", func(tag, data string) {
		piece += data
		if tag == "P" {
			return
		}
		got, err := strconv.Atoi(strings.SplitN(piece, " ", 2)[0])
		if err != nil || got != next || len(piece) != 100 {
			n.t.Fatalf("line %d is %q", next, piece)
		}
		next, piece = next+1, ""
	})
	if next != lines {
		n.t.Fatalf("%d lines are in the log of %d", next, lines)
	}
	return lines, waited
}

func (n *node) lastErrors(instance string) string {
	var all strings.Builder
	n.records(instance, "stderr", func(_, data string) { all.WriteString(data) })
	return all.String()
}

// records reads an instance's log files: with gigabytes of them, through the agent
// would take its time.
func (n *node) records(instance, stream string, each func(tag, data string)) {
	n.t.Helper()
	dir := filepath.Join(n.dir, "state", "logs", instance)
	for segment := 1; ; segment++ {
		f, err := os.Open(filepath.Join(dir, fmt.Sprintf("%d.log", segment)))
		if os.IsNotExist(err) && segment > 1 {
			return
		}
		if err != nil {
			n.t.Fatal(err)
		}
		scan := bufio.NewScanner(f)
		scan.Buffer(nil, 1<<20)
		for scan.Scan() {
			words := strings.SplitN(scan.Text(), " ", 4)
			if words[1] == stream {
				each(words[2], words[3])
			}
		}
		f.Close()
	}
}

// While no agent answers, logs are read from the files; also to their end.
func TestLogsWithoutAnAgent(t *testing.T) {
	t.Parallel()
	n := newNode(t, rig.V24)
	n.deploy(`
app: a
functions:
  - {function: f, image: {ref: `+image+`}, command: [sh, -c, "echo first of f; sleep 1; echo second of f; sleep 100000"], stop: {grace: 100ms}}
  - {function: g, image: {ref: `+image+`}, command: [sh, -c, "echo one of g >&2; sleep 100000"], stop: {grace: 100ms}}
`, "--wait")
	n.eventually("the output", func() bool {
		return strings.Contains(n.must("logs", "a/f"), "second") && n.run("logs", "a/g").stderr != ""
	})
	agent := n.pidOf(t, "purser agent")
	syscall.Kill(n.dev.Process.Pid, syscall.SIGSTOP) // so that it starts no other one
	defer syscall.Kill(n.dev.Process.Pid, syscall.SIGCONT)
	syscall.Kill(agent, syscall.SIGKILL)
	n.eventually("the agent to end", func() bool { return !n.serves() })
	if r := n.run("logs", "a/f"); r.code != 0 || r.stdout != "first of f\nsecond of f\n" || !strings.Contains(r.stderr, "reading the log files instead") {
		t.Errorf("logs of a function: %+v", r)
	}
	if r := n.run("logs", "-n", "1", "a/f"); r.stdout != "second of f\n" {
		t.Errorf("the last line: %+v", r)
	}
	if r := n.run("app", "logs", "a"); r.code != 0 || !strings.Contains(r.stdout, "a/f | first of f\n") || !strings.Contains(r.stderr, "a/g | one of g\n") {
		t.Errorf("logs of the app: %+v", r)
	}
	for _, args := range [][]string{{"logs", "a/nope"}, {"app", "logs", "-f", "a"}, {"logs", "-E", "prod", "a/f"}} {
		if r := n.run(args...); r.code != 1 || r.stdout != "" {
			t.Errorf("%v: %+v", args, r)
		}
	}
}

// What a function prints of its secrets shows nowhere: not in logs, nor where its
// output is followed, nor that of a command in it.
func TestOutputIsRedacted(t *testing.T) {
	const value, user = "value-Gh3kQ9zPw7LmX2", "user-name-7"
	onEach(t, func(t *testing.T, n *node) {
		n.must("secret", "set", "s", "--from-json", file(t, "s.json", `{"KEY": "`+value+`", "USER": "`+user+`"}`))
		n.deploy(`
app: a
function: f
image: {ref: `+image+`}
secrets: [{name: s, unredacted_keys: [USER]}]
stdin: true
command: [sh, -c, 'echo "$USER has $KEY"; echo -n "$KEY" | base64 >&2; while read x; do echo "$x $KEY"; done']
stop: {grace: 100ms}
`, "--wait")
		want := func(what, got, text string) {
			t.Helper()
			if got != text || strings.Contains(got, value) {
				t.Errorf("%s: got %q, want %q", what, got, text)
			}
		}
		n.eventually("the output", func() bool { return n.run("logs", "a/f").stderr != "" })
		r := n.run("logs", "a/f")
		want("logs", r.stdout, user+" has [secret:s/KEY]\n")
		want("logs of stderr", r.stderr, "[secret:s/KEY]\n")
		r = n.run("exec", "a/f", "--", "sh", "-c", `echo -n "${KEY%?????}"; sleep 0.2; echo "${KEY#???????????????}"; echo "is $KEY" >&2; exit 3`)
		if r.code != 3 || strings.Contains(r.stdout, value[:6]) || strings.Contains(r.stdout, value[15:]) {
			t.Errorf("exec: %+v", r)
		}
		want("exec's stderr", r.stderr, "is [secret:s/KEY]\n")
		r = n.run("exec", "a/f", "--", "sh", "-c", "printf 'Password: '; exec sleep 0.3")
		want("a prompt", r.stdout, "Password: ")
		r = n.runWith("hello\n", "attach", "-i", "a/f")
		want("attach", r.stdout, "hello [secret:s/KEY]\n")
		r = n.run("run", "--image", image, "--secret", "s", "--", "sh", "-c", `echo -n "$KEY"; echo "$KEY" | sed 's/./&\n/7' >&2`)
		want("run", r.stdout, "[secret:s/KEY]")
		if got, err := strconv.ParseFloat(n.metric("purser_redactions_total"), 64); err != nil || got < 6 {
			t.Errorf("%v redactions, %v", got, err)
		}
	})
}

// A log has many files, and who follows it does not see where one ends.
func TestLogsRotate(t *testing.T) {
	t.Parallel()
	n := emptyNodeWith(t, rig.V24, "[logs]\nsegment_size = '64Ki'\nsegments = 3\n")
	n.must("image", "import", boxImage(t))
	n.deploy(`
app: a
function: f
kind: job
image: {ref: `+image+`}
stdin: true
command: [sh, -c, "echo ready; read x; seq 1 40000; sleep 0.5; seq 40001 80000"]
`, "--wait")
	follow := n.command("logs", "-f", "a/f")
	out, err := follow.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var missed bytes.Buffer
	follow.Stderr = &missed
	if err := follow.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(out, make([]byte, len("ready\n"))); err != nil { // it follows
		t.Fatal(err)
	}
	n.runWith("go\n", "attach", "-i", "a/f")
	followed, _ := io.ReadAll(out)
	if err := follow.Wait(); err != nil {
		t.Errorf("following: %v", err)
	}
	// More is written than is kept: whoever reads slower is told.
	whole := bytes.HasPrefix(followed, []byte("1\n2\n3\n")) && bytes.Count(followed, []byte("\n")) == 80000
	if told := strings.Contains(missed.String(), "were removed before they were read"); !whole && !told || !bytes.HasSuffix(followed, []byte("\n79999\n80000\n")) {
		t.Errorf("followed %.20q…%q", followed, followed[max(0, len(followed)-20):])
	}
	kept := n.must("logs", "a/f")
	if !strings.HasSuffix(kept, "\n79999\n80000\n") || len(kept) > 3*64<<10 || len(kept) < 16<<10 {
		t.Errorf("%d bytes are kept, ending in %q", len(kept), kept[max(0, len(kept)-20):])
	}
	segments, _ := filepath.Glob(filepath.Join(n.dir, "state", "logs", "*", "*.log"))
	if len(segments) != 3 {
		t.Errorf("segments: %v", segments)
	}
}

// A full disk, and one that does not answer, take output but never stop who writes it.
func TestLogsOnABadDisk(t *testing.T) {
	t.Parallel()
	d := makeDisk(t, rig.V24)
	d.config = "[logs]\nsegment_size = '64Mi'\nsegments = 2\n"
	d.begin(t)
	d.deploy(`
app: a
function: f
image: {ref: `+image+`}
command: [sh, -c, 'i=0; while :; do echo "line $i, which is long enough to fill a disk"; i=$((i+1)); [ $((i % 200)) != 0 ] || sleep 0.02; done']
stop: {grace: 100ms}
`, "--wait")
	pid := d.get("a/f").pid()
	goesOn := func(when string) {
		t.Helper()
		// Its CPU time: a command in it would wait for the disk.
		used := func() int {
			stat, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
			user, _ := strconv.Atoi(strings.Fields(string(stat))[13])
			system, _ := strconv.Atoi(strings.Fields(string(stat))[14])
			return user + system
		}
		before := used()
		d.eventually("it to go on "+when, func() bool { return used() > before+10 })
	}
	lost := func() float64 {
		n, _ := strconv.ParseFloat(d.metric("purser_log_lost_bytes_total"), 64)
		return n
	}
	goesOn("at first")
	d.fill(t)
	d.eventually("output to be lost", func() bool { return lost() > 0 })
	goesOn("with a full disk")
	d.free(t)
	d.eventually("the log to tell", func() bool {
		return strings.Contains(d.must("logs", "--since", "10s", "a/f"), "bytes of output are lost here: no space left on device]")
	})

	before := lost()
	frozen := exec.Command("fsfreeze", "--freeze", d.mount)
	if out, err := frozen.CombinedOutput(); err != nil {
		t.Fatalf("freezing the disk: %v: %s", err, out)
	}
	thawed := false
	thaw := func() {
		if !thawed {
			thawed = true
			_ = exec.Command("fsfreeze", "--unfreeze", d.mount).Run()
		}
	}
	defer thaw()
	time.Sleep(5 * time.Second) // longer than it has to wait for the disk
	goesOn("with a disk that hangs")
	thaw()
	d.eventually("the loss to be counted", func() bool { return lost() > before })
	d.eventually("the log to tell", func() bool {
		return strings.Contains(d.must("logs", "--since", "30s", "a/f"), "the disk did not answer for 3s]")
	})
	if after := d.get("a/f"); after.pid() != pid || after.Restarts != 0 {
		t.Errorf("it was restarted: %+v", after)
	}
}
