package e2e

import (
	"strings"
	"testing"

	"github.com/purserd/purser/e2e/rig"
)

// says runs a command and checks that its answer has a text.
func (n *node) says(want string, args ...string) {
	n.t.Helper()
	if got := n.must(args...); !strings.Contains(got, want) {
		n.t.Errorf("purser %s says %q, want %q", strings.Join(args, " "), got, want)
	}
}

// After bad tries in a row a rollback takes the value that all run on, a second hold releases
// nothing, and a retry leaves who was rolled back with its app. What is done does not depend
// on containerd.
func TestWaysBackFromASecret(t *testing.T) {
	t.Parallel()
	n := newNode(t, rig.V24)
	n.must("secret", "set", "s", "KEY=one")
	spec := functions("a", map[string]string{"f": "rotation: {min_ready: 200ms}"})
	n.deploy(spec, "--wait")
	for i, value := range []string{"bad2", "bad3"} {
		n.must("secret", "set", "s", "KEY="+value)
		n.eventually(value+" is quarantined", func() bool { return n.versionStates("s")[0] == "quarantined" && len(n.versionStates("s")) == i+2 })
	}
	n.says("secret s in dev: version 4, with the content of version 1", "secret", "rollback", "s")
	n.await("a/f", "where it was, as the value is that which it has", moved(1))
	n.refused("secret", "rollback", "s", "3")

	n.says("held from version 5 on;", "secret", "hold", "s")
	n.must("secret", "set", "s", "KEY=five")
	n.says("is held from version 5 on already, and stays so", "secret", "hold", "s")
	n.await("a/f", "held", stayed(1))
	n.says("released; a launch gets version 5", "secret", "release", "s")
	n.await("a/f", "moved once it was released", moved(5))
	n.says("was not held; a launch gets version 5", "secret", "release", "s")

	n.deploy(strings.Replace(spec, "min_ready: 200ms", "min_ready: 300ms", 1), "--wait")
	n.must("app", "rollback", "a", "1")
	n.await("a/f", "back on the version of its revision", stayed(1))
	n.says("versions 2, 3 are quarantined no more, and not tried; a launch gets version 5", "secret", "retry", "s")
	n.must("secret", "release", "s")
	if w := n.await("a/f", "kept there", stayed(1)); !strings.Contains(w.Rotation.Reason, "its app was rolled back from it (rollback to 1); it stays where it is until there is a newer version, or purser restart --secrets -E dev a/f") {
		t.Errorf("it says %q", w.Rotation.Reason)
	}
	n.must("secret", "set", "s", "KEY=six", "--now")
	n.await("a/f", "moved to what is newer", moved(6))
}
