package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/purserd/purser/e2e/rig"
)

// copied is a CDI specification with one device, a copy of /dev/zero beside a file and
// variables of many places.
const copied = `cdiVersion: "0.6.0"
kind: example.com/zero
devices:
  - name: %s
    containerEdits:
      env: [DEVICE=device, LAYERED=device, ABOVE=device, OF_SECRET=device, OF_ENV=device, PURSER_APP=device]
      deviceNodes: [{path: /dev/copied, hostPath: /dev/zero}]
      mounts: [{hostPath: %s, containerPath: /opt/driver, options: [ro, nosuid, bind]}]
`

// deviceNode is a node with an OCI runtime of its own that looks for devices in a directory.
type deviceNode struct {
	*node
	dir string
}

// onEachWithDevices runs a test with runc on the older containerd, and with crun on the newer.
func onEachWithDevices(t *testing.T, test func(t *testing.T, n deviceNode)) {
	t.Parallel()
	for _, c := range []struct {
		version rig.Version
		runtime string
	}{{rig.V16, "runc"}, {rig.V24, "crun"}} {
		t.Run(fmt.Sprintf("%s on containerd %s", c.runtime, c.version), func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			config := fmt.Sprintf("cdi_spec_dirs = [%q]\n[rotation]\nquiet = '100ms'\n", dir)
			if c.runtime != "runc" {
				config = fmt.Sprintf("default_runtime = %q\n%s[runtimes.%s]\npath = %q\n", c.runtime, config, c.runtime, rig.Runtime(t, c.runtime))
			}
			n := deviceNode{emptyNodeWith(t, c.version, config), dir}
			n.must("image", "import", boxImage(t))
			test(t, n)
		})
	}
}

// add has the node have a device, and returns the file that says so.
func (n deviceNode) add(name string) string {
	n.t.Helper()
	driver, path := filepath.Join(n.dir, "driver"), filepath.Join(n.dir, name+".yaml")
	for path, content := range map[string]string{driver: "driver\n", path: fmt.Sprintf(copied, name, driver)} {
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			n.t.Fatal(err)
		}
	}
	return path
}

// using is a service with a device that says in its log what it was given of it.
func using(device, more string) string {
	return `
app: a
function: f
image: {ref: ` + image + `, env: {ABOVE: image.env}}
env: {OF_ENV: env}
secrets: [{name: s}]
resources: {devices: [example.com/zero=` + device + `]}
command: [sh, -c, 'trap "exit 0" TERM; head -c 3 /dev/copied | wc -c; while :; do sleep 0.1; done']
restart: {backoff_min: 100ms, backoff_max: 200ms}
` + more
}

const quick = "rotation: {min_ready: 200ms}\n"

// A function is given the devices that it names, and what belongs to them: those of the node,
// in a job and a service alike, and in what is run in them.
func TestDevices(t *testing.T) {
	onEachWithDevices(t, func(t *testing.T, n deviceNode) {
		n.must("secret", "set", "s", "OF_SECRET=secret", "KEY=one")
		n.add("0")
		show := "[ \"$OF_SECRET\" = secret ] && OF_SECRET=it; echo $FROM_IMAGE $DEVICE $LAYERED $ABOVE $OF_SECRET $OF_ENV $PURSER_APP; cat /opt/driver; head -c 3 /dev/copied | wc -c"
		if got := n.must("run", "--image", image, "--device", "example.com/zero=0", "--", "sh", "-c", show); got != "image device device device device device run\ndriver\n3\n" {
			t.Errorf("a job has %q", got)
		}
		if got := n.run("run", "--image", image, "--", "sh", "-c", "ls /dev/copied /opt/driver"); got.code == 0 {
			t.Errorf("a job without devices has %+v", got)
		}
		n.deploy(using("0", quick), "--wait")
		if got := n.must("exec", "a/f", "--", "sh", "-c", show); got != "image device device image.env it env a\ndriver\n3\n" {
			t.Errorf("a command in a service has %q", got)
		}
		if got := n.must("logs", "a/f"); got != "3\n" {
			t.Errorf("a service has written %q", got)
		}
		if got := n.must("get", "a/f", "-o", "yaml"); !strings.Contains(got, "- example.com/zero=0") {
			t.Errorf("it is shown as %s", got)
		}
		got := n.refused("deploy", file(t, "a.yaml", using("0", "rotation: {strategy: rolling}\n")))
		if !strings.Contains(got, "rotation.strategy: must be restart, or left out") || !strings.Contains(got, "a device (resources.devices) is for one") {
			t.Errorf("rolling: %s", got)
		}
		before := n.get("a/f")
		n.must("secret", "set", "s", "KEY=two")
		after := n.await("a/f", "moved", func(w workload) bool {
			if len(w.Instances) > 1 {
				t.Fatalf("two have the device: %+v", w.Instances)
			}
			return w.State == "running" && len(w.Instances) == 1 && w.Pins[0].Version == 2 && w.Rotation.State == "current"
		})
		if after.pid() == before.pid() || n.value("a/f") != "two" || of(n.events(), "Rolling") > 0 {
			t.Errorf("it was %+v and is %+v", before, after)
		}
	})
}

// A workload whose device the node does not have waits for it, and says so. What runs is not
// stopped for one, neither by another spec nor by another version of a secret.
func TestDevicesThatAreNotThere(t *testing.T) {
	onEachWithDevices(t, func(t *testing.T, n deviceNode) {
		n.must("secret", "set", "s", "KEY=one")
		n.deploy(using("0", quick))
		waits := func(w workload) bool {
			return w.State == "backing_off" && strings.HasPrefix(w.Reason, "resources.devices[0]: this node has no device example.com/zero=0") &&
				strings.Contains(w.Reason, "the CDI specifications in "+n.dir+" name none")
		}
		n.await("a/f", "waiting for its device", waits)
		n.awaitEvents("BackingOff")
		ended := n.runsWaiting("run", "--image", image, "--device", "example.com/zero=0", "--", "echo", "ran")
		path := n.add("0")
		runs := n.await("a/f", "running", inState("running"))
		if got := <-ended; got != "ran\n" {
			t.Errorf("the job has written %q", got)
		}
		if got := n.refused("deploy", file(t, "a.yaml", using("O", quick))); !strings.Contains(got, "a/f runs on as it is") || !strings.Contains(got, "did you mean example.com/zero=0?") {
			t.Errorf("another spec: %s", got)
		}
		n.takeAway(path, runs)
		n.await("a/f", "left alone", func(w workload) bool { return w.State == "running" && w.pid() == runs.pid() })
		n.add("0")
		n.await("a/f", "moved", func(w workload) bool {
			return w.State == "running" && w.pid() != runs.pid() && w.Pins[0].Version == 2 && w.Rotation.State == "current"
		})
		n.crashWithout(path)
	})
}

// runsWaiting begins a purser run that says what it waits for, and returns what it will have
// written.
func (n deviceNode) runsWaiting(args ...string) <-chan string {
	n.t.Helper()
	said, err := os.Create(filepath.Join(n.t.TempDir(), "stderr"))
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() { said.Close() })
	job, out := n.command(args...), &strings.Builder{}
	job.Stdout, job.Stderr = out, said
	if err := job.Start(); err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() { _ = job.Process.Kill() })
	ended := make(chan string, 1)
	go func() {
		if err := job.Wait(); err != nil {
			fmt.Fprint(out, err)
		}
		ended <- out.String()
	}()
	n.eventually("the job to say what it waits for", func() bool {
		text, err := os.ReadFile(said.Name())
		return err == nil && strings.Contains(string(text), "is backing_off: resources.devices[0]: this node has no device example.com/zero=0")
	})
	return ended
}

// takeAway removes a device, and has a rotation find that out.
func (n deviceNode) takeAway(path string, runs workload) {
	n.t.Helper()
	if err := os.Remove(path); err != nil {
		n.t.Fatal(err)
	}
	n.must("secret", "set", "s", "KEY=two")
	n.awaitEvents("RotationDeferred")
	for _, e := range n.events() {
		if e.Type == "RotationDeferred" && !strings.Contains(e.Message, "this node has no device example.com/zero=0") {
			n.t.Errorf("put off as %s", e.Message)
		}
	}
	if now := n.get("a/f"); now.pid() != runs.pid() || now.Pins[0].Version != 1 {
		n.t.Errorf("it was %+v and is %+v", runs, now)
	}
}

// crashWithout has a service end whose device is gone, and an agent die meanwhile: it comes
// back with the device.
func (n deviceNode) crashWithout(path string) {
	n.t.Helper()
	if err := os.Remove(path); err != nil {
		n.t.Fatal(err)
	}
	if err := syscall.Kill(n.get("a/f").pid(), syscall.SIGKILL); err != nil {
		n.t.Fatal(err)
	}
	lacks := func(w workload) bool { return w.State == "backing_off" && strings.Contains(w.Reason, "has no device") }
	n.await("a/f", "waiting for its device", lacks)
	n.killAgent()
	n.await("a/f", "waiting for its device", lacks)
	n.add("0")
	if w := n.await("a/f", "running", inState("running")); w.Pins[0].Version != 2 {
		n.t.Errorf("it has come back as %+v", w)
	}
}
