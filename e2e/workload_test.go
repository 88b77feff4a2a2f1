package e2e

import (
	"bufio"
	"encoding/json"
	"strings"
	"testing"
	"time"
)

func TestServiceIsKeptRunning(t *testing.T) {
	onEach(t, func(t *testing.T, n *node) {
		app := file(t, "app.yaml", `
app: a
functions:
  - function: f
    image: {ref: `+image+`}
    command: [sh, -c, 'echo up; sleep 0.3; exit 5']
    restart: {backoff_min: 100ms, backoff_max: 300ms}
`)
		if text := n.refused("deploy", app, "--wait"); !strings.Contains(text, "a/f is backing_off: exited with status 5") {
			t.Errorf("waiting for a service that ends: %s", text)
		}
		w := n.await("a/f", "restarted thrice", func(w workload) bool { return w.Restarts >= 3 })
		if w.LastExit.Code != 5 {
			t.Errorf("last exit %+v", w.LastExit)
		}
		if out := n.must("logs", "--previous", "a/f"); out != "up\n" {
			t.Errorf("the previous instance wrote %q", out)
		}
		out := n.must("stop", "a/f")
		if w := n.get("a/f"); w.State != "stopped" || w.pid() != 0 {
			t.Errorf("after stop: %+v, %s", w, out)
		}
		n.must("start", "a/f")
		n.await("a/f", "running", inState("running"))
		n.must("rm", "a/f")
		if text := n.refused("get", "a/f"); !strings.Contains(text, "a/f") {
			t.Errorf("get after rm: %s", text)
		}
		n.eventually("the container to be gone", func() bool { return len(n.containers()) == 0 })
	})
}

// A container that ignores the stop signal is killed once its grace is over.
func TestStopGrace(t *testing.T) {
	onEach(t, func(t *testing.T, n *node) {
		n.deploy(`
app: a
functions:
  - function: deaf
    image: {ref: `+image+`}
    command: [sh, -c, 'trap "" TERM; while :; do sleep 0.1; done']
    stop: {grace: 1s}
  - function: polite
    image: {ref: `+image+`}
    command: [sh, -c, 'trap "echo bye; exit 0" USR1; while :; do sleep 0.1; done']
    stop: {signal: SIGUSR1, grace: 20s}
`, "--wait")
		began := time.Now()
		n.must("stop", "a/polite")
		if took := time.Since(began); took > 10*time.Second {
			t.Errorf("a polite stop took %v", took)
		}
		if w := n.get("a/polite"); w.LastExit.Code != 0 {
			t.Errorf("polite: %+v", w.LastExit)
		}
		began = time.Now()
		n.must("stop", "a/deaf")
		if took := time.Since(began); took < time.Second {
			t.Errorf("it was killed after %v, its grace is 1s", took)
		}
		if w := n.get("a/deaf"); w.LastExit.Code != 137 {
			t.Errorf("deaf: %+v", w.LastExit)
		}
	})
}

func TestJobs(t *testing.T) {
	onEach(t, func(t *testing.T, n *node) {
		job := func(function, more string) string {
			return "app: a\nfunction: " + function + "\nkind: job\nimage: {ref: " + image + "}\n" + more
		}
		n.deploy(job("retry", "command: [sh, -c, 'echo try; exit 3']\nretries: 2\n"))
		n.deploy(job("slow", "command: [sleep, '1000']\ntimeout: 1s\nstop: {grace: 200ms}\n"))
		n.deploy(job("brief", "command: ['true']\nttl_after_finished: 500ms\n"))
		n.deploy(job("good", "command: [sh, -c, 'exit 0']\n"), "--wait")

		r := n.run("wait", "a/retry")
		if w := n.get("a/retry"); w.State != "failed" || w.LastExit.Code != 3 || w.Restarts != 2 {
			t.Errorf("retry: %+v (%s%s)", w, r.stdout, r.stderr)
		}
		w := n.await("a/slow", "failed", inState("failed"))
		if !strings.Contains(w.Reason, "timed out after 1s") {
			t.Errorf("slow: %s", w.Reason)
		}
		n.eventually("brief to be forgotten", func() bool { return !n.knows("a/brief") })

		// The same spec again is the same job, and has its result.
		before := n.await("a/good", "completed", inState("completed"))
		n.deploy(job("good", "command: [sh, -c, 'exit 0']\n"))
		if w := n.get("a/good"); w.State != "completed" || w.LastExit.Instance != before.LastExit.Instance {
			t.Errorf("good ran twice: %+v", w)
		}
		n.deploy(job("good", "command: [sh, -c, 'exit 1']\n"))
		if w := n.await("a/good", "failed", inState("failed")); w.Generation != "2" {
			t.Errorf("changed: %+v", w)
		}
	})
}

func TestLogs(t *testing.T) {
	onOne(t, func(t *testing.T, n *node) {
		n.deploy(`
app: a
functions:
  - function: f
    image: {ref: ` + image + `}
    command: [sh, -c, 'echo one; echo two >&2; sleep 0.3; echo three; exec sleep 1000']
    restart: {policy: never}
    stop: {grace: 0s}
  - function: g
    image: {ref: ` + image + `}
    command: [sh, -c, 'while :; do echo tick; sleep 0.2; done']
    stop: {grace: 0s}
`)
		n.eventually("the output", func() bool {
			r := n.run("logs", "a/f")
			return r.stdout == "one\nthree\n" && r.stderr == "two\n"
		})
		if out := n.must("logs", "--tail", "1", "a/f"); out != "three\n" {
			t.Errorf("--tail 1: %q", out)
		}
		if out := n.must("logs", "--since", "1ms", "a/f"); out != "" {
			t.Errorf("--since 1ms: %q", out)
		}
		if r := n.run("app", "logs", "a"); !strings.Contains(r.stdout, "tick") || !strings.Contains(r.stdout+r.stderr, "one") {
			t.Errorf("app logs: %q", r.stdout)
		}

		cmd := n.command("logs", "-f", "--tail", "0", "a/g")
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		scan := bufio.NewScanner(out)
		for range 5 {
			if !scan.Scan() || scan.Text() != "tick" {
				t.Fatalf("followed %q, %v", scan.Text(), scan.Err())
			}
		}
		n.must("stop", "a/g")
		for scan.Scan() {
		}
		if err := cmd.Wait(); err != nil {
			t.Errorf("logs -f after the end: %v", err)
		}
	})
}

func TestExec(t *testing.T) {
	onEach(t, func(t *testing.T, n *node) {
		n.deploySleeper()
		exec := func(stdin string, args ...string) result {
			return n.runWith(stdin, append([]string{"exec"}, args...)...)
		}
		if r := exec("", "a/f", "--", "sh", "-c", "echo $KEY $FROM_IMAGE; echo err >&2; exit 6"); r.stdout != "one image\n" || r.stderr != "err\n" || r.code != 6 {
			t.Errorf("got %+v", r)
		}
		if r := exec("input", "-i", "a/f", "--", "cat"); r.stdout != "input" || r.code != 0 {
			t.Errorf("stdin: %+v", r)
		}
		if r := exec("", "a/f", "--", "nothing-of-that-name"); r.code != 127 {
			t.Errorf("not found: %+v", r)
		}
		if r := exec("", "a/f", "--", "/etc/passwd"); r.code != 126 {
			t.Errorf("not executable: %+v", r)
		}
		if r := exec("", "--workdir", "/none", "a/f", "--", "true"); r.code == 0 || r.code == 127 || !strings.Contains(r.stderr, "/none") {
			t.Errorf("no such directory: %+v", r)
		}
		if r := exec("", "a/none", "--", "true"); r.code == 0 || !strings.Contains(r.stderr, "a/none") {
			t.Errorf("no such workload: %+v", r)
		}
	})
}

// A spec that changes replaces the container; one that does not leaves it alone.
func TestUpdateAndHistory(t *testing.T) {
	onOne(t, func(t *testing.T, n *node) {
		first := n.deploySleeper()
		n.deploy(sleeper)
		if w := n.get("a/f"); w.pid() != first.pid() {
			t.Error("an unchanged file restarted the container")
		}
		n.runWith("two", "secret", "set", "s", "KEY=-")
		if w := n.get("a/f"); w.pid() != first.pid() {
			t.Error("a new version of a secret restarted the container")
		}
		changed := strings.Replace(sleeper, "grace: 1s", "grace: 2s", 1) +
			"  - {function: g, image: {ref: " + image + "}, command: [sleep, '1000'], stop: {grace: 0s}}\n"
		dry := n.deploy(changed, "--dry-run", "-o", "json")
		if !strings.Contains(dry, `"update"`) || !strings.Contains(dry, `"create"`) {
			t.Errorf("dry run: %s", dry)
		}
		if w := n.get("a/f"); w.Generation != "1" {
			t.Error("a dry run changed something")
		}
		n.deploy(changed, "--wait")
		second := n.get("a/f")
		if second.Generation != "2" || second.pid() == first.pid() || second.Pins[0].Version != 2 {
			t.Errorf("after the change: %+v", second)
		}
		n.must("app", "rollback", "a")
		n.await("a/f", "back on version 1", func(w workload) bool {
			return w.State == "running" && w.Generation == "3" && w.Pins[0].Version == 1 && w.pid() != second.pid()
		})
		n.eventually("g to be removed", func() bool { return !n.knows("a/g") })
		if out := n.must("app", "history", "a"); !strings.Contains(out, "rollback to 1") {
			t.Errorf("history: %s", out)
		}
		n.must("restart", "--secrets", "a/f")
		n.await("a/f", "on version 2", func(w workload) bool { return w.State == "running" && w.Pins[0].Version == 2 })
		// One that is still being removed is waited for.
		n.deploy(changed+"  - {function: h, image: {ref: "+image+"}, command: [sleep, '1000'], stop: {grace: 2s}}\n", "--wait")
		n.deploy(changed)
		n.must("app", "rollback", "a")
		n.await("a/h", "running again", inState("running"))
		n.must("app", "stop", "a")
		if w := n.get("a/f"); w.State != "stopped" {
			t.Errorf("after app stop: %s", w.State)
		}
		if text := n.refused("app", "rm", "a"); !strings.Contains(text, "has functions: a/f, a/g, a/h; to stop and remove them, too: purser app rm -f -E dev a") {
			t.Errorf("removing an app with a function: %s", text)
		}
		n.must("app", "rm", "-f", "a")
		if out := n.must("app", "list") + n.must("ps", "-a"); strings.Contains(out, "a ") || strings.Contains(out, "a/f") {
			t.Errorf("after app rm: %s", out)
		}
		if text := n.refused("app", "rm", "a"); !strings.Contains(text, "no app a has been deployed") {
			t.Errorf("removing an app that is gone: %s", text)
		}
	})
}

func TestWatch(t *testing.T) {
	onOne(t, func(t *testing.T, n *node) {
		watch := curl(t, n, "Workloads/Watch", "{}")
		n.deploySleeper()
		n.must("rm", "a/f")
		var states []string
		for message := range watch {
			var m struct {
				Type     string
				Workload struct{ State string }
			}
			if err := json.Unmarshal(message, &m); err != nil {
				t.Fatalf("%v in %s", err, message)
			}
			states = append(states, strings.TrimSpace(m.Type+" "+m.Workload.State))
			if m.Type == "removed" {
				break
			}
		}
		all := strings.Join(states, ", ")
		for _, want := range []string{"synced", "updated creating", "updated running", "updated stopping"} {
			if !strings.Contains(all, want) {
				t.Errorf("%s is not among %s", want, all)
			}
		}
	})
}
