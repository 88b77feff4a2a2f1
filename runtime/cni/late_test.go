package cni_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/purserd/purser/e2e/rig"
	"github.com/purserd/purser/runtime/cni"
)

// An address is freed once: an agent that disconnects again what an earlier one had, as that
// was killed before it forgot the record, takes nothing from who has the address by then.
func TestDisconnectedAgain(t *testing.T) {
	n := newNode(t, func(c *cni.Config) {
		c.Subnets, c.Pool = subnets("10.99.2.0/30"), 0 // of one address
	})
	first := n.claim("first")
	record := n.records()[0]
	before, err := os.ReadFile(record)
	if err != nil {
		t.Fatal(err)
	}
	n.release("first")
	second := n.claim("second")
	if !slices.Equal(first.Addresses, second.Addresses) {
		t.Fatalf("the second is at %v, the first was at %v", second.Addresses, first.Addresses)
	}
	if err := os.WriteFile(record, before, 0o600); err != nil {
		t.Fatal(err)
	}
	n.open()
	n.release("first") // if it is claimed still
	if !rig.ComesTrue(10*time.Second, func() bool { return len(n.records()) == 1 }) {
		t.Fatalf("records: %v", n.records())
	}
	if used := n.addresses(); len(used) != 1 {
		t.Errorf("in use are %v", used)
	}
	if _, err := n.Claim(t.Context(), "third"); !errors.Is(err, cni.ErrExhausted) {
		t.Errorf("a third one: %v", err)
	}
	n.pings(second, second.Gateways[0])
}

// records are the files of attachments.
func (n *node) records() []string {
	files, _ := filepath.Glob(filepath.Join(n.cfg.StateDir, "attachments", "*.json"))
	return files
}
