package e2e

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/purserd/purser/e2e/rig"
)

// service is a file with a single service, which sleeps.
func service(function, image, more string) string {
	return fmt.Sprintf(`
app: a
function: %s
image: {ref: %q%s}
command: [sleep, "1000000"]
stop: {grace: 0s}
restart: {backoff_min: 100ms, backoff_max: 200ms}
`, function, image, more)
}

// Five workloads that want the same image wait for one pull. One that goes away
// does not end it, the last one does.
func TestLaunchesShareAPull(t *testing.T) {
	onEach(t, func(t *testing.T, n *node) {
		r := rig.StartRegistry(t, rig.RegistryOptions{})
		i := speaking("x")
		i.Layers = []map[string]string{{"one": noise(t, 2<<20)}, {"two": noise(t, 2<<20)}}
		r.Push("app:1", i)
		l := newLink(t, r)
		l.set(func() { l.rate = 1 << 20 })
		ref := l.addr() + "/app:1"
		var ids []string
		for k := range 5 {
			n.deploy(service(fmt.Sprintf("f%d", k), ref, ""))
			ids = append(ids, fmt.Sprintf("a/f%d", k))
		}
		for _, id := range ids {
			if w := n.await(id, "pulling", inState("pulling")); w.Reason != "image "+ref {
				t.Errorf("%+v", w)
			}
		}
		n.must("stop", ids[0])
		n.must("rm", "--force", ids[1])
		for _, id := range ids[2:] {
			n.await(id, "running", inState("running"))
		}
		fetched := l.fetched()
		paths := map[string]int{}
		for _, f := range fetched {
			paths[f.path]++
		}
		// The configuration and two layers: busybox's is there from another image.
		if len(fetched) != len(paths) || len(paths) != 3 || l.most < 2 {
			t.Errorf("%d at once of %+v", l.most, fetched)
		}
		if w := n.get(ids[0]); w.State != "stopped" || w.Reason != "stopped on request: before it had started" {
			t.Errorf("%+v", w)
		}
		events := n.must("events")
		if strings.Count(events, " Pulling ") != 5 || strings.Count(events, " Pulled ") != 3 {
			t.Errorf("events:\n%s", events)
		}
		// Nobody waits any more.
		i.Layers = []map[string]string{{"one": noise(t, 8<<20)}}
		r.Push("app:2", i)
		n.deploy(service("last", l.addr()+"/app:2", ""))
		n.eventually("a pull", func() bool { return l.reading() > 0 })
		n.must("stop", "a/last")
		n.eventually("its end", func() bool { return l.reading() == 0 })
	})
}

// reading is how many blobs are on their way.
func (l *link) reading() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.open
}

// What is wrong is said by the reason, until it is right.
func TestLaunchBacksOffFromPulls(t *testing.T) {
	t.Parallel()
	r := rig.StartRegistry(t, rig.RegistryOptions{})
	n := emptyNode(t, rig.V24)
	ref := r.Addr + "/app:1"
	n.deploy(service("late", ref, ""))
	n.deploy(service("nowhere", "registry.invalid/app:1", ""))
	n.await("a/late", "backing off", func(w workload) bool {
		return w.State == "backing_off" && strings.HasPrefix(w.Reason, "not found: image "+ref)
	})
	n.await("a/nowhere", "backing off", func(w workload) bool {
		return w.State == "backing_off" && strings.HasPrefix(w.Reason, "no such host: ")
	})
	wait := n.command("deploy", file(t, "app.yaml", service("late", ref, "")), "--wait")
	var out strings.Builder
	wait.Stderr = &out
	if err := wait.Start(); err != nil {
		t.Fatal(err)
	}
	r.Push("app:1", speaking("x"))
	if err := wait.Wait(); err != nil {
		t.Fatalf("%v: %s", err, out.String())
	}
	if !strings.Contains(out.String(), "purser: a/late is pulling image "+ref) {
		t.Errorf("deploy --wait said %q", out.String())
	}
	if w := n.get("a/late"); w.State != "running" || w.Restarts != 0 {
		t.Errorf("%+v", w)
	}
	text := n.refused("deploy", file(t, "app.yaml", service("never", ref+"2", ", pull: never")))
	if !strings.Contains(text, "is not on this node: bring it with purser image import, or purser image pull "+ref+"2") {
		t.Error(text)
	}
	if text := n.refused("deploy", file(t, "app.yaml", service("local", "localhost/none:1", ""))); !strings.Contains(text, "is not on this node") {
		t.Error(text)
	}
	if text := n.refused("deploy", file(t, "app.yaml", service("wrong", ref, ", pull: sometimes"))); !strings.Contains(text, "image.pull: must be if_not_present, always or never") {
		t.Error(text)
	}
}

func TestPullPolicies(t *testing.T) {
	t.Parallel()
	r := rig.StartRegistry(t, rig.RegistryOptions{})
	l := newLink(t, r)
	ref := l.addr() + "/app:1"
	r.Push("app:1", speaking("x"))
	n := emptyNode(t, rig.V24)
	asked := func() (n int) {
		l.set(func() { n = len(l.manifests) })
		return n
	}
	n.deploy(service("present", ref, ""), "--wait")
	before := asked()
	n.must("restart", "a/present")
	n.await("a/present", "running", inState("running"))
	if asked() != before {
		t.Error("an image that is present was looked for")
	}
	n.deploy(service("always", ref, ", pull: always"), "--wait")
	if asked() == before {
		t.Error("with always the registry was not asked")
	}
	old := n.get("a/always").Instances[0].ID
	moved := r.Push("app:1", speaking("y"))
	n.must("restart", "a/always")
	n.await("a/always", "another", func(w workload) bool { return w.State == "running" && w.Instances[0].ID != old })
	var got struct {
		Workload struct {
			Instances []struct {
				Digest string `json:"image_digest"`
			}
		}
	}
	n.json(&got, "get", "a/always")
	if !strings.HasSuffix(moved, got.Workload.Instances[0].Digest) {
		t.Errorf("%+v runs, not %s", got, moved)
	}
	l.set(func() { l.down = true })
	n.must("restart", "a/present")
	n.await("a/present", "running", inState("running"))
	n.must("restart", "a/always")
	n.await("a/always", "backing off", inState("backing_off"))
}

// The credentials of a secret and of docker's configuration open a registry, and
// are in no file of the node's, nor of containerd's.
func TestPullCredentials(t *testing.T) {
	t.Parallel()
	const user, password = "the-user-of-the-registry", "the password: 81f2c6ab90de/?"
	r := rig.StartRegistry(t, rig.RegistryOptions{User: user, Password: password})
	config := file(t, "config.json", `{"auths": {}}`)
	d := makeDisk(t, rig.V24)
	d.config = fmt.Sprintf("[images]\ndocker_config = %q\n", config)
	d.start()
	t.Cleanup(d.cleanup)
	images := 0
	ref := func() string {
		images++
		tag := fmt.Sprintf("app:%d", images)
		r.Push(tag, speaking(tag))
		return r.Addr + "/" + tag
	}
	auth := base64.StdEncoding.EncodeToString([]byte(user + ":" + password))
	docker := fmt.Sprintf(`{"auths": {%q: {"auth": %q}}}`, r.Addr, auth)
	stdin := func(secret string, data map[string]string) {
		t.Helper()
		text, _ := json.Marshal(data)
		if got := d.runWith(string(text), "secret", "set", secret, "--from-json", "/dev/stdin"); got.code != 0 {
			t.Fatal(got.stderr)
		}
	}
	stdin("login", map[string]string{"USERNAME": user, "PASSWORD": password})
	stdin("config", map[string]string{"DOCKERCONFIGJSON": docker})
	stdin("wrong", map[string]string{"USERNAME": user, "PASSWORD": "another password"})
	stdin("useless", map[string]string{"TOKEN": "of something else"})
	for _, secret := range []string{"login", "config"} {
		d.deploy(service(secret, ref(), ", auth_secret: "+secret), "--wait")
		d.must("image", "pull", ref(), "--auth-secret", secret)
		if got := d.run("run", "--image", ref(), "--auth-secret", secret); got.code != 0 || !strings.HasPrefix(got.stdout, "app:") {
			t.Errorf("%+v", got)
		}
	}
	if out := d.must("exec", "a/login", "--", "env"); strings.Contains(out, "USERNAME") {
		t.Error("the container got the credentials")
	}
	locked := ref()
	d.deploy(service("wrong", locked, ", auth_secret: wrong"))
	d.await("a/wrong", "backing off", func(w workload) bool {
		return w.State == "backing_off" && strings.HasPrefix(w.Reason, "unauthorized: ") && strings.HasSuffix(w.Reason, "does not accept secret wrong, version 1; put it right with: purser secret set -E dev wrong USERNAME=… PASSWORD=-; the next try takes it")
	})
	for secret, want := range map[string]string{
		"none":    "secret none, which image.auth_secret names, is not in environment dev",
		"useless": "it needs the keys USERNAME and PASSWORD, or DOCKERCONFIGJSON with a docker configuration; it has TOKEN",
	} {
		if text := d.refused("deploy", file(t, "app.yaml", service("x", locked, ", auth_secret: "+secret))); !strings.Contains(text, want) {
			t.Errorf("%s: %s", secret, text)
		}
	}
	// The credentials are right by now.
	stdin("wrong", map[string]string{"PASSWORD": password})
	d.await("a/wrong", "running", inState("running"))

	d.clean("after pulls with secrets", password, "another password", docker, auth)
	// Docker's own configuration is read at each pull.
	if text := d.refused("image", "pull", locked); !strings.HasPrefix(text, "purser: unauthorized: ") {
		t.Error(text)
	}
	if err := os.WriteFile(config, []byte(docker), 0o600); err != nil {
		t.Fatal(err)
	}
	d.must("image", "pull", locked)
	d.must("image", "pull", ref())
	if err := os.WriteFile(config, []byte(`{"auths": `), 0o600); err != nil {
		t.Fatal(err)
	}
	if text := d.refused("image", "pull", locked); !strings.HasPrefix(text, "purser: misconfigured: ") || !strings.Contains(text, config) {
		t.Error(text)
	}
	d.clean("at the end", password, "another password", docker, auth)
}

// A credential helper is a program that docker's configuration names.
func TestCredentialHelper(t *testing.T) {
	t.Parallel()
	r := rig.StartRegistry(t, rig.RegistryOptions{User: "u", Password: "p"})
	r.Push("app:1", speaking("x"))
	bin := t.TempDir()
	helper := "#!/bin/sh\nread server\n[ \"$1\" = get ] && echo \"{\\\"ServerURL\\\":\\\"$server\\\",\\\"Username\\\":\\\"u\\\",\\\"Secret\\\":\\\"p\\\"}\"\n"
	if err := os.WriteFile(filepath.Join(bin, "docker-credential-test"), []byte(helper), 0o755); err != nil {
		t.Fatal(err)
	}
	config := file(t, "config.json", fmt.Sprintf(`{"credHelpers": {%q: "test"}}`, r.Addr))
	n := &node{t: t, version: rig.V24, dir: rig.Dir(t), config: fmt.Sprintf("[images]\ndocker_config = %q\n", config),
		env: append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"))}
	n.start()
	t.Cleanup(n.cleanup)
	n.must("image", "pull", r.Addr+"/app:1")
	// One that a secret names is not run.
	if got := n.runWith(fmt.Sprintf(`{"DOCKERCONFIGJSON": %q}`, fmt.Sprintf(`{"credHelpers": {%q: "test"}}`, r.Addr)), "secret", "set", "s", "--from-json", "/dev/stdin"); got.code != 0 {
		t.Fatal(got.stderr)
	}
	if text := n.refused("image", "pull", r.Addr+"/app:1", "--auth-secret", "s"); !strings.HasPrefix(text, "purser: unauthorized: ") {
		t.Error(text)
	}
	if err := os.WriteFile(config, []byte(fmt.Sprintf(`{"credHelpers": {%q: "none"}}`, r.Addr)), 0o600); err != nil {
		t.Fatal(err)
	}
	if text := n.refused("image", "pull", r.Addr+"/app:1"); !strings.HasPrefix(text, "purser: misconfigured: ") || !strings.Contains(text, "docker-credential-none") {
		t.Error(text)
	}
}

// The images' disk is a real one of 512 MB. Those that nothing uses go, those used
// longest ago first; none that is in use, and none that was imported.
func TestImagesGo(t *testing.T) {
	t.Parallel()
	for _, v := range rig.Versions {
		t.Run("containerd "+string(v), func(t *testing.T) {
			t.Parallel()
			r := rig.StartRegistry(t, rig.RegistryOptions{})
			d := makeDisk(t, v)
			d.config = "[images]\ngc_high = 45\ngc_low = 40\ngc_min_age = \"0s\"\n"
			d.begin(t)
			push := func(tag string) string {
				i := speaking(tag)
				i.Layers = []map[string]string{{"big": noise(t, 20<<20)}}
				r.Push(tag, i)
				return r.Addr + "/" + tag
			}
			used, stopped, idle := push("used:1"), push("stopped:1"), push("idle:1")
			d.deploy(service("used", used, ""), "--wait")
			d.deploy(service("stopped", stopped, ""), "--wait")
			d.must("stop", "a/stopped")
			d.must("image", "pull", idle)
			var refs []string
			for k := 0; len(d.refs()) == 4+len(refs); k++ {
				if k == 20 {
					t.Fatalf("no image goes at %d%%", d.percent())
				}
				ref := push(fmt.Sprintf("more:%d", k))
				d.must("image", "pull", ref)
				refs = append(refs, ref)
				if d.percent() > 45 {
					d.eventually("an image to go", func() bool { return len(d.refs()) < 4+len(refs) })
				}
			}
			d.eventually("the disk to be emptier", func() bool { return d.percent() <= 40 })
			left := d.refs()
			for _, ref := range []string{used, stopped, image, refs[len(refs)-1]} {
				if !slices.Contains(left, ref) {
					t.Errorf("%s went; %v are left", ref, left)
				}
			}
			if slices.Contains(left, idle) {
				t.Errorf("%s was used longest ago, and is left of %v", idle, left)
			}
			events := d.must("events")
			if !strings.Contains(events, "of the images' disk was used, and nothing has used it for") {
				t.Errorf("events:\n%s", events)
			}
			if text := finish(t, exec.Command("curl", "-sS", d.metrics)).stdout; !strings.Contains(text, `purser_images_removed_total{reason="gc"} `) || strings.Contains(text, `purser_images_removed_total{reason="gc"} 0`) ||
				!strings.Contains(text, `purser_image_pulls_total{result="ok"} `) || strings.Contains(text, "purser_images_bytes 0\n") {
				t.Errorf("metrics:\n%s", text)
			}
			d.must("start", "a/stopped")
			d.await("a/stopped", "running", inState("running"))
		})
	}
}

// What failed pulls have brought goes before any image does, and at once when it has
// filled the disk.
func TestPartialPullsGo(t *testing.T) {
	t.Parallel()
	for _, v := range rig.Versions {
		t.Run("containerd "+string(v), func(t *testing.T) {
			t.Parallel()
			r := rig.StartRegistry(t, rig.RegistryOptions{})
			d := makeDisk(t, v)
			d.config = "[images]\ngc_high = 25\ngc_low = 20\ngc_min_age = \"0s\"\n"
			d.begin(t)
			r.Push("idle:1", speaking("idle"))
			idle := r.Addr + "/idle:1"
			d.must("image", "pull", idle)
			size := (28 - d.percent()) * (512 << 20) / 100
			big := speaking("big")
			big.Layers = []map[string]string{{"big": noise(t, size+(16<<20))}}
			r.Push("big:1", big)
			l := newLink(t, r)
			l.set(func() { l.cutAfter = size })
			pull := d.command("image", "pull", l.addr()+"/big:1")
			if err := pull.Start(); err != nil {
				t.Fatal(err)
			}
			d.eventually("most of it", func() bool { return l.big() >= size })
			l.set(func() { l.down = true })
			if err := pull.Wait(); err == nil || d.percent() <= 25 {
				t.Fatalf("%v, at %d%%", err, d.percent())
			}
			d.must("image", "pull", idle) // which makes the agent look
			d.awaitEvents("PartialPullsRemoved")
			events := d.must("events")
			if left := d.refs(); !slices.Contains(left, idle) || d.percent() > 25 || strings.Contains(events, "ImageDiskFull") {
				t.Errorf("%v are left, at %d%%; events:\n%s", left, d.percent(), events)
			}

			before := d.leave(20 << 20)
			if text := d.refused("image", "pull", r.Addr+"/big:1"); !strings.Contains(text, "no space") {
				t.Error(text)
			}
			if left := d.left(); left < before-(4<<20) {
				t.Errorf("%d bytes of %d are left on the disk that it filled; leases: %v", left, before, d.containerd("leases", "list"))
			}
		})
	}
}

// leave leaves so many bytes of the device, and returns how many those really are.
func (d *diskNode) leave(left int64) int64 {
	d.t.Helper()
	f, err := os.Create(filepath.Join(d.mount, "filling"))
	if err != nil {
		d.t.Fatal(err)
	}
	defer f.Close()
	if err := unix.Fallocate(int(f.Fd()), 0, 0, d.left()-left); err != nil {
		d.t.Fatal(err)
	}
	return d.left()
}

// left is what root can still write to the device.
func (d *diskNode) left() int64 {
	d.t.Helper()
	var s unix.Statfs_t
	if err := unix.Statfs(d.mount, &s); err != nil {
		d.t.Fatal(err)
	}
	return int64(s.Bfree) * s.Bsize
}

// A registry that is broken or busy is asked again, for ever, and the workload says why.
func TestRegistryThatIsUnavailable(t *testing.T) {
	t.Parallel()
	n := emptyNode(t, rig.V24)
	r := rig.StartRegistry(t, rig.RegistryOptions{})
	r.Push("app:1", speaking("x"))
	l := newLink(t, r)
	l.set(func() { l.status = 503 })
	n.deploy(service("f", l.addr()+"/app:1", ""))
	reason := func(text string) func(workload) bool {
		return func(w workload) bool { return w.State == "backing_off" && strings.HasPrefix(w.Reason, text) }
	}
	n.await("a/f", "broken", reason("registry unavailable: image "+l.addr()+"/app:1: "+l.addr()+" answers 503 "))
	l.set(func() { l.status = 429 })
	n.await("a/f", "busy", reason("too many requests: image "+l.addr()+"/app:1: "+l.addr()+" takes no more requests for 3s"))
	if got := n.run("image", "pull", l.addr()+"/app:1"); got.code == 0 || !strings.HasPrefix(got.stderr, "purser: too many requests: ") {
		t.Errorf("%+v", got)
	}
	l.set(func() { l.status = 0 })
	n.await("a/f", "running", inState("running"))
}

// However empty the disk is, an image goes that nothing has used for long: none that a
// workload names or an app can be rolled back to, and none that was imported.
func TestOldImagesGo(t *testing.T) {
	t.Parallel()
	onEachWith(t, "[images]\ngc_high = 100\ngc_min_age = \"0s\"\ngc_max_age = \"2s\"\n", func(t *testing.T, n *node) {
		n.must("image", "import", boxImage(t))
		r := rig.StartRegistry(t, rig.RegistryOptions{})
		for _, tag := range []string{"app:1", "app:2", "idle:1", "probe:1"} {
			r.Push(tag, speaking(tag))
		}
		first, second, idle, probe := r.Addr+"/app:1", r.Addr+"/app:2", r.Addr+"/idle:1", r.Addr+"/probe:1"
		n.deploy(service("f", first, ""), "--wait")
		n.deploy(service("f", second, ""), "--wait")
		n.must("stop", "a/f")
		n.must("image", "pull", idle)
		n.eventually("the idle image to go", func() bool {
			n.must("image", "pull", probe) // which makes the agent look
			return !slices.Contains(n.refs(), idle)
		})
		for _, ref := range []string{first, second, probe, image} {
			if left := n.refs(); !slices.Contains(left, ref) {
				t.Errorf("%s went; %v are left", ref, left)
			}
		}
		if events := n.must("events"); !strings.Contains(events, "gc_max_age is 2s, and nothing has used it for ") {
			t.Errorf("events:\n%s", events)
		}
		if text := finish(t, exec.Command("curl", "-sS", n.metrics)).stdout; !strings.Contains(text, `purser_images_removed_total{reason="age"} 1`) {
			t.Errorf("metrics:\n%s", text)
		}
		n.must("app", "rollback", "a")
	})
}

// Images go at any moment, but none from under a launch.
func TestImagesGoWhileLaunched(t *testing.T) {
	t.Parallel()
	onEachWith(t, "[images]\ngc_high = 1\ngc_low = 0\ngc_min_age = \"0s\"\n", func(t *testing.T, n *node) {
		r := rig.StartRegistry(t, rig.RegistryOptions{})
		r.Push("shared:1", speaking("shared:1"))
		var all errgroup.Group
		for worker := range 3 {
			tag := fmt.Sprintf("own:%d", worker)
			r.Push(tag, speaking(tag))
			all.Go(func() error {
				for range 4 {
					for _, tag := range []string{tag, "shared:1"} {
						var out, errs strings.Builder
						cmd := n.command("run", "--image", r.Addr+"/"+tag)
						cmd.Stdout, cmd.Stderr = &out, &errs
						if err := cmd.Run(); err != nil || out.String() != tag+"\n" {
							return fmt.Errorf("%s: %w: %s%s", tag, err, out.String(), errs.String())
						}
					}
				}
				return nil
			})
		}
		// Each pull makes the agent look at the disk.
		r.Push("another:1", speaking("another"))
		all.Go(func() error {
			for range 20 {
				if out, err := n.command("image", "pull", r.Addr+"/another:1").CombinedOutput(); err != nil {
					return fmt.Errorf("pulling: %w: %s", err, out)
				}
			}
			return nil
		})
		n.deploy(service("kept", r.Addr+"/shared:1", ""), "--wait")
		if err := all.Wait(); err != nil {
			t.Error(err)
		}
		if events := n.must("events"); !strings.Contains(events, "ImageRemoved") || strings.Contains(events, "BackingOff") {
			t.Errorf("events:\n%s", events)
		}
	})
}

// An image that no workload names any more stays while a container still uses it.
func TestImageOfAnEarlierContainerStays(t *testing.T) {
	t.Parallel()
	onEachWith(t, "[images]\ngc_high = 1\ngc_low = 0\ngc_min_age = \"0s\"\n", func(t *testing.T, n *node) {
		r := rig.StartRegistry(t, rig.RegistryOptions{})
		for _, tag := range []string{"old:1", "new:1", "probe:1", "probe:2"} {
			r.Push(tag, speaking(tag))
		}
		stubborn := func(tag string) string {
			return "app: a\nfunction: f\nimage: {ref: " + r.Addr + "/" + tag + "}\nrotation: {strategy: restart}\nstop: {grace: 100s}\ncommand: [sh, -c, 'trap : TERM; while :; do sleep 0.1; done']\n"
		}
		n.deploy(stubborn("old:1"), "--wait")
		pid := n.get("a/f").pid()
		n.deploy(stubborn("new:1"))
		n.await("a/f", "stopping", inState("stopping"))
		// That which was used longest ago is looked at first: once an image has gone
		// that came later, the old one has been passed by.
		n.eventually("all images to go that nothing uses", func() bool {
			n.must("image", "pull", r.Addr+"/probe:1")
			n.must("image", "pull", r.Addr+"/probe:2") // which makes the agent look
			return !slices.Contains(n.refs(), r.Addr+"/probe:1")
		})
		if refs := n.refs(); !slices.Contains(refs, r.Addr+"/old:1") {
			t.Errorf("the image of a container has gone; left are %v", refs)
		}
		syscall.Kill(pid, syscall.SIGKILL)
		n.await("a/f", "running anew", func(w workload) bool { return w.State == "running" && w.pid() != pid })
		n.eventually("the old image to go", func() bool {
			n.must("image", "pull", r.Addr+"/probe:1")
			return !slices.Contains(n.refs(), r.Addr+"/old:1")
		})
		n.must("rm", "--force", "a/f")
	})
}

// onEachWith is onEach with settings of the agent's, and without an image.
func onEachWith(t *testing.T, config string, test func(t *testing.T, n *node)) {
	t.Helper()
	for _, v := range rig.Versions {
		t.Run("containerd "+string(v), func(t *testing.T) {
			t.Parallel()
			test(t, emptyNodeWith(t, v, config))
		})
	}
}

// refs are the names of the node's images.
func (n *node) refs() []string {
	n.t.Helper()
	var list struct{ Images []struct{ Ref string } }
	n.json(&list, "image", "list")
	var refs []string
	for _, i := range list.Images {
		refs = append(refs, i.Ref)
	}
	return refs
}

// percent is how much of the device is used, as the agent reckons.
func (d *diskNode) percent() int {
	d.t.Helper()
	var s unix.Statfs_t
	if err := unix.Statfs(d.mount, &s); err != nil {
		d.t.Fatal(err)
	}
	used := s.Blocks - s.Bfree
	return int((used*100 + used + s.Bavail - 1) / (used + s.Bavail))
}

// An update whose image cannot be had is refused, and what runs, runs on.
func TestUpdateToAnImageThatIsNotThere(t *testing.T) {
	t.Parallel()
	n := newNode(t, rig.V24)
	spec := func(ref string) string {
		return "\napp: a\nfunctions:\n  - {function: f, image: {ref: \"" + ref + "\"}, command: [sh, -c, 'exec sleep 100000'], stop: {grace: 0s}}\n"
	}
	n.deploy(spec(image), "--wait")
	before := n.get("a/f")
	// Nobody listens on this port of loopback.
	path := file(t, "app.yaml", spec("127.0.0.1:1/team/app:2"))
	n.must("deploy", path, "--dry-run")
	text := n.refused("deploy", path)
	if !strings.Contains(text, "a/f runs on as it is") || !strings.Contains(text, "connection refused") {
		t.Errorf("deploy says %s", text)
	}
	if after := n.get("a/f"); after.pid() != before.pid() || after.State != "running" {
		t.Errorf("process %d has become %d, %s", before.pid(), after.pid(), after.State)
	}
}

// The images of an app's updates come at the same time, and who deploys is told of each
// that is waited for.
func TestUpdatesArePulledTogether(t *testing.T) {
	t.Parallel()
	r := rig.StartRegistry(t, rig.RegistryOptions{})
	for _, tag := range []string{"app:1", "app:2", "app:3"} {
		i := speaking(tag)
		i.Layers = []map[string]string{{"one": noise(t, 2<<20)}}
		r.Push(tag, i)
	}
	l := newLink(t, r)
	l.set(func() { l.rate = 1 << 20 })
	n := newNode(t, rig.V24)
	app := func(f, g string) string {
		text := "\napp: a\nfunctions:\n"
		for function, ref := range map[string]string{"f": f, "g": g} {
			text += fmt.Sprintf("  - {function: %s, image: {ref: %q}, command: [sleep, \"1000000\"], stop: {grace: 0s}}\n", function, ref)
		}
		return text
	}
	n.deploy(app(image, image), "--wait")
	one, two, three := l.addr()+"/app:1", l.addr()+"/app:2", l.addr()+"/app:3"
	got := n.run("deploy", "--wait", file(t, "app.yaml", app(one, two)))
	if got.code != 0 || l.most < 2 {
		t.Errorf("status %d, %d blobs at once: %s", got.code, l.most, got.stderr)
	}
	for id, ref := range map[string]string{"a/f": one, "a/g": two} {
		if !strings.Contains(got.stderr, fmt.Sprintf("purser: %s is pulling image %s for its update, and runs on meanwhile\n", id, ref)) {
			t.Errorf("nothing is said of %s: %s", ref, got.stderr)
		}
	}
	if events := n.must("events"); strings.Count(events, " Pulling ") != 2 || strings.Count(events, " Pulled ") != 2 {
		t.Errorf("events:\n%s", events)
	}
	w := n.watch(filepath.Join(t.TempDir(), "app.yaml"), app(three, two))
	w.prints("a/f is pulling image "+three+" for its update", "updated")
	if text := w.text(); strings.Contains(text, "a/g is pulling") {
		t.Errorf("an earlier pull is told of: %s", text)
	}
	w.interrupt()
}

// Pulls of one image with credentials that differ do not get into each other's way.
func TestPullsWithOtherCredentials(t *testing.T) {
	t.Parallel()
	r := rig.StartRegistry(t, rig.RegistryOptions{User: "user", Password: "password-pX7"})
	i := speaking("x")
	i.Layers = []map[string]string{{"one": noise(t, 4<<20)}}
	r.Push("app:1", i)
	n := emptyNode(t, rig.V24)
	config := file(t, "config.json", fmt.Sprintf(`{"auths": {%q: {"auth": %q}}}`, r.Addr, base64.StdEncoding.EncodeToString([]byte("user:password-pX7"))))
	n.must("secret", "set", "good", "USERNAME=user", "PASSWORD=@"+file(t, "p", "password-pX7"))
	n.must("secret", "set", "other", "DOCKERCONFIGJSON=@"+config)
	n.must("secret", "set", "bad", "USERNAME=user", "PASSWORD=@"+file(t, "p", "wrong"))
	for range 5 {
		var all errgroup.Group
		for _, secret := range []string{"good", "bad", "other", "bad", "good"} {
			all.Go(func() error {
				got := n.run("image", "pull", r.Addr+"/app:1", "--auth-secret", secret)
				if refused := strings.Contains(got.stderr, "purser: unauthorized: "); (got.code == 0) == (secret == "bad") || (secret == "bad") != refused {
					return fmt.Errorf("with %s: status %d: %s", secret, got.code, got.stderr)
				}
				return nil
			})
		}
		if err := all.Wait(); err != nil {
			t.Fatal(err)
		}
		n.must("image", "rm", r.Addr+"/app:1")
	}
}

// An interrupt of a run that waits for its image ends it at once, with nothing left.
func TestInterruptedPullOfARun(t *testing.T) {
	t.Parallel()
	r := rig.StartRegistry(t, rig.RegistryOptions{})
	i := speaking("x")
	i.Layers = []map[string]string{{"one": noise(t, 8<<20)}}
	r.Push("app:1", i)
	l := newLink(t, r)
	l.set(func() { l.rate = 1 << 17 })
	n := emptyNode(t, rig.V24)
	cmd := n.command("run", "--image", l.addr()+"/app:1", "--", "true")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	n.eventually("a pull", func() bool { return l.reading() > 0 })
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != 130 {
		t.Errorf("exit status %d", code)
	}
	if left := n.must("ps", "-a"); strings.Contains(left, "run/") {
		t.Errorf("left: %s", left)
	}
	n.eventually("the pull's end", func() bool { return l.reading() == 0 })
}
