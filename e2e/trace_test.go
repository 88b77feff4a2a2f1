package e2e

import (
	"bytes"
	"crypto/md5"
	"encoding/base64"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/purserd/purser/e2e/rig"
)

// diskNode is a node all of whose files are on a block device of its own, with
// the temporary directories of everything that it starts.
type diskNode struct {
	*node
	device string // the file behind the device
	mount  string
}

// makeDisk makes the device, and a node that begin starts.
func makeDisk(t *testing.T, v rig.Version) *diskNode {
	t.Helper()
	base := rig.Dir(t)
	d := &diskNode{device: filepath.Join(base, "disk"), mount: filepath.Join(base, "d")}
	if err := os.Mkdir(d.mount, 0o755); err != nil {
		t.Fatal(err)
	}
	d.sh(t, "truncate", "-s", "512M", d.device)
	d.sh(t, "mkfs.ext4", "-q", "-F", d.device)
	d.sh(t, "mount", "-o", "loop", d.device, d.mount)
	t.Cleanup(func() { _ = unix.Unmount(d.mount, unix.MNT_DETACH) })
	temporary := filepath.Join(d.mount, "tmp")
	if err := os.Mkdir(temporary, 0o700); err != nil {
		t.Fatal(err)
	}
	// purser dev takes these before those of the distribution.
	path := filepath.Dir(rig.Runtime(t, "crun")) + ":" + filepath.Dir(rig.Runtime(t, "runsc")) + ":" + os.Getenv("PATH")
	d.node = &node{t: t, version: v, dir: filepath.Join(d.mount, "n"),
		env: append(os.Environ(), "TMPDIR="+temporary, "XDG_RUNTIME_DIR="+temporary, "PATH="+path)}
	return d
}

// begin starts the node, with an image.
func (d *diskNode) begin(t *testing.T) {
	t.Helper()
	d.start()
	t.Cleanup(d.cleanup)
	d.must("image", "import", boxImage(t))
}

func (d *diskNode) sh(t *testing.T, command ...string) {
	t.Helper()
	if r := finish(t, exec.Command(command[0], command[1:]...)); r.code != 0 {
		t.Fatalf("%v: %s", command, r.stderr)
	}
}

// find returns the forms of a value that are on the device.
func (d *diskNode) find(value string) []string {
	d.t.Helper()
	return rig.FormsOn(d.t, d.device, value)
}

// clean checks that no form of any value is on the device at this moment. Later
// is too late: what was written may have been written over.
func (d *diskNode) clean(when string, values ...string) {
	d.t.Helper()
	d.elsewhere(when)
	unix.Sync()
	for _, value := range values {
		if found := d.find(value); len(found) > 0 {
			d.t.Errorf("%s, a secret is on the device: %v", when, found)
		}
	}
}

// elsewhere checks that no process of the node is writing a file that is not on the
// device: the search would not see it.
func (d *diskNode) elsewhere(when string) {
	d.t.Helper()
	for _, path := range rig.WrittenBy(d.mount) {
		if !strings.HasPrefix(path, d.mount+"/") && !strings.HasPrefix(path, "/dev/") && !strings.HasPrefix(path, "/proc/") && !strings.HasPrefix(path, "/sys/") {
			d.t.Errorf("%s, a process of the node writes to %s, which is not on the device", when, path)
		}
	}
}

// unmount writes everything to the device.
func (d *diskNode) unmount() {
	d.t.Helper()
	unix.Sync()
	if err := unix.Unmount(d.mount, 0); err != nil {
		d.t.Fatalf("unmounting the device: %v", err)
	}
	unix.Sync()
}

// Values of secrets are in a container, in what is run in it, through crashes,
// restarts, new versions and failures, and nowhere on the device. What a plain
// client of the same containerd gives a container is found there by the same
// search, long after the container is gone.
func TestNoTraceOnDisk(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		version rig.Version
		runtime string
		config  string
	}{
		{rig.V16, "runc", ""}, {rig.V24, "runc", ""}, {rig.V24, "crun", ""}, {rig.V24, "runsc", ""},
		// As where the kernel has no tmpfs that is never swapped.
		{rig.V16, "runc", "private_ramfs = true\n"}, {rig.V24, "crun", "private_ramfs = true\n"},
	} {
		v := c.version
		t.Run(strings.TrimSpace("containerd "+string(v)+" "+c.runtime+" "+c.config), func(t *testing.T) {
			t.Parallel()
			d := makeDisk(t, v)
			d.config = c.config
			d.begin(t)
			if on := d.privateType(); (on == "ramfs") != (c.config != "") {
				t.Errorf("the private directory is on %s", on)
			}
			// With what each encoding changes.
			secrets := []string{`canary-one-7Hq2"Zk\V9t?B~4x>`, `canary-two-mW8s"J3\pLr?6Y~d>`, `canary-bad-Xc5G"nT\1uE?o~0f>`}
			const inFile = "canary-file-g4Kd8YqX2z"
			d.runWith(inFile, "secret", "set", "t", "OTHER=-")
			const control = "control-Kz4vQ9wA7eRb2N"
			set := func(value string) { d.runWith(value, "secret", "set", "s", "KEY=-") }
			check := func(value string) {
				t.Helper()
				// The value is compared inside, and is on no command line.
				sum := finish(t, exec.Command("sh", "-c", "printf %s '"+value+"' | md5sum")).stdout
				for _, script := range []string{`printf %s "$KEY" | md5sum`, "cat /run/secrets/s/KEY | md5sum"} {
					if got := d.must("exec", "a/f", "--", "sh", "-c", script); got != sum {
						t.Errorf("%s: the function does not have its secret: %q", script, got)
					}
				}
				sum = fmt.Sprintf("%x  -\n", md5.Sum([]byte("{\n  \"OTHER\": \""+inFile+"\"\n}\n")))
				if got := d.must("exec", "a/f", "--", "sh", "-c", "md5sum </run/more/t.json"); got != sum {
					t.Errorf("the function does not have its file: %q", got)
				}
			}
			set(secrets[0])
			secrets = append(secrets, inFile)
			d.deploy(`
app: a
functions:
  - {function: f, image: {ref: `+image+`}, secrets: [{name: s, file: {path: /run/secrets/s}}, {name: t, env: false, file: {path: /run/more/t.json, format: json}}], command: [sh, -c, 'exec sleep 100000'], rotation: {strategy: restart}, runtime: `+c.runtime+`, stop: {grace: 0s}, restart: {backoff_min: 100ms}}
`, "--wait")
			check(secrets[0])
			d.clean("while it runs", secrets...)
			first := d.get("a/f")
			if err := syscall.Kill(first.pid(), syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
			d.await("a/f", "back", func(w workload) bool { return w.State == "running" && w.pid() != first.pid() })
			check(secrets[0])
			d.clean("after a crash", secrets...)
			agent := d.pidOf(t, "purser agent")
			// It ends with the stacks of all goroutines in its log.
			if err := syscall.Kill(agent, syscall.SIGQUIT); err != nil {
				t.Fatal(err)
			}
			d.eventually("a new agent", func() bool { return !alive(agent) && d.serves() })
			d.await("a/f", "running", inState("running"))
			check(secrets[0])
			if log, err := os.ReadFile(filepath.Join(d.dir, "log", "agent.log")); err != nil || !bytes.Contains(log, []byte("goroutine 1 ")) {
				t.Errorf("no stacks in the agent's log: %v", err)
			}
			set(secrets[1])
			d.must("restart", "--secrets", "a/f")
			d.await("a/f", "on the new version", func(w workload) bool { return w.State == "running" && w.Pins[0].Version == 2 })
			check(secrets[1])
			d.clean("on a new version", secrets...)
			set(secrets[2])
			for _, command := range []string{"/no/such/command", "/etc/passwd"} {
				if r := d.run("run", "--runtime", c.runtime, "--image", image, "--secret", "s", "--", command); r.code == 0 {
					t.Errorf("%s: %+v", command, r)
				}
			}
			d.must("run", "--runtime", c.runtime, "--image", image, "--secret", "s", "--", "sh", "-c", `test -n "$KEY"`)
			d.clean("after starts that failed", secrets...)
			for _, args := range [][]string{{"get", "a/f", "-o", "json"}, {"events"}, {"secret", "show", "s", "-o", "yaml"}, {"node"}, {"audit", "tail"}, {"audit", "verify"}} {
				d.must(args...)
			}
			d.must("rm", "a/f")
			ctr := filepath.Join(filepath.Dir(rig.ContainerdPath(t, v)), "ctr")
			// runc keeps ctr's containers of all nodes in one directory.
			id := filepath.Base(filepath.Dir(d.mount))
			d.sh(t, ctr, "--address", filepath.Join(d.dir, "containerd.sock"), "--namespace", "purser",
				"run", "--rm", "--env", "KEY="+control, image, id, "true")
			d.stop()
			d.unmount()

			d.clean("at the end", secrets...)
			if found := d.find(control); len(found) == 0 {
				t.Error("the search finds nothing where there is something")
			}
		})
	}
}

// privateType is the type of the file system that holds what is private.
func (d *diskNode) privateType() string {
	d.t.Helper()
	return strings.TrimSpace(finish(d.t, exec.Command("findmnt", "-n", "-o", "FSTYPE", filepath.Join(d.dir, "run", "private"))).stdout)
}

// The search finds each form that it claims to.
func TestForms(t *testing.T) {
	t.Parallel()
	const value = `canary-one-7Hq2"ZkV9tB4x?~`
	for shift := range 3 {
		for _, rest := range []string{"", "x", "yz"} {
			for name, encoding := range map[string]*base64.Encoding{"base64": base64.StdEncoding, "base64 of URLs": base64.RawURLEncoding} {
				text := encoding.EncodeToString([]byte("abc"[:shift] + value + rest))
				if !bytes.Contains([]byte(text), rig.Forms(value)[fmt.Sprintf("%s at %d", name, shift)]) {
					t.Errorf("%s is not found at %d with %q behind", name, shift, rest)
				}
			}
		}
	}
}

// printForms is a shell function that prints its argument in the forms that output is
// searched for, each in two writes: after the first there is nothing to be seen but the
// beginning.
const printForms = `
parts() { o=$(cat); h=${o#?????????}; printf %s "${o%"$h"}"; sleep 0.02; printf '%s\n' "$h"; }
forms() {
	printf %s "$1" | parts
	for pad in "" x xx; do
		printf %s "$pad$1" | base64 | tr -d '\n' | parts
		printf %s "$pad$1" | base64 | tr -d '\n' | tr +/ -_ | parts >&2
	done
	printf %s "$1" | od -An -v -tx1 | tr -d ' \n' | parts
	printf %s "$1" | od -An -v -tx1 | tr -d ' \n' | tr a-f A-F | parts >&2
	printf %s "$1" | sed 's/\\/\\\\/g; s/"/\\"/g' | parts
	printf %s "$1" | sed 's/"/%22/g; s/\\/%5C/g; s/?/%3F/g; s/>/%3E/g' | parts >&2
}
`

// What functions print of their secrets, in whatever form, and whoever reads it, is
// neither on the disk nor seen by the reader; agent and log helper die meanwhile.
func TestNoTraceOfOutput(t *testing.T) {
	t.Parallel()
	d := makeDisk(t, rig.V24)
	d.config = "[logs]\nsegment_size = '64Ki'\nsegments = 2\n"
	d.begin(t)
	values := []string{`canary-one-7Hq2"Zk\V9t?B~4x>`, `canary-two-mW8s"J3\pLr?6Y~d>`}
	set := func(value string) { d.runWith(value, "secret", "set", "s", "KEY=-") }
	set(values[0])
	app := file(t, "app.yaml", "app: a\nfunction: f\nimage: {ref: "+image+"}\nsecrets: [{name: s}]\nstop: {grace: 0s}\ncommand:\n  - sh\n  - -c\n  - |"+
		strings.ReplaceAll(printForms+"while :; do forms \"$KEY\"; done\n", "\n", "\n    ")+"\n")
	d.must("deploy", "--wait", app)
	unseen := func(what string, r result) {
		t.Helper()
		if r.code != 0 || !strings.Contains(r.stdout, "[secret:s/KEY]") {
			t.Errorf("%s: %d, %.300q, %.300q", what, r.code, r.stdout, r.stderr)
		}
		for _, value := range values {
			for name, form := range rig.Forms(value) {
				if name != "percent" && (strings.Contains(r.stdout, string(form)) || strings.Contains(r.stderr, string(form))) {
					t.Errorf("%s shows a value as %s", what, name)
				}
			}
		}
	}
	for round := range 4 {
		follow := d.command("logs", "-f", "a/f")
		var seen bytes.Buffer
		follow.Stdout = &seen
		if err := follow.Start(); err != nil {
			t.Fatal(err)
		}
		attached := d.command("attach", "a/f")
		var shown bytes.Buffer
		attached.Stdout, attached.Stderr = &shown, &shown
		if err := attached.Start(); err != nil {
			t.Fatal(err)
		}
		unseen("exec", d.run("exec", "a/f", "--", "sh", "-c", printForms+`forms "$KEY"`))
		unseen("run", d.run("run", "--image", image, "--secret", "s", "--", "sh", "-c", printForms+`forms "$KEY"`))
		d.clean(fmt.Sprintf("in round %d", round), values...)
		switch round {
		case 0, 2:
			d.killAgent()
		case 1:
			if err := syscall.Kill(d.logHelper(), syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
		case 3:
			set(values[1])
			d.must("restart", "--secrets", "a/f")
			d.await("a/f", "on the new version", func(w workload) bool { return w.State == "running" && w.Pins[0].Version == 2 })
			d.eventually("its output", func() bool { return d.must("logs", "a/f") != "" })
		}
		_ = attached.Process.Signal(syscall.SIGINT)
		_ = attached.Wait()
		_ = follow.Process.Signal(syscall.SIGINT)
		_ = follow.Wait()
		unseen("attach", result{stdout: shown.String()})
		unseen("logs -f", result{stdout: seen.String()})
		unseen("logs", d.run("logs", "a/f"))
		d.clean(fmt.Sprintf("after round %d", round), values...)
	}
	d.must("rm", "-f", "a/f")
	d.stop()
	d.unmount()
	for _, value := range values {
		if found := d.find(value); len(found) > 0 {
			t.Errorf("a value is on the device as %v", found)
		}
	}
}
