package runtime_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/containerd/v2/client"

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
	n := newNode(t, rig.V24)
	n.Close()
	n.cfg.Runtimes = map[string]runtime.RuntimeConfig{}
	for _, name := range []string{"crun", "runsc"} {
		n.cfg.Runtimes[name] = runtime.RuntimeConfig{Path: rig.Runtime(t, name)}
	}
	n.cfg.DefaultRuntime = "crun"
	n.open()
	for name := range n.cfg.Runtimes {
		t.Run(name, func(t *testing.T) { testHandover(t, n, name) })
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
	data, err := os.ReadFile(filepath.Join(n.cfg.LogDir, id+".log"))
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
	c, err := client.New(n.daemon.Address, client.WithDefaultNamespace(n.cfg.Namespace))
	if err != nil {
		n.t.Fatal(err)
	}
	defer c.Close()
	all, err := c.ContainerService().List(namespaced(n))
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
	eachVersion(t, func(t *testing.T, n *node) {
		in := n.instance("s", spec("sleep", "1000"))
		in.Env = append(in.Env.(environ), "SECRET="+canary)
		if err := n.Create(t.Context(), in); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { n.delete("s") })
		if _, err := n.Start(t.Context(), "s"); err != nil {
			t.Fatal(err)
		}
		var out, errs bytes.Buffer
		if _, err := n.Exec(t.Context(), "s", runtime.ExecSpec{Command: []string{"env"}}, &out, &errs); err != nil || strings.Contains(out.String(), "SECRET") || !strings.Contains(out.String(), "GREETING=hello") {
			t.Errorf("%v, %q, %q", err, out.String(), errs.String())
		}
	})
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
