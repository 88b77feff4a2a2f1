package e2e

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/purserd/purser/e2e/rig"
)

// nextVersion builds purser and its wrapper as a later version would be, with
// another protocol between the two.
func nextVersion(t *testing.T) (dir string) {
	t.Helper()
	dir = t.TempDir()
	const path = "../runtime/handover/protocol/protocol.go"
	source, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	changed := strings.Replace(string(source), "const Version = 1\n", "const Version = 2\n", 1)
	if changed == string(source) {
		t.Fatal("the protocol's version is not where it was")
	}
	full, err := filepath.Abs(path)
	if err != nil {
		t.Fatal(err)
	}
	overlay, err := json.Marshal(map[string]any{"Replace": map[string]string{full: file(t, "protocol.go", changed)}})
	if err != nil {
		t.Fatal(err)
	}
	build := exec.Command("go", "build", "-trimpath", "-overlay", file(t, "overlay.json", string(overlay)), "-o", dir, "..", "../cmd/purser-oci")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if r := finish(t, build); r.code != 0 {
		t.Fatal(r.stderr)
	}
	return dir
}

// install puts the programs of one directory into another, as a package manager
// does it: each in one step, whether it runs or not.
func install(t *testing.T, from, to string) {
	t.Helper()
	for _, name := range []string{"purser", "purser-oci"} {
		data, err := os.ReadFile(filepath.Join(from, name))
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(to, name)
		if err := os.WriteFile(path+".new", data, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(path+".new", path); err != nil {
			t.Fatal(err)
		}
	}
}

// Containers with secrets that an earlier version has made run on through an
// upgrade; then they can be exec'd into, stopped and removed, with the new wrapper
// and the new protocol. Between the upgrade and the new agent, what needs both says
// so, and what needs only the wrapper goes on.
func TestUpgrade(t *testing.T) {
	t.Parallel()
	next := nextVersion(t)
	for _, v := range rig.Versions {
		t.Run("containerd "+string(v), func(t *testing.T) {
			installed := t.TempDir()
			install(t, filepath.Dir(purser(t)), installed)
			n := &node{t: t, version: v, dir: rig.Dir(t), program: filepath.Join(installed, "purser")}
			n.start()
			t.Cleanup(n.cleanup)
			n.must("image", "import", boxImage(t))
			n.runWith(canary, "secret", "set", "s", "KEY=-")
			n.deploy(`
app: a
defaults: {image: {ref: `+image+`}, secrets: [{name: s}], command: [sh, -c, 'exec sleep 100000'], stop: {grace: 0s}}
functions:
  - {function: f}
  - {function: g}
`, "--wait")
			before := n.get("a/f")
			install(t, next, installed)

			r := n.run("exec", "a/f", "--", "true")
			if r.code == 0 || !strings.Contains(r.stderr, "restart the agent after an upgrade") {
				t.Errorf("exec with the earlier agent: %+v", r)
			}
			n.must("rm", "a/g")

			agent := n.pidOf(t, "purser agent")
			if err := syscall.Kill(agent, syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
			n.eventually("the new agent", func() bool { return !alive(agent) && n.serves() })
			after := n.await("a/f", "adopted", inState("running"))
			if after.pid() != before.pid() {
				t.Errorf("process %d has become %d", before.pid(), after.pid())
			}
			if got := n.must("exec", "a/f", "--", "sh", "-c", `printf %s "${KEY#?}"`); got != canary[1:] {
				t.Errorf("exec got %q", got)
			}
			n.must("stop", "a/f")
			n.must("start", "a/f")
			n.await("a/f", "made by the new version", func(w workload) bool { return w.State == "running" && w.pid() != before.pid() })
			n.must("rm", "a/f")
		})
	}
}
