package private

import (
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/purserd/purser/e2e/rig"
)

// files of the memory controller that say whether a cgroup is swapped, with what
// they say when it is not: cgroups of version 1 and 2.
var unswappedFiles = map[string]string{"/sys/fs/cgroup/memory%s/memory.swappiness": "0", "/sys/fs/cgroup%s/memory.swap.max": "0"}

func TestCgroup(t *testing.T) {
	rig.Root(t)
	path := fmt.Sprintf("/purser-test-%d-private", os.Getpid())
	// The second one finds what the first has made.
	for range 2 {
		c, err := MakeCgroup(path, false, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Remove()
		found := 0
		for file, want := range unswappedFiles {
			if text, err := os.ReadFile(fmt.Sprintf(file, path)); err == nil && strings.TrimSpace(string(text)) == want {
				found++
			}
		}
		if found == 0 {
			t.Error("no file of the cgroup says that it has no swap")
		}
		sleeper := exec.Command("sleep", "1000")
		if err := sleeper.Start(); err != nil {
			t.Fatal(err)
		}
		if err := c.Add(sleeper.Process.Pid); err != nil {
			t.Error(err)
		}
		in, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", sleeper.Process.Pid))
		if err != nil || !strings.Contains(string(in), path+"\n") {
			t.Errorf("it is in %s, %v", in, err)
		}
		c.Remove() // not while there is somebody in it
		_ = sleeper.Process.Kill()
		_ = sleeper.Wait()
	}
	c, err := MakeCgroup(path, false, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	c.Remove()
	if left, err := filepath.Glob("/sys/fs/cgroup/memory" + path); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
	if err := c.Add(1 << 22); err == nil {
		t.Error("a process that is not there was taken")
	}
	if err := (Cgroup{}).Add(1); err != nil {
		t.Errorf("the zero Cgroup: %v", err)
	}
}
