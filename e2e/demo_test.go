package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/purserd/purser/e2e/rig"
)

// The README's first command, in a clean clone.
func TestDemoInACleanClone(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		rig.Lacking(t, "a minute: run it without -short")
	}
	readme, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, command := range []string{"make demo", "make test"} {
		if !strings.Contains(string(readme), command) {
			t.Errorf("the README does not name %s", command)
		}
	}
	clone := filepath.Join(t.TempDir(), "purser")
	if r := finish(t, exec.Command("git", "clone", "-q", "..", clone)); r.code != 0 {
		t.Fatal(r.stderr)
	}
	cmd := exec.CommandContext(within(t, 5*time.Minute), "make", "demo")
	cmd.Dir = clone
	r := finish(t, cmd)
	if r.code != 0 {
		t.Fatalf("make demo: exit status %d\n%s%s", r.code, r.stdout, r.stderr)
	}
	for _, want := range []string{"dev", "prod", "openai-secret", "algolia-secret", "potus_speeches_dev", "potus_speeches_prod", "✓ in none", "meta.db", "has moved to the new key", "was tried, twice, and backed out"} {
		if !strings.Contains(r.stdout, want) {
			t.Errorf("%s is not in what make demo printed:\n%s", want, r.stdout)
		}
	}
}
