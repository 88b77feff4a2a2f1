package handover

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/purserd/purser/e2e/rig"
	"github.com/purserd/purser/runtime/handover/protocol"
)

const canary = "canary-R5wZ1nQ8yH"

// real is a runtime that is installed, behind the wrapper.
type real struct {
	*Server
	t  *testing.T
	r  Installed
	id string
}

func onRuntimes(t *testing.T, test func(*testing.T, *real)) {
	rig.Root(t)
	runc, err := exec.LookPath("runc")
	if err != nil {
		t.Fatal("runc is missing: apt-get install runc")
	}
	for name, path := range map[string]string{"runc": runc, "crun": rig.Runtime(t, "crun"), "runsc": rig.Runtime(t, "runsc")} {
		t.Run(name, func(t *testing.T) {
			s, err := Listen(quiet(t.TempDir()))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { s.Close() })
			r, err := s.Install(name, rig.Wrapper(t), path)
			if err != nil {
				t.Fatal(err)
			}
			// runsc keeps a network namespace of its own mounted there.
			t.Cleanup(func() { _ = unix.Unmount(filepath.Join(r.Root, "null-netns"), unix.MNT_DETACH) })
			test(t, &real{Server: s, t: t, r: r, id: fmt.Sprintf("purser-test-%d-%s", os.Getpid(), name)})
		})
	}
}

func (r *real) call(args ...string) (out string, ok bool) {
	cmd := exec.Command(r.r.Path, append([]string{"--root", r.r.Root}, args...)...)
	var buf bytes.Buffer
	// A file, not a pipe: containers keep it open.
	f, err := os.CreateTemp(r.t.TempDir(), "out")
	if err != nil {
		r.t.Fatal(err)
	}
	defer f.Close()
	cmd.Stdout, cmd.Stderr = f, f
	err = cmd.Run()
	data, _ := os.ReadFile(f.Name())
	buf.Write(data)
	return buf.String(), err == nil
}

func (r *real) must(args ...string) {
	r.t.Helper()
	if out, ok := r.call(args...); !ok {
		r.t.Fatalf("%v: %s", args, out)
	}
}

// bundle makes one of busybox that writes its variable SECRET to the file at out.
func (r *real) bundle(change func(*specs.Spec)) string {
	r.t.Helper()
	dir := r.t.TempDir()
	bin := filepath.Join(dir, "rootfs", "bin")
	for _, d := range []string{bin, filepath.Join(dir, "rootfs", "dev"), filepath.Join(dir, "rootfs", "proc")} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			r.t.Fatal(err)
		}
	}
	busybox, err := os.ReadFile("/bin/busybox")
	if err != nil {
		r.t.Fatal(err)
	}
	for _, applet := range []string{"sh", "sleep"} {
		if err := os.WriteFile(filepath.Join(bin, applet), busybox, 0o755); err != nil {
			r.t.Fatal(err)
		}
	}
	spec := &specs.Spec{
		Version: "1.0.2",
		Process: &specs.Process{Args: []string{"sleep", "1000"}, Cwd: "/", Env: []string{"PATH=/bin"}},
		Root:    &specs.Root{Path: "rootfs"},
		Mounts: []specs.Mount{
			{Destination: "/proc", Type: "proc", Source: "proc"},
			{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"mode=755"}},
		},
		Linux: &specs.Linux{CgroupsPath: "/" + r.id, Namespaces: []specs.LinuxNamespace{
			{Type: specs.PIDNamespace}, {Type: specs.MountNamespace}, {Type: specs.NetworkNamespace}, {Type: specs.IPCNamespace}, {Type: specs.UTSNamespace},
		}},
	}
	change(spec)
	data, err := json.Marshal(spec)
	if err != nil {
		r.t.Fatal(err)
	}
	write(r.t, filepath.Join(dir, "config.json"), string(data), 0o600)
	return dir
}

// Hooks are shown the container's own bundle, whose config.json is complete and
// has no secret, as programs that look for devices need it.
func TestHooksSeeTheOwnBundle(t *testing.T) {
	onRuntimes(t, func(t *testing.T, r *real) {
		seen := t.TempDir()
		script := filepath.Join(t.TempDir(), "hook")
		write(t, script, `#!/bin/sh
state=$(cat)
bundle=$(printf %s "$state" | sed -n 's/.*"bundle" *: *"\([^"]*\)".*/\1/p')
cp "$bundle/config.json" `+seen+`/$1
cat /proc/self/fd/199 >> `+seen+`/leaked 2>/dev/null
printf '%s %s\n' "$0" "$E" > `+seen+`/$1.args
`, 0o755)
		token, _ := r.Expect(protocol.OpCreate, r.id, Spec([]string{"SECRET=" + canary}, r.r))
		hook := func(kind string) []specs.Hook {
			return []specs.Hook{{Path: script, Args: []string{"hook", kind}, Env: []string{"E=kept", "PATH=/bin:/usr/bin"}}}
		}
		bundle := r.bundle(func(s *specs.Spec) {
			s.Annotations = map[string]string{protocol.Annotation: token}
			s.Hooks = &specs.Hooks{CreateRuntime: hook("createRuntime"), Poststart: hook("poststart"), Poststop: hook("poststop")}
		})
		r.must("create", "--bundle", bundle, r.id)
		t.Cleanup(func() { r.call("delete", "--force", r.id) })
		r.must("start", r.id)
		r.must("delete", "--force", r.id)
		kinds := []string{"createRuntime", "poststart", "poststop"}
		own, err := os.ReadFile(filepath.Join(bundle, "config.json"))
		if err != nil {
			t.Fatal(err)
		}
		for _, kind := range kinds {
			got, err := os.ReadFile(filepath.Join(seen, kind))
			if err != nil || !bytes.Equal(got, own) {
				t.Errorf("%s saw %s, %v", kind, got, err)
			}
			args, err := os.ReadFile(filepath.Join(seen, kind+".args"))
			if err != nil || !strings.HasSuffix(string(args), " kept\n") {
				t.Errorf("%s was called as %q, %v", kind, args, err)
			}
		}
		if leaked, err := os.ReadFile(filepath.Join(seen, "leaked")); err != nil || len(leaked) != 0 {
			t.Errorf("hooks could read the complete specification: %d bytes, %v", len(leaked), err)
		}
	})
}

// A container of somebody else's is the same with the wrapper and without it.
func TestForeignContainers(t *testing.T) {
	onRuntimes(t, func(t *testing.T, r *real) {
		bundle := r.bundle(func(*specs.Spec) {})
		r.must("create", "--bundle", bundle, r.id)
		t.Cleanup(func() { r.call("delete", "--force", r.id) })
		out, ok := r.call("state", r.id)
		if !ok || !strings.Contains(out, bundle) {
			t.Errorf("state: %s", out)
		}
		r.must("start", r.id)
		r.must("exec", r.id, "sh", "-c", "exit 0")
		if _, ok := r.call("exec", r.id, "sh", "-c", "exit 3"); ok {
			t.Error("the exit status was lost")
		}
		r.must("kill", r.id, "KILL")
		r.must("delete", "--force", r.id)
		if entries, err := os.ReadDir(filepath.Join(r.Dir, protocol.Holders)); err != nil || len(entries) != 0 {
			t.Errorf("holders: %v, %v", entries, err)
		}
	})
}
