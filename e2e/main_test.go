package e2e

import (
	"os"
	"testing"

	"github.com/purserd/purser/e2e/rig"
)

// TestMain moves to a network of its own, in which nodes have their bridges.
func TestMain(m *testing.M) {
	rig.OwnNetwork()
	os.Exit(m.Run())
}
