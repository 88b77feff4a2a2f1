package e2e

import (
	"encoding/base64"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"
)

// moody is what functions run whose health is their key's: with bad it exits at once, with
// slow it is never ready, with brief it is ready for a moment.
const moody = `
    command: [sh, -c, 'case "$KEY$(cat /run/secrets/s/KEY 2>/dev/null)" in bad*) exit 7;; slow*) sleep 1000;; brief*) touch /tmp/ok; sleep 0.5; exit 8;; esac; touch /tmp/ok; trap "exit 0" TERM; trap "touch /tmp/hup" HUP; while :; do sleep 0.1; done']
    probes: {ready: {exec: {command: [cat, /tmp/ok]}, period: 100ms}}
    restart: {backoff_max: 1s}
    stop: {grace: 5s}
    network: {mode: none}
`

// functions makes an app of functions that use secret s, each with what is different in it.
func functions(app string, each map[string]string) string {
	text := "app: " + app + "\nfunctions:\n"
	for name, more := range each {
		if !strings.Contains(more, "secrets:") {
			more += "\n    secrets: [{name: s, keys: {KEY: KEY}}]"
		}
		text += "  - function: " + name + "\n    image: {ref: " + image + "}" + moody + "    " + strings.TrimSpace(more) + "\n"
	}
	return text
}

// value is a key as a workload's container has it.
func (n *node) value(id string) string {
	n.t.Helper()
	return strings.TrimSpace(n.must("exec", id, "--", "sh", "-c", "echo $KEY; cat /run/secrets/s/KEY 2>/dev/null || true"))
}

// moved says whether a workload is on a version and at rest.
func moved(version int) func(workload) bool {
	return func(w workload) bool {
		return w.State == "ready" && len(w.Instances) == 1 && w.Rotation.State == "current" && w.Pins[0].Version == version
	}
}

// stayed says whether a workload is on a version, at rest, and may not have what is newer.
func stayed(version int) func(workload) bool {
	return func(w workload) bool {
		return w.State == "ready" && len(w.Instances) == 1 && w.Rotation.State == "held" && w.Pins[0].Version == version
	}
}

// rotationOf says whether a workload stands so.
func rotationOf(state string) func(workload) bool {
	return func(w workload) bool { return w.Rotation.State == state }
}

func (n *node) event(kind string) {
	n.t.Helper()
	n.eventually("an event "+kind, func() bool { return strings.Contains(n.must("events"), kind) })
}

// A new value reaches those who use it, each in its way; others are left alone.
func TestRotation(t *testing.T) {
	onEach(t, func(t *testing.T, n *node) {
		n.must("secret", "set", "s", "KEY=one", "OTHER=1")
		n.must("secret", "set", "other", "KEY=x")
		n.deploy(functions("a", map[string]string{
			"rolls":    "rotation: {min_ready: 200ms}",
			"restarts": "rotation: {strategy: restart}",
			"waits":    "rotation: {strategy: manual}",
			"fixed":    "secrets: [{name: s, version: 1, keys: {KEY: KEY}}]",
			"without":  "secrets: [{name: other}]",
			"all":      "secrets: [{name: s}]",
			"ignores":  "secrets: [{name: s, keys: {KEY: KEY}, on_change: ignore}]",
		}), "--wait")
		pids := map[string]int{}
		for _, f := range []string{"rolls", "restarts", "waits", "fixed", "without", "all", "ignores"} {
			pids[f] = n.await("a/"+f, "ready", inState("ready")).pid()
		}
		same := func(fs ...string) {
			t.Helper()
			for _, f := range fs {
				if pid := n.get("a/" + f).pid(); pid != pids[f] {
					t.Errorf("%s was process %d and is %d", f, pids[f], pid)
				}
			}
		}
		// An unused key is nobody's concern but of who takes all.
		n.must("secret", "set", "s", "OTHER=2")
		n.await("a/all", "moved", moved(2))
		same("rolls", "restarts", "waits", "fixed", "without", "ignores")
		n.must("secret", "set", "s", "KEY=two")
		for _, f := range []string{"rolls", "restarts", "all"} {
			if w := n.await("a/"+f, "moved", moved(3)); w.pid() == pids[f] || n.value("a/"+f) != "two" {
				t.Errorf("%s: %+v, on %q", f, w, n.value("a/"+f))
			}
		}
		n.await("a/waits", "stale", rotationOf("stale"))
		same("waits", "fixed", "without", "ignores")
		n.must("restart", "--secrets", "a/waits")
		if n.await("a/waits", "moved", moved(3)); n.value("a/waits") != "two" {
			t.Errorf("after a restart it is on %q", n.value("a/waits"))
		}
		for _, kind := range []string{"RotationBegun", "Rotated", "RotationStale"} {
			n.event(kind)
		}
		// Nobody is moved by an agent that starts.
		pids["rolls"], pids["restarts"], pids["all"] = n.get("a/rolls").pid(), n.get("a/restarts").pid(), n.get("a/all").pid()
		n.killAgent()
		n.await("a/rolls", "current", rotationOf("current"))
		<-time.After(2 * time.Second)
		same("rolls", "restarts", "fixed", "without", "all", "ignores")
		// What changed while there was no agent is made up for.
		n.must("secret", "rollback", "s", "1")
		for _, f := range []string{"rolls", "restarts"} {
			if n.await("a/"+f, "moved", moved(4)); n.value("a/"+f) != "one" {
				t.Errorf("%s is on %q", f, n.value("a/"+f))
			}
		}
	})
}

// A version with which an instance fails takes nothing away: one has tried, all others have
// noticed nothing.
func TestBadVersion(t *testing.T) {
	onEach(t, func(t *testing.T, n *node) {
		n.must("secret", "set", "s", "KEY=good")
		each := map[string]string{}
		for i := range 10 {
			each[fmt.Sprintf("f%02d", i)] = "rotation: {min_ready: 1s, health_timeout: 3s}"
		}
		n.deploy(functions("a", each), "--wait")
		pids := map[string]int{}
		for f := range each {
			pids[f] = n.await("a/"+f, "ready", inState("ready")).pid()
		}
		for i, value := range []string{"bad", "slow", "brief"} {
			n.must("secret", "set", "s", "KEY="+value)
			version := i + 2
			n.eventually(value+" is quarantined", func() bool {
				return strings.Contains(n.must("secret", "versions", "s"), "quarantined") &&
					strings.Count(n.must("secret", "versions", "s"), "quarantined") == version-1
			})
			n.eventually("all is as it was", func() bool {
				for f, pid := range pids {
					w := n.get("a/" + f)
					if w.State != "ready" || len(w.Instances) != 1 || w.pid() != pid || w.Pins[0].Version != 1 {
						return false
					}
				}
				return true
			})
		}
		events := n.must("events")
		for _, kind := range []string{"BackedOut", "SecretQuarantined"} {
			if strings.Count(events, kind) != 3 {
				t.Errorf("not three events %s:\n%s", kind, events)
			}
		}
		// A launch does not get it either.
		n.deploy(functions("b", map[string]string{"new": ""}), "--wait")
		if w := n.get("b/new"); w.Pins[0].Version != 1 {
			t.Errorf("a new workload is on %+v", w.Pins)
		}
	})
}

// The strategy restart goes back, too.
func TestBadVersionWithRestart(t *testing.T) {
	onEach(t, func(t *testing.T, n *node) {
		n.must("secret", "set", "s", "KEY=good")
		n.deploy(functions("a", map[string]string{"f": "rotation: {strategy: restart, min_ready: 500ms}", "g": "rotation: {strategy: restart, min_ready: 500ms}"}), "--wait")
		g := n.await("a/g", "ready", inState("ready"))
		n.await("a/f", "healthy", moved(1))
		n.must("secret", "set", "s", "KEY=bad")
		n.event("SecretQuarantined")
		f := n.await("a/f", "as before", stayed(1))
		if n.value("a/f") != "good" || n.get("a/g").pid() != g.pid() {
			t.Errorf("f is on %q; g was %d and is %d", n.value("a/f"), g.pid(), n.get("a/g").pid())
		}
		// It is tried again on request, and once more that is for nothing.
		n.must("secret", "retry", "s")
		n.eventually("another one", func() bool { return strings.Count(n.must("events"), "SecretQuarantined") == 2 })
		n.await("a/f", "as before", stayed(1))
		n.must("secret", "set", "s", "KEY=better")
		n.await("a/f", "moved", moved(3))
		n.await("a/g", "moved", moved(3))
		_ = f
	})
}

// Files are replaced under a process that goes on.
func TestRotationOfFiles(t *testing.T) {
	onEach(t, func(t *testing.T, n *node) {
		n.must("secret", "set", "s", "KEY=one")
		file := "env: false, file: {path: /run/secrets/s}"
		n.deploy(functions("a", map[string]string{
			"refreshed": "secrets: [{name: s, " + file + "}]\n    rotation: {min_ready: 200ms}",
			"signalled": "secrets: [{name: s, " + file + ", on_change: signal}]\n    rotation: {min_ready: 200ms}",
		}), "--wait")
		pids := map[string]int{}
		for _, f := range []string{"refreshed", "signalled"} {
			pids[f] = n.await("a/"+f, "ready", inState("ready")).pid()
		}
		check := func(version int, value string) {
			t.Helper()
			for f, pid := range pids {
				w := n.await("a/"+f, "moved", moved(version))
				if w.pid() != pid || n.value("a/"+f) != value {
					t.Errorf("%s was process %d and is %d, on %q, want %q", f, pid, w.pid(), n.value("a/"+f), value)
				}
			}
		}
		n.must("secret", "set", "s", "KEY=two")
		check(2, "two")
		got := func(f string) bool {
			_, err := os.Stat(fmt.Sprintf("/proc/%d/root/tmp/hup", pids[f]))
			return err == nil
		}
		if !got("signalled") || got("refreshed") {
			t.Errorf("signalled: %t, refreshed: %t", got("signalled"), got("refreshed"))
		}
		n.killAgent()
		n.must("secret", "set", "s", "KEY=three")
		check(3, "three")
		// They come back on what they have.
		n.must("restart", "a/refreshed")
		pids["refreshed"] = n.await("a/refreshed", "another process", func(w workload) bool { return moved(3)(w) && w.pid() != pids["refreshed"] }).pid()
		check(3, "three")
	})
}

// What holds, and what lets go.
func TestHold(t *testing.T) {
	onEach(t, func(t *testing.T, n *node) {
		n.must("secret", "set", "s", "KEY=one")
		n.deploy(functions("a", map[string]string{"f": "rotation: {min_ready: 200ms}"}), "--wait")
		first := n.await("a/f", "ready", inState("ready"))
		n.must("secret", "hold", "s")
		n.must("secret", "set", "s", "KEY=two")
		<-time.After(2 * time.Second)
		if w := n.get("a/f"); w.pid() != first.pid() {
			t.Fatalf("it has moved: %+v", w)
		}
		if shown := n.must("secret", "versions", "s"); !strings.Contains(shown, "held") {
			t.Errorf("not held:\n%s", shown)
		}
		n.must("secret", "release", "s")
		n.await("a/f", "moved", moved(2))
	})
}

// Many updates in a moment are one restart.
func TestBurst(t *testing.T) {
	onEach(t, func(t *testing.T, n *node) {
		n.must("secret", "set", "s", "KEY=0")
		n.deploy(functions("a", map[string]string{"f": "rotation: {min_ready: 200ms}"}), "--wait")
		n.await("a/f", "ready", inState("ready"))
		began := time.Now()
		var all sync.WaitGroup
		for i := range 100 {
			all.Go(func() {
				n.post("Secrets/Put", fmt.Sprintf(`{"name":"s","data":{"KEY":"%s"}}`, base64Of(fmt.Sprintf("v%d", i))))
			})
		}
		all.Wait()
		// On a slow disk they take longer than changes are waited for.
		most := 1 + int(time.Since(began)/(10*time.Second))
		n.await("a/f", "moved", moved(101))
		if begun := strings.Count(n.must("events"), "RotationBegun"); begun > most {
			t.Errorf("it has moved %d times, not %d", begun, most)
		}
	})
}

// An agent that dies at any moment of a rotation is followed by one that brings it to its
// end.
func TestAgentIsKilledInARotation(t *testing.T) {
	onEach(t, func(t *testing.T, n *node) {
		n.must("secret", "set", "s", "KEY=v1")
		n.deploy(functions("a", map[string]string{"f": "rotation: {min_ready: 1s}", "g": "rotation: {min_ready: 1s}"}), "--wait")
		n.await("a/f", "ready", inState("ready"))
		n.await("a/g", "ready", inState("ready"))
		n.must("secret", "set", "s", "KEY=v2")
		n.await("a/f", "goes first", func(w workload) bool { return w.Rotation.State == "rotating" && len(w.Instances) == 2 })
		n.killAgent()
		f := n.await("a/f", "moved", moved(2))
		n.killAgent()
		n.await("a/g", "moved", moved(2))
		if w := n.get("a/f"); w.pid() != f.pid() {
			t.Errorf("it was process %d and is %d", f.pid(), w.pid())
		}
		// Of a bad one, too.
		n.must("secret", "set", "s", "KEY=bad")
		n.eventually("it is tried", func() bool { return strings.Count(n.must("events"), "RotationBegun") > 0 })
		n.killAgent()
		n.eventually("it is quarantined", func() bool { return strings.Contains(n.must("secret", "versions", "s"), "quarantined") })
		if w := n.await("a/f", "as before", stayed(2)); w.pid() != f.pid() {
			t.Errorf("it was process %d and is %d", f.pid(), w.pid())
		}
	})
}

// A job is left to finish, and its next attempt has the latest.
func TestRotationOfAJob(t *testing.T) {
	onEach(t, func(t *testing.T, n *node) {
		n.must("secret", "set", "s", "KEY=one")
		n.deploy(`
app: a
functions:
  - function: j
    kind: job
    image: {ref: ` + image + `}
    command: [sh, -c, 'echo "ran on $KEY"; while ! cat /tmp/go 2>/dev/null; do sleep 0.1; done; test $KEY = two']
    secrets: [{name: s, redact: false}]
    retries: 3
    network: {mode: none}
`)
		w := n.await("a/j", "runs", inState("running"))
		n.must("secret", "set", "s", "KEY=two")
		<-time.After(2 * time.Second)
		if now := n.get("a/j"); now.pid() != w.pid() {
			t.Fatalf("it was process %d and is %d", w.pid(), now.pid())
		}
		letGo(t, w)
		w = n.await("a/j", "runs again", func(now workload) bool { return now.State == "running" && now.pid() != w.pid() })
		letGo(t, w)
		n.await("a/j", "completed", inState("completed"))
	})
}

func base64Of(text string) string { return base64.StdEncoding.EncodeToString([]byte(text)) }

// careful is a function that looks at its file: it is not ready with a bad one, and what is
// told of it by a signal ends.
func careful(name, onChange string) string {
	return `
  - function: ` + name + `
    image: {ref: ` + image + `}
    command: [sh, -c, 'trap "exit 0" TERM; trap "case \$(cat /run/secrets/s/KEY) in bad*) exit 9; esac" HUP; while :; do sleep 0.1; done']
    probes: {ready: {exec: {command: [sh, -c, 'case $(cat /run/secrets/s/KEY) in bad*) exit 1; esac']}, period: 100ms, timeout: 10s, failures: 1}}
    secrets: [{name: s, env: false, file: {path: /run/secrets/s}, redact: false, on_change: ` + onChange + `}]
    rotation: {min_ready: 500ms, health_timeout: 3s}
    restart: {backoff_min: 100ms, backoff_max: 1s}
    stop: {grace: 5s}
    network: {mode: none}
`
}

// Files that are bad are put back, also under who goes on living with them.
func TestBadFiles(t *testing.T) {
	onEach(t, func(t *testing.T, n *node) {
		n.must("secret", "set", "s", "KEY=good")
		n.deploy("app: reads\nfunctions:"+careful("f", "refresh")+careful("g", "refresh"), "--wait")
		f, g := n.await("reads/f", "well", moved(1)), n.await("reads/g", "well", moved(1))
		n.must("secret", "set", "s", "KEY=bad")
		n.event("SecretQuarantined")
		n.await("reads/f", "as before", stayed(1))
		if now := n.get("reads/f"); now.pid() != f.pid() || n.value("reads/f") != "good" {
			t.Errorf("it was process %d and is %d, on %q", f.pid(), now.pid(), n.value("reads/f"))
		}
		if now := n.get("reads/g"); now.pid() != g.pid() || n.value("reads/g") != "good" {
			t.Errorf("another was process %d and is %d, on %q", g.pid(), now.pid(), n.value("reads/g"))
		}
		n.must("secret", "set", "s", "KEY=better")
		for _, id := range []string{"reads/f", "reads/g"} {
			if n.await(id, "moved", moved(3)); n.value(id) != "better" {
				t.Errorf("%s is on %q", id, n.value(id))
			}
		}
		// One that ends by them is made anew with those of before.
		n.must("app", "stop", "reads")
		n.deploy("app: told\nfunctions:"+careful("f", "signal")+careful("g", "signal"), "--wait")
		n.await("told/f", "well", moved(3))
		g = n.await("told/g", "well", moved(3))
		n.must("secret", "set", "s", "KEY=bad again")
		n.eventually("it is quarantined", func() bool { return strings.Count(n.must("events"), "SecretQuarantined") == 2 })
		n.await("told/f", "as before", stayed(3))
		if now := n.get("told/g"); now.pid() != g.pid() || n.value("told/f") != "better" || n.value("told/g") != "better" {
			t.Errorf("one is on %q, another was process %d and is %d, on %q", n.value("told/f"), g.pid(), now.pid(), n.value("told/g"))
		}
	})
}
