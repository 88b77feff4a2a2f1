package e2e

import (
	"encoding/base64"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/purserd/purser/e2e/rig"
)

// moody is what functions run whose health is their key's: with bad it exits at once, with
// slow it is never ready, with brief it is ready for a moment. They serve what they know of
// themselves: to be asked so costs next to nothing, and a command in the container, ten
// times a second in each of twenty, is more than a small machine can do.
const moody = `
    command: [sh, -c, '` + serve + `case "$KEY$(cat /run/secrets/s/KEY 2>/dev/null)" in bad*) exit 7;; slow*) sleep 1000;; brief*) touch /tmp/ok; sleep 0.5; exit 8;; esac; touch /tmp/ok; trap "exit 0" TERM; trap "touch /tmp/hup" HUP; while :; do sleep 100000 & wait; done']
    probes: {ready: {http: {port: 8080, path: /ok}, period: 100ms}}
    restart: {backoff_max: 1s}
    stop: {grace: 5s}
    network: {mode: none}
`

// putAll sets key KEY of many secrets at once, each time to another value that begins so.
func (n *node) putAll(secrets []string, value string) {
	n.t.Helper()
	var all sync.WaitGroup
	for i, secret := range secrets {
		all.Go(func() {
			data := base64.StdEncoding.EncodeToString(fmt.Append(nil, value, i))
			var answer struct{}
			if err := n.call("Secrets/Put", fmt.Sprintf(`{"name":%q,"data":{"KEY":%q}}`, secret, data), &answer); err != nil {
				n.t.Error(err)
			}
		})
	}
	all.Wait()
}

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

// A new value reaches those who use it, each in its way; others are left alone.
func TestRotation(t *testing.T) {
	onEach(t, func(t *testing.T, n *node) {
		n.must("secret", "set", "s", "KEY=one")
		n.must("secret", "set", "other", "KEY=x")
		n.deploy(functions("a", map[string]string{
			"rolls":    "rotation: {min_ready: 200ms}",
			"restarts": "rotation: {strategy: restart}",
			"waits":    "rotation: {strategy: manual}",
			"fixed":    "secrets: [{name: s, version: 1, keys: {KEY: KEY}}]",
			"without":  "secrets: [{name: other}]",
			"ignores":  "secrets: [{name: s, keys: {KEY: KEY}, on_change: ignore}]",
		}), "--wait")
		moving, left := n.pids("a/rolls", "a/restarts"), n.pids("a/waits", "a/fixed", "a/without", "a/ignores")
		n.must("secret", "set", "s", "KEY=two")
		for id, pid := range moving {
			if w := n.await(id, "moved", moved(2)); w.pid() == pid || n.value(id) != "two" {
				t.Errorf("%s: %+v, on %q", id, w, n.value(id))
			}
		}
		n.await("a/waits", "stale", rotationOf("stale"))
		n.wantSame(left)
		n.must("restart", "--secrets", "a/waits")
		if n.await("a/waits", "moved", moved(2)); n.value("a/waits") != "two" {
			t.Errorf("after a restart it is on %q", n.value("a/waits"))
		}
		n.awaitEvents("RotationBegun", "Rotated", "RotationStale")
		n.must("secret", "rollback", "s", "1")
		for id := range moving {
			if n.await(id, "moved", moved(3)); n.value(id) != "one" {
				t.Errorf("%s is on %q", id, n.value(id))
			}
		}
	})
}

// Who uses other keys of a secret than those that change is left alone, whatever the
// strategy and however the key is delivered.
//
// Complaints this answers: stakater/Reloader#129, stakater/Reloader#137.
func TestChangeOfAnUnusedKeyRestartsNobody(t *testing.T) {
	onOne(t, func(t *testing.T, n *node) {
		n.must("secret", "set", "s", "KEY=one", "OTHER=1")
		n.deploy(functions("a", map[string]string{
			"rolls":    "",
			"restarts": "rotation: {strategy: restart}",
			"file":     "secrets: [{name: s, keys: {KEY: KEY}, env: false, file: {path: /run/secrets/s}, on_change: signal}]",
			"all":      "secrets: [{name: s}]",
		}), "--wait")
		pids, all := n.pids("a/rolls", "a/restarts", "a/file"), n.pids("a/all")
		n.must("secret", "set", "s", "OTHER=2")
		// Who takes all keys is told of it, so that the others have had their chance.
		if w := n.await("a/all", "moved", moved(2)); w.pid() == all["a/all"] {
			t.Errorf("it is the same process: %+v", w)
		}
		n.wantSame(pids)
		for id := range pids {
			if w := n.get(id); w.Rotation.State != "current" || w.Pins[0].Version != 1 {
				t.Errorf("it is no longer as it was: %+v", w)
			}
			if begun := about(n.events(), "RotationBegun", id); begun != 0 {
				t.Errorf("%s has moved %d times", id, begun)
			}
		}
		if _, err := os.Stat(fmt.Sprintf("/proc/%d/root/tmp/hup", pids["a/file"])); err == nil {
			t.Error("it was sent a signal")
		}
	})
}

// A version with which an instance fails takes nothing away: one of twenty has tried, and all
// are the processes that they were.
//
// Complaint this answers: stakater/Reloader#116.
func TestBadSecretDoesNotTakeEverybodyDown(t *testing.T) {
	onOne(t, func(t *testing.T, n *node) {
		n.must("secret", "set", "s", "KEY=good")
		each, ids := map[string]string{}, []string{}
		for i := range 20 {
			f := fmt.Sprintf("f%02d", i)
			each[f], ids = "rotation: {min_ready: 1s, health_timeout: 3s}", append(ids, "a/"+f)
		}
		n.deploy(functions("a", each), "--wait")
		pids := n.pids(ids...)
		for i, value := range []string{"bad", "slow", "brief"} {
			n.must("secret", "set", "s", "KEY="+value)
			n.awaitQuarantine("s")
			for _, id := range ids {
				n.await(id, "as it was", stayed(1))
			}
			n.wantSame(pids)
			events, version := n.events(), fmt.Sprint("version ", i+2)
			if of(events, "BackedOut") != i+1 || of(events, "SecretQuarantined") != i+1 {
				t.Errorf("%s: not one is backed out and one version quarantined: %+v", value, events)
			}
			tried := map[string]int{}
			for _, e := range events {
				if e.Type == "RotationBegun" && strings.Contains(e.Message, version) {
					tried[e.Subject]++
				}
			}
			if len(tried) != 1 {
				t.Errorf("%s was tried by %v, not by one", value, tried)
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
	onOne(t, func(t *testing.T, n *node) {
		n.must("secret", "set", "s", "KEY=good")
		n.deploy(functions("a", map[string]string{"f": "rotation: {strategy: restart, min_ready: 500ms}", "g": "rotation: {strategy: restart, min_ready: 500ms}"}), "--wait")
		g := n.await("a/g", "ready", inState("ready"))
		n.await("a/f", "healthy", moved(1))
		n.must("secret", "set", "s", "KEY=bad")
		n.awaitEvents("SecretQuarantined")
		f := n.await("a/f", "as before", stayed(1))
		if n.value("a/f") != "good" || n.get("a/g").pid() != g.pid() {
			t.Errorf("f is on %q; g was %d and is %d", n.value("a/f"), g.pid(), n.get("a/g").pid())
		}
		// It is tried again on request, and once more that is for nothing.
		n.must("secret", "retry", "s")
		n.eventually("another one", func() bool { return of(n.events(), "SecretQuarantined") == 2 })
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
	onOne(t, func(t *testing.T, n *node) {
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

// Two hundred updates of two secrets in some moments that follow each other are one restart,
// with the last of both.
//
// Complaints this answers: stakater/Reloader#110, stakater/Reloader#279.
func TestBurstOfUpdatesIsOneRestart(t *testing.T) {
	t.Parallel()
	for _, v := range rig.Versions {
		t.Run("containerd "+string(v), func(t *testing.T) {
			t.Parallel()
			// A machine with much to do may take a second from one update to the next.
			n := emptyNodeWith(t, v, "[rotation]\nquiet = '2s'\n")
			n.must("image", "import", boxImage(t))
			testBurst(t, n)
		})
	}
}

func testBurst(t *testing.T, n *node) {
	n.putAll([]string{"s", "t"}, "none")
	n.deploy(functions("a", map[string]string{"f": "secrets: [{name: s}, {name: t, prefix: MORE_}]\n    rotation: {min_ready: 200ms}"}), "--wait")
	n.await("a/f", "ready", inState("ready"))
	began := time.Now()
	for wave := range 4 {
		n.putAll(slices.Repeat([]string{"s", "t"}, 25), fmt.Sprint("wave ", wave, ", value "))
		<-time.After(300 * time.Millisecond)
	}
	took := time.Since(began)
	t.Logf("200 updates took %v", took)
	n.await("a/f", "moved", func(w workload) bool { return moved(101)(w) && w.Pins[1].Version == 101 })
	// On a slow disk they take longer than changes are waited for.
	if begun, most := of(n.events(), "RotationBegun"), 1+int(took/(10*time.Second)); begun > most {
		t.Errorf("it has moved %d times, not %d", begun, most)
	}
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
		n.eventually("it is tried", func() bool {
			trying := rotationOf("rotating")
			return trying(n.get("a/f")) || trying(n.get("a/g"))
		})
		n.killAgent()
		n.awaitQuarantine("s")
		if w := n.await("a/f", "as before", stayed(2)); w.pid() != f.pid() {
			t.Errorf("it was process %d and is %d", f.pid(), w.pid())
		}
	})
}

// A job is left to finish, and its next attempt has the latest.
func TestRotationOfAJob(t *testing.T) {
	onOne(t, func(t *testing.T, n *node) {
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

// careful is a function that looks at its file all the time: it is not ready with a bad one,
// and what is told of it by a signal ends.
func careful(name, onChange string) string {
	return `
  - function: ` + name + `
    image: {ref: ` + image + `}
    command: [sh, -c, '` + serve + `trap "exit 0" TERM; trap "case \$(cat /run/secrets/s/KEY) in bad*) exit 9; esac" HUP; while :; do case $(cat /run/secrets/s/KEY) in bad*) rm -f /tmp/ok;; *) touch /tmp/ok; esac; sleep 0.1; done']
    probes: {ready: {http: {port: 8080, path: /ok}, period: 100ms, timeout: 2s, failures: 1}}
    secrets: [{name: s, env: false, file: {path: /run/secrets/s}, redact: false, on_change: ` + onChange + `}]
    rotation: {min_ready: 500ms, health_timeout: 3s}
    restart: {backoff_min: 100ms, backoff_max: 1s}
    stop: {grace: 5s}
    network: {mode: none}
`
}

// Files that are bad are put back, also under who goes on living with them.
func TestBadFiles(t *testing.T) {
	onOne(t, func(t *testing.T, n *node) {
		n.must("secret", "set", "s", "KEY=good")
		n.deploy("app: reads\nfunctions:"+careful("f", "refresh")+careful("g", "refresh"), "--wait")
		f, g := n.await("reads/f", "well", moved(1)), n.await("reads/g", "well", moved(1))
		n.must("secret", "set", "s", "KEY=bad")
		n.awaitEvents("SecretQuarantined")
		n.await("reads/f", "as before", stayed(1))
		if now := n.get("reads/f"); now.pid() != f.pid() || n.value("reads/f") != "good" {
			t.Errorf("it was process %d and is %d, on %q", f.pid(), now.pid(), n.value("reads/f"))
		}
		if now := n.get("reads/g"); now.pid() != g.pid() || n.value("reads/g") != "good" {
			t.Errorf("another was process %d and is %d, on %q", g.pid(), now.pid(), n.value("reads/g"))
		}
		if made, tried := about(n.events(), "Creating", "reads/f"), about(n.events(), "RotationFailed", "reads/f"); made != 1 || tried != 1 {
			t.Errorf("it was made %d times, and its files were tried again %d times", made, tried)
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
		n.eventually("it is quarantined", func() bool { return of(n.events(), "SecretQuarantined") == 2 })
		n.await("told/f", "as before", stayed(3))
		if now := n.get("told/g"); now.pid() != g.pid() || n.value("told/f") != "better" || n.value("told/g") != "better" {
			t.Errorf("one is on %q, another was process %d and is %d, on %q", n.value("told/f"), g.pid(), now.pid(), n.value("told/g"))
		}
	})
}
