package runtime

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/purserd/purser/e2e/rig"
)

// A cgroup that an agent has left which died while it tried a runtime goes with the next
// one; another node's may be in use.
func TestTrialCgroupsAreSwept(t *testing.T) {
	rig.Root(t)
	parent := filepath.Base(t.TempDir()) + "-trials"
	c := Config{CgroupParent: parent, Node: "n1", RunDir: t.TempDir()}
	root := cgroupRoot
	if _, err := os.Stat(filepath.Join(cgroupRoot, "pids")); err == nil {
		root = filepath.Join(cgroupRoot, "pids")
	}
	left, others := filepath.Join(root, parent, c.trialID()+"abc"), filepath.Join(root, parent, "try-n2-abc")
	t.Cleanup(func() { _ = removeCgroup(filepath.Join(root, parent)) })
	for _, dir := range []string{left, others} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.sweepTrials(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(left); !os.IsNotExist(err) {
		t.Errorf("it is still there: %v", err)
	}
	if _, err := os.Stat(others); err != nil {
		t.Errorf("another node's: %v", err)
	}
}
