package runtime_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/purserd/purser/e2e/rig"
	"github.com/purserd/purser/runtime"
)

const canary = "canary-Q7bV0xK2mW"

// What comes from a secret reaches the container and what is run in it, and
// nothing that containerd keeps.
func TestSecretsAreHandedOver(t *testing.T) {
	eachVersion(t, func(t *testing.T, n *node) { testHandover(t, n, "runc") })
}

// The same with the other runtimes, on the newer containerd.
func TestSecretsWithOtherRuntimes(t *testing.T) {
	n := newNodeWith(t, rig.V24, "crun", "runsc")
	for name := range n.cfg.Runtimes {
		t.Run(name, func(t *testing.T) {
			testHandover(t, n, name)
			testForeignExec(t, n, name)
		})
	}
}

func testHandover(t *testing.T, n *node, oci string) {
	id := "s-" + oci
	s := spec("sh", "-c", "echo $SECRET; env | grep PURSER_OCI; echo done; sleep 1000")
	s.Runtime = &oci
	in := n.instance(id, s)
	env := append(in.Env.(environ), "SECRET="+canary)
	in.Env = env
	if err := n.Create(t.Context(), in); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.delete(id) })
	pid, err := n.Start(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	n.await(id, "done")
	if out := n.written(id); !strings.Contains(out, canary) || strings.Contains(out, "PURSER_OCI") {
		t.Errorf("the container has %s", out)
	}
	if fds, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/199", pid)); err != nil || len(fds) != 0 {
		t.Errorf("the specification reached the container: %v, %v", fds, err)
	}
	var out, errs bytes.Buffer
	e := runtime.ExecSpec{Command: []string{"sh", "-c", "echo $SECRET $GREETING $X; env | grep -c PURSER_OCI; ls /proc/self/fd"}, Secrets: env, Env: map[string]string{"X": "y"}}
	if _, err := n.Exec(t.Context(), id, e, &out, &errs); err != nil || !strings.HasPrefix(out.String(), canary+" hello y\n0\n") || strings.Contains(out.String(), "199") {
		t.Errorf("exec: %v, %q, %q", err, out.String(), errs.String())
	}
	n.wantNoCanary()
	n.delete(id)
	n.wantNoCanary()
	if left, err := os.ReadDir(filepath.Join(n.cfg.RunDir, "private", "holders")); err != nil || len(left) != 0 {
		t.Errorf("holders left: %v, %v", left, err)
	}
}

// written is what a container that runs has written so far.
func (n *node) written(id string) string {
	data, err := os.ReadFile(filepath.Join(n.cfg.LogDir, id, "1.log"))
	if err != nil {
		n.t.Fatal(err)
	}
	return string(data)
}

// wantNoCanary searches all that containerd and purser wrote, but for what the
// container itself did.
func (n *node) wantNoCanary() {
	n.t.Helper()
	err := filepath.WalkDir(n.daemon.Dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() || strings.HasPrefix(path, n.cfg.LogDir) || strings.HasPrefix(path, filepath.Join(n.cfg.RunDir, "private")) {
			return nil
		}
		data, err := os.ReadFile(path)
		if err == nil && bytes.Contains(data, []byte(canary)) {
			n.t.Errorf("%s has a secret", path)
		}
		return nil
	})
	if err != nil {
		n.t.Error(err)
	}
	all, err := n.client().ContainerService().List(namespaced(n))
	if err != nil {
		n.t.Fatal(err)
	}
	for _, record := range all {
		if bytes.Contains(record.Spec.GetValue(), []byte(canary)) {
			n.t.Errorf("containerd's record of %s has a secret", record.ID)
		}
	}
}

// An exec by somebody else's client gets no secret and does no harm.
func TestForeignExec(t *testing.T) {
	eachVersion(t, func(t *testing.T, n *node) { testForeignExec(t, n, "runc") })
}

func testForeignExec(t *testing.T, n *node, oci string) {
	id := "foreign-" + oci
	s := spec("sleep", "1000")
	s.Runtime = &oci
	in := n.instance(id, s)
	in.Env = append(in.Env.(environ), "SECRET="+canary)
	if err := n.Create(t.Context(), in); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.delete(id) })
	if _, err := n.Start(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	ctr := exec.Command(filepath.Join(n.daemon.BinDir, "ctr"), "--address", n.daemon.Address, "--namespace", n.cfg.Namespace,
		"tasks", "exec", "--exec-id", "x", id, "env")
	ctr.Env = append(os.Environ(), "TMPDIR="+t.TempDir())
	out, err := ctr.CombinedOutput()
	if err != nil || strings.Contains(string(out), "SECRET") || !strings.Contains(string(out), "GREETING=hello") {
		t.Errorf("%v: %s", err, out)
	}
	// Nor is the container of a secret written to a disk for one.
	ctr = exec.Command(filepath.Join(n.daemon.BinDir, "ctr"), "--address", n.daemon.Address, "--namespace", n.cfg.Namespace,
		"tasks", "checkpoint", "--image-path", t.TempDir(), id)
	if out, err := ctr.CombinedOutput(); err == nil || !strings.Contains(string(out), "would write the secrets of container "+id+" to disk") {
		t.Errorf("checkpoint: %v: %s", err, out)
	}
}

// Containers that an earlier agent has made are in good hands although the wrapper has
// moved since, and nothing has been launched yet.
func TestWrapperThatMoved(t *testing.T) {
	n := newNode(t, rig.V24)
	n.Close()
	program, err := os.ReadFile(n.cfg.Wrapper)
	if err != nil {
		t.Fatal(err)
	}
	moved := func(name string) {
		t.Helper()
		n.cfg.Wrapper = filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(n.cfg.Wrapper, program, 0o755); err != nil {
			t.Fatal(err)
		}
		n.open()
	}
	moved("first")
	in := n.instance("s", spec("sleep", "1000"))
	in.Env = append(in.Env.(environ), "SECRET="+canary)
	if err := n.Create(t.Context(), in); err != nil {
		t.Fatal(err)
	}
	if _, err := n.Start(t.Context(), "s"); err != nil {
		t.Fatal(err)
	}
	n.Close()
	if err := os.Remove(n.cfg.Wrapper); err != nil {
		t.Fatal(err)
	}
	moved("second")
	var out, errs bytes.Buffer
	e := runtime.ExecSpec{Command: []string{"sh", "-c", "echo $SECRET"}, Secrets: in.Env}
	if _, err := n.Exec(t.Context(), "s", e, &out, &errs); err != nil || out.String() != canary+"\n" {
		t.Errorf("exec: %v, %q, %q", err, out.String(), errs.String())
	}
	n.delete("s")
}

// A cgroup of the runtimes that somebody has removed is made again.
func TestRemovedCgroup(t *testing.T) {
	n := newNode(t, rig.V24)
	left, err := filepath.Glob("/sys/fs/cgroup/memory" + n.cfg.CgroupParent + "/_runtimes-*")
	if err != nil || len(left) != 1 {
		rig.Lacking(t, "a memory controller of version 1: %v, %v", left, err)
	}
	if err := os.Remove(left[0]); err != nil {
		t.Fatal(err)
	}
	in := n.instance("s", spec("true"))
	in.Env = append(in.Env.(environ), "SECRET="+canary)
	if err := n.Create(t.Context(), in); err != nil {
		t.Error(err)
	}
	n.delete("s")
}

// Without an agent nothing is created, and containerd says why.
func TestNobodyToAsk(t *testing.T) {
	eachVersion(t, func(t *testing.T, n *node) {
		in := n.instance("s", spec("true"))
		in.Env = append(in.Env.(environ), "SECRET="+canary)
		socket := filepath.Join(n.cfg.RunDir, "private", "oci.sock")
		if err := os.Rename(socket, socket+".away"); err != nil {
			t.Fatal(err)
		}
		err := n.Create(context.Background(), in)
		if err == nil || !strings.Contains(err.Error(), "purser's agent, which has this container's secrets, is not to be reached") {
			t.Errorf("%v", err)
		}
		n.wantNothing()
		if err := os.Rename(socket+".away", socket); err != nil {
			t.Fatal(err)
		}
		if err := n.Create(t.Context(), in); err != nil {
			t.Error(err)
		}
		n.delete("s")
	})
}
