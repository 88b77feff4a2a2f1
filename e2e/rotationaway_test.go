package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/purserd/purser/e2e/rig"
)

// patient is a function that does nothing, and keeps in mind that it was sent a SIGHUP.
func patient(name, secret string) string {
	return `
  - function: ` + name + `
    image: {ref: ` + image + `}
    command: [sh, -c, 'trap "exit 0" TERM; trap "touch /tmp/hup" HUP; while :; do sleep 100000 & wait; done']
    secrets: [{` + secret + `}]
    rotation: {min_ready: 200ms}
    restart: {backoff_min: 100ms}
`
}

// A change that is made while there is no agent is carried out by the next one, by all whom
// it concerns and by nobody else, whether they are restarted or told by a signal. An agent
// that finds nothing changed moves nobody.
//
// Complaints this answers: hashicorp/nomad#24140, stakater/Reloader#166,
// stakater/Reloader#814, stakater/Reloader#1089.
func TestAgentRestartNeitherMissesAChangeNorRestartsAll(t *testing.T) {
	t.Parallel()
	for _, v := range rig.Versions {
		t.Run("containerd "+string(v), func(t *testing.T) {
			t.Parallel()
			testAgentRestart(t, v)
		})
	}
}

func testAgentRestart(t *testing.T, v rig.Version) {
	dir := filepath.Join(t.TempDir(), "secrets")
	for _, name := range []string{"changes", "stays"} {
		swapVolume(t, filepath.Join(dir, name), "KEY", "one")
	}
	n := mirrored(t, v, dir)
	spec, restarted, told, left := "app: a\nfunctions:", []string{}, []string{}, []string{}
	for i := range 3 {
		for kind, of := range map[string]struct {
			ids    *[]string
			secret string
		}{
			"restarted": {&restarted, "name: changes"},
			"told":      {&told, "name: changes, env: false, file: {path: /run/secrets/s}, on_change: signal"},
			"variable":  {&left, "name: stays"},
			"file":      {&left, "name: stays, env: false, file: {path: /run/secrets/s}, on_change: signal"},
		} {
			f := fmt.Sprint(kind, i)
			spec += patient(f, of.secret)
			*of.ids = append(*of.ids, "a/"+f)
		}
	}
	n.eventually("both secrets", func() bool { return n.knowsSecret("changes") && n.knowsSecret("stays") })
	n.deploy(spec, "--wait")
	pids := func(ids []string) map[string]int {
		all := map[string]int{}
		for _, id := range ids {
			all[id] = n.await(id, "running", inState("running")).pid()
		}
		return all
	}
	was, toldWas, leftWas := pids(restarted), pids(told), pids(left)
	n.killAgent() // with nothing changed
	for i, value := range []string{"two", "three"} {
		n.betweenAgents(func() { swapVolume(t, filepath.Join(dir, "changes"), "KEY", value) })
		for _, id := range append(restarted, told...) {
			n.await(id, "moved", func(w workload) bool {
				return w.State == "running" && len(w.Instances) == 1 && w.Rotation.State == "current" && w.Pins[0].Version == i+2
			})
			if begun := about(n.events(), "RotationBegun", id); begun != 1 {
				t.Errorf("%s has moved %d times", id, begun)
			}
		}
		for id, pid := range was {
			if was[id] = n.get(id).pid(); was[id] == pid || n.value(id) != value {
				t.Errorf("%s was process %d and is %d, on %q", id, pid, was[id], n.value(id))
			}
		}
		n.wantSame(toldWas)
		for id, pid := range toldWas {
			hup := fmt.Sprintf("/proc/%d/root/tmp/hup", pid)
			if err := os.Remove(hup); err != nil || n.value(id) != value {
				t.Errorf("%s is on %q; the signal: %v", id, n.value(id), err)
			}
		}
		n.wantSame(leftWas)
		for _, id := range left {
			if begun := about(n.events(), "RotationBegun", id); begun != 0 {
				t.Errorf("%s, whom nothing concerns, has moved", id)
			}
		}
	}
}

// knowsSecret tells whether the node has a secret.
func (n *node) knowsSecret(name string) bool {
	var answer struct{}
	return n.call("Secrets/Describe", fmt.Sprintf(`{"name":%q}`, name), &answer) == nil
}

// While secrets cannot be had from where they come from, nothing that runs ends; what
// crashes comes back, also under another agent, and more can be launched.
//
// Complaints this answers: hashicorp/nomad#11209, hashicorp/nomad#28366.
func TestSourceThatIsDownTakesNobodyDown(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "secrets")
	swapVolume(t, filepath.Join(dir, "s"), "KEY", "one")
	n := mirrored(t, rig.V24, dir)
	n.awaitSecret(1, "cluster")
	file := "name: s, env: false, file: {path: /run/secrets/s}"
	n.deploy("app: a\nfunctions:"+patient("runs", "name: s")+patient("crashes", "name: s")+patient("file", file), "--wait")
	runs := n.get("a/runs").pid()
	if err := os.Rename(dir, dir+".away"); err != nil {
		t.Fatal(err)
	}
	n.awaitEvents("SecretSourceDown")
	if up := n.metric(`purser_secret_source_up{source="cluster"}`); up != "0" {
		t.Errorf("purser_secret_source_up is %s", up)
	}
	onLastKnown := func() {
		t.Helper()
		for _, id := range []string{"a/crashes", "a/file"} {
			before := n.get(id).pid()
			n.must("signal", id, "SIGKILL")
			n.await(id, "running anew", func(w workload) bool { return w.State == "running" && w.pid() != 0 && w.pid() != before })
			if got := n.value(id); got != "one" {
				t.Errorf("%s has come back on %q", id, got)
			}
		}
		if got := n.must("run", "--image", image, "--secret", "s", "--", "sh", "-c", "echo $KEY"); got != "one\n" {
			t.Errorf("a new launch got %q", got)
		}
		if pid := n.get("a/runs").pid(); pid != runs {
			t.Errorf("it was process %d and is %d", runs, pid)
		}
		n.awaitSecret(1, "cluster")
	}
	onLastKnown()
	n.betweenAgents(func() {})
	onLastKnown()
	// What has changed meanwhile is made up for when it is back.
	swapVolume(t, filepath.Join(dir+".away", "s"), "KEY", "two")
	if err := os.Rename(dir+".away", dir); err != nil {
		t.Fatal(err)
	}
	n.awaitEvents("SecretSourceUp")
	for _, id := range []string{"a/runs", "a/crashes", "a/file"} {
		n.await(id, "moved", func(w workload) bool { return w.State == "running" && len(w.Instances) == 1 && w.Pins[0].Version == 2 })
		if got := n.value(id); got != "two" {
			t.Errorf("%s is on %q", id, got)
		}
	}
}
