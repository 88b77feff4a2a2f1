package e2e

import (
	"flag"
	"hash/fnv"
	"testing"

	"github.com/purserd/purser/e2e/rig"
)

var whole = flag.Bool("whole", false, "run every test on each containerd, also those that run on one of them as it does not matter to them which")

// onEach runs a test on a node of its own for each containerd.
func onEach(t *testing.T, test func(t *testing.T, n *node)) {
	t.Helper()
	onVersions(t, rig.Versions, newNode, test)
}

// onOne is onEach for what is not about containerd.
func onOne(t *testing.T, test func(t *testing.T, n *node)) {
	t.Helper()
	onVersions(t, oneFor(t), newNode, test)
}

// onVersions runs a test on a node of its own for each of some containerds.
func onVersions(t *testing.T, versions []rig.Version, start func(testing.TB, rig.Version) *node, test func(t *testing.T, n *node)) {
	t.Helper()
	t.Parallel()
	for _, v := range versions {
		t.Run("containerd "+string(v), func(t *testing.T) {
			t.Parallel()
			test(t, start(t, v))
		})
	}
}

// oneFor is the containerd for a test that needs only one: always the same, and of all tests
// about half run on each.
func oneFor(t *testing.T) []rig.Version {
	if *whole {
		return rig.Versions
	}
	name := fnv.New32a()
	_, _ = name.Write([]byte(t.Name()))
	return []rig.Version{rig.Versions[int(name.Sum32())%len(rig.Versions)]}
}
