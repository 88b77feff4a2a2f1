package runtime

import (
	"os"
	"path/filepath"
	"testing"
)

// Both versions of cgroups count what the kernel kills for want of memory, each in a file
// of its own, among other counters. A node has one of them only.
func TestOOMKills(t *testing.T) {
	root := t.TempDir()
	for path, text := range map[string]string{
		"purser/one/memory.events":             "low 0\nhigh 0\nmax 41\noom 5\noom_kill 2\noom_group_kill 1\n",
		"memory/purser/one/memory.oom_control": "oom_kill_disable 0\nunder_oom 1\noom_kill 3\n",
	} {
		path = filepath.Join(root, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, tc := range []struct {
		path    string
		unified bool
		want    uint64
	}{{"/purser/one", true, 2}, {"/purser/one", false, 3}, {"/purser/gone", true, 0}, {"/purser/gone", false, 0}} {
		if got := oomKillsIn(root, tc.path, tc.unified); got != tc.want {
			t.Errorf("%s, unified %v: %d kills, want %d", tc.path, tc.unified, got, tc.want)
		}
	}
}
