package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/purserd/purser/e2e/rig"
)

const stubborn = `app: a
functions:
  - function: f
    image: {ref: ` + image + `}
    command: [sh, -c, "trap '' TERM; while :; do sleep 0.2; done"]
    stop: {grace: 2s}
`

// Two specs of one workload in a request would be two containers of it.
func TestOneSpecForAWorkload(t *testing.T) {
	t.Parallel()
	n := newNode(t, rig.V24)
	spec := `{"app":"a","function":"f","image":{"ref":"` + image + `"},"command":["sleep","1000"]}`
	other := strings.Replace(spec, `"function":"f"`, `"function":"g","id":"a/f"`, 1)
	for _, second := range []string{spec, other} {
		answer, status := n.post("Apps/Deploy", `{"app":"a","specs":[`+spec+`,`+second+`]}`)
		if status != "400" || !strings.Contains(answer, "specs[0] and specs[1]") {
			t.Errorf("answered %s: %s", status, answer)
		}
	}
	if left := n.containers(); len(left) != 0 {
		t.Errorf("containers: %v", left)
	}
}

// Who waits for a stop that somebody else takes back is told, and does not wait
// for ever.
func TestStopThatIsTakenBack(t *testing.T) {
	t.Parallel()
	n := newNode(t, rig.V24)
	n.deploy(stubborn, "--wait")
	stopped := make(chan result, 1)
	go func() { stopped <- n.run("stop", "a/f") }()
	n.await("a/f", "stopping", func(w workload) bool { return w.State == "stopping" })
	n.must("start", "a/f")
	if r := <-stopped; r.code == 0 || !strings.Contains(r.stderr, "wanted otherwise") {
		t.Errorf("stop says %+v", r)
	}
	n.await("a/f", "running anew", func(w workload) bool { return w.State == "running" })
}

// A node that stops takes nothing more on, and so comes to its end.
func TestNothingStartsWhileTheNodeStops(t *testing.T) {
	t.Parallel()
	n := newNode(t, rig.V24)
	n.deploy(stubborn, "--wait")
	done := make(chan struct{})
	go func() { defer close(done); n.stop() }()
	n.await("a/f", "stopping", func(w workload) bool { return w.State == "stopping" })
	if text := n.refused("restart", "a/f"); !strings.Contains(text, "the node is stopping") {
		t.Errorf("restart says %s", text)
	}
	n.refused("run", "--image", image, "--", "true")
	<-done
	n.start()
	n.await("a/f", "running again", func(w workload) bool { return w.State == "running" })
}

// What containers wrote is kept as long as somebody can ask for it.
func TestLogsDoNotPileUp(t *testing.T) {
	t.Parallel()
	n := emptyNodeWith(t, rig.V24, "[sweep]\nperiod = '1s'\n")
	n.must("image", "import", boxImage(t))
	files := func() []string {
		found, err := filepath.Glob(filepath.Join(n.dir, "state", "logs", "*"))
		if err != nil {
			t.Fatal(err)
		}
		return found
	}
	n.deploy(`app: a
functions:
  - {function: f, image: {ref: ` + image + `}, command: [/nope], restart: {backoff_min: 100ms, backoff_max: 100ms}}
  - {function: g, image: {ref: ` + image + `}, command: ["false"], restart: {backoff_min: 100ms, backoff_max: 100ms}}
`)
	n.await("a/g", "restarted often", func(w workload) bool { return w.Restarts >= 4 })
	// Of each the last, the one before and the one under way.
	if left := files(); len(left) > 6 {
		t.Errorf("%d logs of two workloads", len(left))
	}
	for _, id := range []string{"a/f", "a/g"} {
		n.must("rm", "-f", id)
	}
	n.eventually("all logs to be gone", func() bool { return len(files()) == 0 })

	stray := filepath.Join(n.dir, "state", "logs", "stray", "1.log")
	n.stop()
	if err := os.Mkdir(filepath.Dir(stray), 0o700); err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{stray: "", filepath.Join(filepath.Dir(stray), "about.json"): `{"workload": "a/f"}`} {
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	n.start()
	n.eventually("the log of a container that is gone to go", func() bool { return len(files()) == 0 })
}

// A spec that has a secret's value in it would keep it on disk in plain text.
func TestValueInASpec(t *testing.T) {
	t.Parallel()
	n := newNode(t, rig.V24)
	const value = "value-XcV73nQ0pLd9sJ2k"
	n.runWith(value, "secret", "set", "s", "KEY=-")
	n.runWith("another value", "secret", "set", "s", "KEY=-")
	for _, refs := range []string{"", "secrets: [{name: s, version: 1}], "} {
		path := file(t, "app.yaml", `app: a
functions:
  - {function: f, image: {ref: `+image+`}, `+refs+`env: {COPY: "x`+value+`"}, command: [sleep, "1000"]}
`)
		text := n.refused("deploy", path)
		if !strings.Contains(text, `env["COPY"]`) || !strings.Contains(text, "key KEY of secret s") || strings.Contains(text, value) {
			t.Errorf("deploy with %q says %s", refs, text)
		}
	}
	data, err := os.ReadFile(filepath.Join(n.dir, "state", "state.db"))
	if err != nil || strings.Contains(string(data), value) {
		t.Errorf("the value is in the database, %v", err)
	}
}

// Neither the command line nor the variables of an exec may have a secret's value:
// both are in a file for a moment. Purser's own variables are its own there, too.
func TestValueInAnExec(t *testing.T) {
	t.Parallel()
	n := newNode(t, rig.V24)
	const value = "value-XcV73nQ0pLd9sJ2k"
	n.runWith(value, "secret", "set", "s", "KEY=-")
	n.deploy(strings.ReplaceAll(sleeperWithSecret, "RUNTIME", "runc"), "--wait")
	for want, args := range map[string][]string{
		"command[1]":               {"a/f", "--", "echo", "x" + value},
		`env["COPY"]`:              {"-e", "COPY=" + value, "a/f", "--", "true"},
		"workdir":                  {"--workdir", "/" + value, "a/f", "--", "true"},
		"purser alone sets":        {"-e", "PURSER_APP=x", "a/f", "--", "true"},
		"must not start with PURS": {"-e", "PURSER_OCI_TOKEN=x", "a/f", "--", "true"},
	} {
		r := n.run(append([]string{"exec"}, args...)...)
		if r.code != 125 || !strings.Contains(r.stderr, want) || strings.Contains(r.stderr, value) {
			t.Errorf("exec %v: %+v", args, r)
		}
	}
	if events := n.must("events"); strings.Contains(events, value) || strings.Contains(events, " Exec ") {
		t.Errorf("events:\n%s", events)
	}
	n.must("exec", "a/f", "--", "sh", "-c", `test -n "$KEY"`)
}

// The process that reads a value makes no core, and is locked in memory.
func TestSecretSetKeepsOffDisks(t *testing.T) {
	t.Parallel()
	n := emptyNode(t, rig.V24)
	cmd := n.command("secret", "set", "s", "KEY=-")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	read := func(name string) string {
		data, _ := os.ReadFile(fmt.Sprintf("/proc/%d/%s", cmd.Process.Pid, name))
		return strings.Join(strings.Fields(string(data)), " ")
	}
	n.eventually("no core of more than a byte", func() bool {
		return regexp.MustCompile(`Max core file size [01] [01] bytes`).MatchString(read("limits"))
	})
	n.eventually("its memory to be locked", func() bool {
		return regexp.MustCompile(`VmLck: [1-9]`).MatchString(read("status"))
	})
	in.Write([]byte("value"))
	in.Close()
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
}
