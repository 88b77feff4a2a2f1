package private

import (
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

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
		sleeper := exec.Command("sh", "-c", `echo 0 > "$0" && exec sleep 1000`, c.Join)
		if err := sleeper.Start(); err != nil {
			t.Fatal(err)
		}
		await(t, func() bool {
			in, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", sleeper.Process.Pid))
			return err == nil && strings.Contains(string(in), path+"\n")
		})
		c.Remove() // not while there is somebody in it
		_ = sleeper.Process.Kill()
		_ = sleeper.Wait()
	}
	c, err := MakeCgroup(path, false, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	c.Remove()
	if _, err := os.Stat(filepath.Dir(c.Join)); err == nil {
		t.Error("it is still there")
	}
	(Cgroup{}).Remove()
}

func await(t *testing.T, is func() bool) {
	t.Helper()
	if !rig.ComesTrue(10*time.Second, is) {
		t.Fatal("the process is not in the cgroup")
	}
}
