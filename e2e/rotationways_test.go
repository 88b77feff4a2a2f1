package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/purserd/purser/e2e/rig"
)

// shut is a window that is not open for hours.
func shut() string {
	return fmt.Sprintf(`window: {cron: "0 %d * * *", duration: 1h}`, (time.Now().UTC().Hour()+6)%24)
}

// allergic has the functions of a spec end with the value that their environment has as
// ALLERGY.
func allergic(spec string) string {
	return strings.ReplaceAll(spec, serve+"case ", serve+`test "$KEY" != "$ALLERGY" || exit 9; case `)
}

// pids are the processes of workloads, which are ready.
func (n *node) pids(ids ...string) map[string]int {
	n.t.Helper()
	all := map[string]int{}
	for _, id := range ids {
		all[id] = n.await(id, "ready", func(w workload) bool { return w.State == "ready" && len(w.Instances) == 1 }).pid()
	}
	return all
}

// wantSame checks that workloads are the processes that they were.
func (n *node) wantSame(pids map[string]int) {
	n.t.Helper()
	for id, pid := range pids {
		if w := n.get(id); w.pid() != pid || len(w.Instances) != 1 {
			n.t.Errorf("%s was process %d and is %+v", id, pid, w.Instances)
		}
	}
}

// secretUser is who uses a secret, as -o json shows it.
type secretUser struct {
	Workload, Instance, State, Reason string
	Version                           int
}

// usersOf are those of a secret's, by their instances.
func (n *node) usersOf(secret string) map[string]secretUser {
	n.t.Helper()
	var answer struct{ Users []secretUser }
	n.json(&answer, "secret", "show", secret)
	all := map[string]secretUser{}
	for _, u := range answer.Users {
		all[u.Instance] = u
	}
	return all
}

// A window that is shut and a splay are waited for, but not by versions in a hurry, nor by
// who is not well.
//
// Complaints this answers: stakater/Reloader#488, stakater/Reloader#755.
func TestRestartsWaitForTheirWindow(t *testing.T) {
	onOne(t, func(t *testing.T, n *node) {
		n.must("secret", "set", "s", "KEY=one")
		n.must("secret", "set", "sick", "KEY=bad")
		n.deploy(functions("a", map[string]string{
			"f": "rotation: {min_ready: 200ms, " + shut() + "}",
			"g": "rotation: {min_ready: 200ms, " + shut() + ", splay: 24h}",
		}), "--wait")
		n.deploy(functions("b", map[string]string{
			"f": "rotation: {min_ready: 200ms}",
			"g": "rotation: {min_ready: 200ms, splay: 24h}",
		}), "--wait")
		n.deploy(functions("c", map[string]string{"f": "secrets: [{name: sick}]\n    rotation: {min_ready: 200ms, " + shut() + "}"}))
		pids := n.pids("a/f", "a/g", "b/g")
		waits := func(id, why string) {
			t.Helper()
			n.await(id, "waiting: "+why, func(w workload) bool {
				return w.Rotation.State == "waiting" && strings.Contains(w.Rotation.Reason, why)
			})
		}
		n.must("secret", "set", "s", "KEY=two")
		n.await("b/f", "moved", moved(2))
		waits("a/f", "its window opens at")
		waits("a/g", "its window opens at")
		waits("b/g", "its part of the splay ends at")
		n.killAgent()
		waits("a/f", "its window opens at")
		waits("b/g", "its part of the splay ends at")
		n.wantSame(pids)

		n.must("secret", "set", "sick", "KEY=good")
		n.await("c/f", "moved, as it was not well", moved(2))

		n.must("secret", "set", "s", "KEY=three", "--now")
		for id, pid := range pids {
			if w := n.await(id, "moved", moved(3)); w.pid() == pid || n.value(id) != "three" {
				t.Errorf("%s: %+v, on %q", id, w, n.value(id))
			}
		}
		n.await("b/f", "moved", moved(3))
		// That was for this version.
		n.must("secret", "set", "s", "KEY=four")
		waits("a/g", "its window opens at")
	})
}

// Not even a version in a hurry goes by the canary.
func TestNowHasACanary(t *testing.T) {
	t.Parallel()
	n := newNode(t, rig.V24)
	n.must("secret", "set", "s", "KEY=one")
	n.deploy(functions("a", map[string]string{
		"f": "rotation: {min_ready: 200ms, " + shut() + "}",
		"g": "rotation: {min_ready: 200ms, splay: 24h}",
	}), "--wait")
	pids := n.pids("a/f", "a/g")
	n.must("secret", "set", "s", "KEY=bad", "--now")
	n.awaitQuarantine("s")
	n.await("a/f", "on the version before", stayed(1))
	n.await("a/g", "on the version before", stayed(1))
	n.wantSame(pids)
	events := n.events()
	if first, other := about(events, "RotationBegun", "a/f"), about(events, "RotationBegun", "a/g"); first != 2 || other != 0 {
		t.Errorf("one tried %d times, and the other %d times", first, other)
	}
}

// One that follows and fails goes back alone; those of its app that have not moved yet are
// held, and nobody else is.
func TestFollowerThatFails(t *testing.T) {
	t.Parallel()
	for _, v := range rig.Versions {
		t.Run("containerd "+string(v), func(t *testing.T) {
			t.Parallel()
			n := emptyNodeWith(t, v, "[rotation]\nmax_parallel = 1\n")
			n.must("image", "import", boxImage(t))
			testFollowerThatFails(t, n)
		})
	}
}

func testFollowerThatFails(t *testing.T, n *node) {
	n.must("secret", "set", "s", "KEY=one")
	const quick = "rotation: {min_ready: 200ms}"
	n.deploy(allergic(functions("a", map[string]string{"f1": quick, "f2": quick + "\n    env: {ALLERGY: two}", "f3": quick, "f4": quick})), "--wait")
	n.deploy(functions("b", map[string]string{"f": quick}), "--wait")
	pids := n.pids("a/f2", "a/f3", "a/f4")
	n.must("secret", "set", "s", "KEY=two")
	n.await("a/f1", "moved", moved(2))
	for id := range pids {
		n.await(id, "held", stayed(1))
	}
	n.await("b/f", "moved", moved(2))
	n.wantSame(pids)
	events := n.events()
	if tried, halted := about(events, "RotationBegun", "a/f2"), about(events, "RotationHalted", "s"); tried != 2 || halted != 1 {
		t.Errorf("it was tried %d times, and others were held %d times", tried, halted)
	}
	for _, id := range []string{"a/f3", "a/f4"} {
		if tried := about(events, "RotationBegun", id); tried != 0 {
			t.Errorf("%s has tried", id)
		}
		for _, want := range []string{"s version 2", "a/f2 failed with it", "status 9"} {
			if said := n.get(id).Rotation.Reason; !strings.Contains(said, want) {
				t.Errorf("%s: %q does not say %s", id, said, want)
			}
		}
	}
	n.must("secret", "set", "s", "KEY=three")
	for _, id := range []string{"a/f1", "a/f2", "a/f3", "a/f4", "b/f"} {
		n.await(id, "moved", moved(3))
	}
}

// A version without a key that somebody requires is not tried at all.
func TestRequiredKeyIsRemoved(t *testing.T) {
	onOne(t, func(t *testing.T, n *node) {
		n.must("secret", "set", "s", "KEY=one", "EXTRA=1")
		n.deploy(functions("a", map[string]string{
			"all":      "secrets: [{name: s}]",
			"requires": "secrets: [{name: s, required_keys: [EXTRA]}]",
			"without":  "secrets: [{name: s, keys: {KEY: KEY}}]",
		}), "--wait")
		pids := n.pids("a/all", "a/requires", "a/without")
		before := len(n.events())
		n.must("secret", "set", "s", "EXTRA-")
		n.awaitQuarantine("s")
		for _, id := range []string{"a/all", "a/requires"} {
			w := n.await(id, "held", stayed(1))
			if !strings.Contains(w.Rotation.Reason, "EXTRA") {
				t.Errorf("%s is held, as %q", id, w.Rotation.Reason)
			}
		}
		n.await("a/without", "not concerned", rotationOf("current"))
		n.wantSame(pids)
		for _, e := range n.events()[before:] {
			if e.Type == "RotationBegun" || e.Type == "Creating" {
				t.Errorf("something was started: %+v", e)
			}
		}
		if said := n.must("secret", "show", "s"); !strings.Contains(said, "version 2") || !strings.Contains(said, "EXTRA") {
			t.Errorf("it is not told why:\n%s", said)
		}
		n.must("secret", "set", "s", "EXTRA=2")
		n.await("a/requires", "moved", moved(3))
		n.await("a/all", "moved", moved(3))
	})
}

// A secret that is deleted while in use takes nothing away.
func TestSecretIsDeletedInUse(t *testing.T) {
	onOne(t, func(t *testing.T, n *node) {
		n.must("secret", "set", "s", "KEY=one")
		n.deploy(functions("a", map[string]string{"f": ""}), "--wait")
		pids := n.pids("a/f")
		n.must("secret", "delete", "s")
		n.awaitEvents("SecretDeleted")
		for _, e := range n.events() {
			if e.Type == "SecretDeleted" && (e.Subject != "s" || !strings.Contains(e.Message, "a/f")) {
				t.Errorf("it does not say who uses it: %+v", e)
			}
		}
		if got := n.metric(`purser_secrets_deleted_in_use{environment="dev"}`); got != "1" {
			t.Errorf("%q secrets were deleted in use", got)
		}
		n.killAgent()
		n.await("a/f", "current", rotationOf("current"))
		n.wantSame(pids)
		n.must("restart", "a/f")
		n.await("a/f", "another process", func(w workload) bool { return moved(1)(w) && w.pid() != pids["a/f"] })
		if got := n.value("a/f"); got != "one" {
			t.Errorf("it has come back on %q", got)
		}
	})
}

// A workload may have secrets that change it in different ways: each does what it says, and
// of those that change together the strongest does.
func TestMixedChanges(t *testing.T) {
	onOne(t, func(t *testing.T, n *node) {
		for _, name := range []string{"v", "s", "i"} {
			n.must("secret", "set", name, "KEY=one")
		}
		n.deploy(functions("a", map[string]string{"f": `secrets:
      - {name: v, keys: {KEY: VARIABLE}}
      - {name: s, env: false, file: {path: /run/secrets/s}, on_change: signal}
      - {name: i, keys: {KEY: IGNORED}, on_change: ignore}
    rotation: {min_ready: 200ms}`}), "--wait")
		on := func(v, s, i int) func(workload) bool {
			return func(w workload) bool {
				pins := map[string]int{}
				for _, p := range w.Pins {
					pins[p.Secret] = p.Version
				}
				return w.State == "ready" && len(w.Instances) == 1 && w.Rotation.State == "current" && pins["v"] == v && pins["s"] == s && pins["i"] == i
			}
		}
		hups := func(w workload) bool {
			return n.run("exec", w.ID, "--", "test", "-e", "/tmp/hup").code == 0
		}
		first := n.await("a/f", "ready", on(1, 1, 1))
		n.must("secret", "set", "i", "KEY=two")
		n.must("secret", "set", "s", "KEY=two")
		w := n.await("a/f", "signalled", on(1, 2, 1))
		if w.pid() != first.pid() || !hups(w) {
			t.Errorf("it was process %d and is %d, signalled: %t", first.pid(), w.pid(), hups(w))
		}
		n.must("secret", "set", "v", "KEY=two")
		second := n.await("a/f", "restarted", on(2, 2, 1))
		if second.pid() == first.pid() {
			t.Error("it is the same process")
		}
		n.must("secret", "set", "s", "KEY=three")
		n.must("secret", "set", "v", "KEY=three")
		third := n.await("a/f", "restarted with both", on(3, 3, 1))
		if third.pid() == second.pid() || hups(third) {
			t.Errorf("it was process %d and is %d, signalled: %t", second.pid(), third.pid(), hups(third))
		}
		if got := n.must("exec", "a/f", "--", "sh", "-c", "echo $VARIABLE $(cat /run/secrets/s/KEY)"); got != "three three\n" {
			t.Errorf("it has %q", got)
		}
		if begun := about(n.events(), "RotationBegun", "a/f"); begun != 3 {
			t.Errorf("it has moved %d times", begun)
		}
	})
}

// A quarantined version is given to who asks for it by its number, and means it.
func TestQuarantinedVersionIsForced(t *testing.T) {
	t.Parallel()
	n := newNode(t, rig.V24)
	n.must("secret", "set", "s", "KEY=one")
	n.deploy(functions("a", map[string]string{"f": "rotation: {min_ready: 200ms}"}), "--wait")
	pids := n.pids("a/f")
	n.must("secret", "set", "s", "KEY=bad")
	n.awaitQuarantine("s")
	fixed := functions("b", map[string]string{"f": "secrets: [{name: s, version: 2}]\n    command: [sleep, '1000']\n    probes: {}\n    stop: {grace: 0s}"})
	fixed = strings.Replace(fixed, moody, "\n", 1)
	said := n.refused("deploy", file(t, "b.yaml", fixed))
	for _, want := range []string{"--force", "quarantined", "a/f", "version 2"} {
		if !strings.Contains(said, want) {
			t.Errorf("it does not say %s: %s", want, said)
		}
	}
	n.deploy(fixed, "--force", "--wait")
	if w := n.get("b/f"); w.Pins[0].Version != 2 || w.Rotation.State != "current" {
		t.Errorf("forced, it is %+v", w)
	}
	n.await("a/f", "on the version before", stayed(1))
	n.wantSame(pids)
}

// Which instance runs on which version, and what keeps it from the newest, is there to see
// while one tries, and after it.
//
// Complaint this answers: kubernetes/kubernetes#22368.
func TestEachInstanceTellsWhichVersionItRunsOn(t *testing.T) {
	t.Parallel()
	n := newNode(t, rig.V24)
	n.must("secret", "set", "s", "KEY=one")
	n.deploy(functions("a", map[string]string{"f": "rotation: {min_ready: 200ms, health_timeout: 4s}", "g": ""}), "--wait")
	f, g := n.get("a/f").Instances[0], n.get("a/g").Instances[0]
	n.must("secret", "set", "s", "KEY=slow")
	both := n.await("a/f", "trying", func(w workload) bool { return w.Rotation.State == "rotating" && len(w.Instances) == 2 })
	users := n.usersOf("s")
	for instance, want := range map[string]secretUser{
		both.Instances[0].ID: {Workload: "a/f", Version: 2, State: "rotating"},
		f.ID:                 {Workload: "a/f", Version: 1, State: "rotating"},
		g.ID:                 {Workload: "a/g", Version: 1, State: "waiting"},
	} {
		want.Instance, want.Reason = instance, users[instance].Reason
		if got := users[instance]; got != want || got.Reason == "" {
			t.Errorf("of instance %s it says %+v, not %+v", instance, got, want)
		}
	}
	n.awaitQuarantine("s")
	n.await("a/f", "on the version before", stayed(1))
	n.await("a/g", "on the version before", stayed(1))
	users = n.usersOf("s")
	if len(users) != 2 {
		t.Errorf("it is used by %+v", users)
	}
	shown := n.must("secret", "show", "s") + n.must("get", "a/g") + n.must("ps")
	for _, id := range []string{f.ID, g.ID} {
		u := users[id]
		if u.Version != 1 || u.State != "held" || !strings.Contains(u.Reason, "a/f failed with it: not ready after 4s") {
			t.Errorf("of instance %s it says %+v", id, u)
		}
		if strings.Count(shown, u.Reason) < 3 {
			t.Errorf("%q is not shown everywhere:\n%s", u.Reason, shown)
		}
	}
}

// However many are to move, and of however many secrets, no more do at a time than the node
// lets.
//
// Complaints this answers: hashicorp/nomad#10920, hashicorp/nomad#19171,
// stakater/Reloader#220, stakater/Reloader#1109.
func TestChangeDoesNotRestartEverybodyAtOnce(t *testing.T) {
	t.Parallel()
	for most := 1; most <= 4; most++ {
		v := rig.Versions[most%len(rig.Versions)]
		t.Run(fmt.Sprintf("%d, containerd %s", most, v), func(t *testing.T) {
			t.Parallel()
			n := emptyNodeWith(t, v, fmt.Sprintf("[rotation]\nmax_parallel = %d\n", most))
			n.must("image", "import", boxImage(t))
			testMaxParallel(t, n, most)
		})
	}
}

// testMaxParallel has ten functions with a secret that they share, and ten with one each.
func testMaxParallel(t *testing.T, n *node, most int) {
	secrets, ids := []string{"s"}, []string{}
	shared, own := "app: a\n", "app: b\n"
	for _, spec := range []*string{&shared, &own} {
		*spec += "defaults: {image: {ref: " + image + "}, command: [sleep, '100000'], rotation: {min_ready: 300ms}, stop: {grace: 0s}}\nfunctions:\n"
	}
	for i := range 10 {
		f, secret := fmt.Sprint("f", i), fmt.Sprint("s", i)
		shared += "  - {function: " + f + ", secrets: [{name: s}]}\n"
		own += "  - {function: " + f + ", secrets: [{name: " + secret + "}]}\n"
		secrets, ids = append(secrets, secret), append(ids, "a/"+f, "b/"+f)
	}
	n.putAll(secrets, "one")
	n.deploy(shared)
	n.deploy(own)
	for _, id := range ids {
		n.await(id, "running", inState("running"))
	}
	before := len(n.events())
	n.putAll(secrets, "two")
	for _, id := range ids {
		n.await(id, "moved", func(w workload) bool { return w.Rotation.State == "current" && w.Pins[0].Version == 2 })
	}
	moving, peak := map[string]bool{}, 0
	for _, e := range n.events()[before:] {
		switch e.Type {
		case "RotationBegun":
			moving[e.Subject] = true
		case "Rotated", "BackedOut", "RotationDeferred", "RotationSuperseded":
			delete(moving, e.Subject)
		}
		peak = max(peak, len(moving))
	}
	if peak != most {
		t.Errorf("%d moved at a time, not %d", peak, most)
	}
}
