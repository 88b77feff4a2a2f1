package runtime_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	purserv1 "github.com/purserd/purser/api/purser/v1"
	"github.com/purserd/purser/e2e/rig"
	"github.com/purserd/purser/runtime"
	"github.com/purserd/purser/runtime/devices"
)

// fuse has devices that are copies of /dev/fuse, which containers have no leave to use
// otherwise: one for both ways, one for reading alone, one for neither.
const fuse = `cdiVersion: "0.6.0"
kind: example.com/fuse
containerEdits:
  env: [FUSE=1, GREETING=fuse]
devices:
  - name: both
    containerEdits:
      deviceNodes: [{path: /dev/both, hostPath: /dev/fuse, permissions: rw}]
      mounts: [{hostPath: DIR/lib, containerPath: /opt/lib, options: [ro, nosuid, bind]}]
      hooks: [{hookName: createRuntime, path: DIR/hook}, {hookName: createContainer, path: DIR/environment}]
  - name: read
    containerEdits:
      deviceNodes: [{path: /dev/read, hostPath: /dev/fuse, permissions: r}]
  - name: none
    containerEdits:
      deviceNodes: [{path: /dev/unusable, hostPath: /dev/fuse, permissions: none}]
`

// tryOpen says of device nodes whether they can be opened, and how.
const tryOpen = `for d in both read unusable; do
  if [ ! -e /dev/$d ]; then echo $d absent
  elif (: <>/dev/$d) 2>/dev/null; then echo $d both
  elif (: </dev/$d) 2>/dev/null; then echo $d read
  else echo $d refused; fi
done; `

// withDevices has a node know the devices of fuse, and returns the directory of what they
// consist of.
func (n *node) withDevices() (dir string) {
	n.t.Helper()
	dir = filepath.Join(n.daemon.Dir, "devices")
	hook, environment := "#!/bin/sh\ncat >"+dir+"/state\n", "#!/bin/sh\nenv >"+dir+"/environ\n"
	err := errors.Join(os.MkdirAll(filepath.Join(dir, "lib"), 0o755), os.MkdirAll(filepath.Join(dir, "cdi"), 0o755),
		os.WriteFile(filepath.Join(dir, "lib", "driver"), []byte("driver\n"), 0o644),
		os.WriteFile(filepath.Join(dir, "hook"), []byte(hook), 0o755),
		os.WriteFile(filepath.Join(dir, "environment"), []byte(environment), 0o755),
		os.WriteFile(filepath.Join(dir, "cdi", "fuse.yaml"), []byte(strings.ReplaceAll(fuse, "DIR", dir)), 0o644),
		os.WriteFile(filepath.Join(dir, "cdi", "broken.yaml"), []byte("devices: nonsense"), 0o644))
	if err != nil {
		n.t.Fatal(err)
	}
	n.Close()
	n.cfg.CDISpecDirs = []string{filepath.Join(dir, "cdi")}
	n.open()
	return dir
}

// runWithDevices runs a container as [node.run] does, with devices and with more variables.
func (n *node) runWithDevices(id string, s *purserv1.LaunchSpec, names []string, more ...string) (stdout string) {
	n.t.Helper()
	s.Resources = &purserv1.Resources{Devices: names}
	in := n.instance(id, s)
	var err error
	if in.Devices, err = n.Devices(s); err != nil {
		n.t.Fatal(err)
	}
	in.Env = append(append(in.Env.(environ), in.Devices.Env()...), more...)
	if err := n.Create(n.t.Context(), in); err != nil {
		n.t.Fatal(err)
	}
	defer n.delete(id)
	if _, err := n.Start(n.t.Context(), id); err != nil {
		n.t.Fatal(err)
	}
	n.wait(id)
	stdout, stderr := n.output(id)
	if stderr != "" {
		n.t.Errorf("%s: %s", id, stderr)
	}
	return stdout
}

// A container has of the node's devices those that it names, with all that belongs to them,
// and may use them as their specification says.
func TestDevices(t *testing.T) {
	eachVersion(t, func(t *testing.T, n *node) { testDevices(t, n, "runc") })
}

func TestDevicesWithOtherRuntimes(t *testing.T) {
	t.Parallel()
	n := newNodeWith(t, rig.V24, "crun", "runsc")
	for name := range n.cfg.Runtimes {
		t.Run(name, func(t *testing.T) { testDevices(t, n, name) })
	}
}

func testDevices(t *testing.T, n *node, oci string) {
	dir := n.withDevices()
	command := func() *purserv1.LaunchSpec {
		s := spec("sh", "-c", tryOpen+`cat /opt/lib/driver 2>&1; echo "FUSE=$FUSE"; touch /opt/lib/x 2>/dev/null || echo read-only`)
		s.Runtime = &oci
		return s
	}
	all := []string{"example.com/fuse=both", "example.com/fuse=read", "example.com/fuse=none"}
	for name, c := range map[string]struct {
		names, more []string
		want        string
	}{
		"all":           {all[:2], nil, "both both\nread both\nunusable absent\ndriver\nFUSE=1\nread-only\n"},
		"secretly":      {all[:1], []string{"SECRET=" + canary}, "both both\nread absent\nunusable absent\ndriver\nFUSE=1\nread-only\n"},
		"permissions":   {all[1:], nil, "both absent\nread read\nunusable read\ncat: can't open '/opt/lib/driver': No such file or directory\nFUSE=1\nread-only\n"},
		"nopermissions": {all[2:], nil, "both absent\nread absent\nunusable refused\ncat: can't open '/opt/lib/driver': No such file or directory\nFUSE=1\nread-only\n"},
		"without":       {nil, nil, "both absent\nread absent\nunusable absent\ncat: can't open '/opt/lib/driver': No such file or directory\nFUSE=\nread-only\n"},
	} {
		if oci == "runsc" && strings.Contains(name, "permissions") {
			continue // it gives a device whole, which is gVisor's own
		}
		t.Run(name, func(t *testing.T) {
			id := fmt.Sprintf("%s-%s", oci, name)
			if got := n.runWithDevices(id, command(), c.names, c.more...); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
			state, err := os.ReadFile(filepath.Join(dir, "state"))
			hooked := c.want[:9] == "both both"
			if hooked != (err == nil && strings.Contains(string(state), `"`+id+`"`)) {
				t.Errorf("the hook: %v, %s", err, state)
			}
			if variables, err := os.ReadFile(filepath.Join(dir, "environ")); hooked != (err == nil) || strings.Contains(string(variables), "FUSE=") {
				t.Errorf("a hook has the container's variables: %v, %s", err, variables)
			}
			n.wantNoCanary()
			_ = errors.Join(os.Remove(filepath.Join(dir, "state")), os.Remove(filepath.Join(dir, "environ")))
		})
	}
	testFailingHooks(t, n, dir, oci)
	missing := spec("true")
	missing.Resources = &purserv1.Resources{Devices: []string{"example.com/fuse=other"}}
	if _, err := n.Devices(missing); !errors.Is(err, devices.ErrMissing) || !strings.Contains(err.Error(), "broken.yaml") {
		t.Errorf("one that the node does not have: %v", err)
	}
}

// failingHooks are devices that are not well.
const failingHooks = `cdiVersion: "0.6.0"
kind: a.b/c
devices:
  - {name: runtime, containerEdits: {hooks: [{hookName: createRuntime, path: /bin/false}]}}
  - {name: container, containerEdits: {hooks: [{hookName: createContainer, path: /bin/false}]}}
  - {name: hanging, containerEdits: {hooks: [{hookName: createRuntime, path: /bin/sleep, args: [sleep, "1000"], timeout: 1}]}}
`

// testFailingHooks: what a device's hook fails for is no fault of the workload's.
func testFailingHooks(t *testing.T, n *node, dir, oci string) {
	if err := os.WriteFile(filepath.Join(dir, "cdi", "failing.yaml"), []byte(failingHooks), 0o644); err != nil {
		t.Fatal(err)
	}
	names := []string{"runtime", "hanging", "container"}
	if oci == "runsc" {
		names = names[:1] // it waits for the second, and of the third it does not say what has failed
	}
	for _, name := range names {
		s := spec("true")
		s.Runtime, s.Resources = &oci, &purserv1.Resources{Devices: []string{"a.b/c=" + name}}
		in := n.instance(oci+"-failing-"+name, s)
		var err error
		if in.Devices, err = n.Devices(s); err != nil {
			t.Fatal(err)
		}
		err = n.Create(t.Context(), in)
		if refused := (*runtime.StartError)(nil); err == nil || errors.As(err, &refused) || !strings.Contains(err.Error(), "a hook of its devices has failed: ") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
