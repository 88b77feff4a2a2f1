package e2e

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// Of a container whose environment has a secret, neither containerd, nor the runtime, nor
// purser, nor a file that they keep shows the value, while it runs and when it is gone.
//
// Complaint this answers: containers/podman#23788.
func TestSecretInTheEnvironmentIsNotInInspect(t *testing.T) {
	onEach(t, func(t *testing.T, n *node) {
		n.runWith(canary, "secret", "set", "s", "KEY=-")
		n.deploy(strings.Replace(sleeper, "echo $KEY; ", "", 1), "--wait")
		if got := n.must("exec", "a/f", "--", "sh", "-c", "echo ${#KEY}"); strings.TrimSpace(got) != "21" {
			t.Fatalf("the function does not have its secret: %s", got)
		}
		id, _, _ := strings.Cut(n.containers()[0], " ")
		for what, shown := range map[string]string{
			"ctr containers info": strings.Join(n.containerd("containers", "info", id), "\n"),
			"purser get":          n.must("get", "a/f", "-o", "json"),
			"purser ps":           n.must("ps", "-a", "-o", "yaml"),
			"purser secret show":  n.must("secret", "show", "s", "-o", "json"),
			"purser events":       n.must("events", "-o", "json"),
		} {
			if strings.Contains(shown, canary) {
				t.Errorf("%s shows the value", what)
			}
		}
		if len(n.holding(id)) == 0 {
			t.Error("the search does not find even the container's ID")
		}
		for _, path := range n.holding(canary) {
			t.Errorf("while it runs, %s holds the value", path)
		}
		n.must("rm", "-f", "a/f")
		for _, path := range n.holding(canary) {
			t.Errorf("when it is gone, %s holds the value", path)
		}
	})
}

// holding are the files of the node that hold a text. Those that have many names, as an
// image's programs, are read once.
func (n *node) holding(text string) []string {
	n.t.Helper()
	var found []string
	seen := map[[2]uint64]bool{}
	_ = filepath.WalkDir(n.dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return nil
		}
		var st unix.Stat_t
		if unix.Stat(path, &st) != nil || seen[[2]uint64{st.Dev, st.Ino}] {
			return nil
		}
		seen[[2]uint64{st.Dev, st.Ino}] = true
		if data, err := os.ReadFile(path); err == nil && strings.Contains(string(data), text) {
			found = append(found, path)
		}
		return nil
	})
	return found
}
