package e2e

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/purserd/purser/e2e/rig"
)

// A handler behind a pipe, which a limit of no core at all does not keep from
// getting one, sees nothing of a container, of a command in one, of a runtime that
// is a container's process, or of the agent when they crash.
func TestCoreHandlerGetsNothing(t *testing.T) {
	rig.Exclusive(t)
	// All of the node is on a device of its own: runsc is among its runtimes then.
	d := makeDisk(t, rig.V24)
	d.env = append(d.env, "GOTRACEBACK=crash") // a Go program makes no core otherwise
	d.begin(t)
	dir := filepath.Dir(d.mount)
	rig.CoreHandler(t, dir)
	const value = "canary-core-b7Hs9QwZ2n"
	d.runWith(value, "secret", "set", "s", "KEY=-")
	for _, runtime := range []string{"runc", "crun", "runsc"} {
		args := []string{"run", "--runtime", runtime, "--image", image, "--secret", "s", "--", "sh", "-c", "sh -c 'kill -SEGV $$'; exit 3"}
		if r := d.run(args...); r.code != 3 {
			t.Errorf("%s: %+v", runtime, r)
		}
	}
	d.deploy(strings.ReplaceAll(sleeperWithSecret, "RUNTIME", "runc"), "--wait")
	if r := d.run("exec", "a/f", "--", "sh", "-c", "kill -SEGV $$"); r.code != 128+int(syscall.SIGSEGV) {
		t.Errorf("exec: %+v", r)
	}
	d.deploy(strings.NewReplacer("RUNTIME", "runsc", "app: a", "app: g").Replace(sleeperWithSecret), "--wait")
	for name, pid := range map[string]int{"a sandbox": d.get("g/f").pid(), "the agent": d.pidOf(t, "purser agent")} {
		if err := syscall.Kill(pid, syscall.SIGSEGV); err != nil {
			t.Fatal(err)
		}
		d.eventually(name+" has ended", func() bool { return !alive(pid) })
	}
	// The last crash is one that the handler gets: those before are behind it.
	control := exec.Command("sh", "-c", "ulimit -c 0; kill -SEGV $$")
	control.Env = append(os.Environ(), "KEY=control")
	_ = control.Run()
	environ := filepath.Join(dir, fmt.Sprintf("environ-%d", control.ProcessState.Pid()))
	d.eventually("the core of a process that nothing protects", func() bool {
		data, err := os.ReadFile(environ)
		return err == nil && bytes.Contains(data, []byte("KEY=control"))
	})
	found := finish(t, exec.Command("grep", "-rlaF", value, dir, "--exclude-dir=d", "--exclude=disk"))
	if found.code != 1 {
		t.Errorf("status %d: the value is in %s%s", found.code, found.stdout, found.stderr)
	}
}
