package e2e

import (
	"crypto/rand"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1"

	"github.com/purserd/purser/e2e/rig"
)

// noise is text that no compression makes smaller.
func noise(t testing.TB, size int) string {
	t.Helper()
	b := make([]byte, size)
	if _, err := rand.Read(b); err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// speaking is an image that says a word.
func speaking(word string) rig.Image {
	return rig.Image{Config: v1.Config{Env: []string{"PATH=/bin"}, Cmd: []string{"echo", word}}}
}

// pulled is what image pull -o json prints.
type pulled struct {
	Image struct{ Ref, Digest, Size string }
}

// By tag, by digest, again when the tag has moved, over plain HTTP.
func TestPull(t *testing.T) {
	onEach(t, func(t *testing.T, n *node) {
		r := rig.StartRegistry(t, rig.RegistryOptions{})
		byDigest := r.Push("team/app:1", speaking("first"))
		tag := r.Addr + "/team/app:1"
		got := n.run("image", "pull", tag)
		if got.code != 0 || !strings.HasPrefix(got.stdout, tag+" (sha256:") || !strings.Contains(got.stderr, ": done\n") || strings.Contains(got.stderr, "\x1b") {
			t.Fatalf("%+v", got)
		}
		var first, again, moved, exact pulled
		n.json(&first, "image", "pull", tag)
		if first.Image.Ref != tag || !strings.HasSuffix(byDigest, first.Image.Digest) {
			t.Errorf("%+v", first)
		}
		if out := n.must("run", "--image", tag); out != "first\n" {
			t.Errorf("ran %q", out)
		}
		r.Push("team/app:1", speaking("second"))
		n.json(&again, "image", "pull", tag, "--policy", "if_not_present")
		if again != first {
			t.Errorf("an image that is present was pulled: %+v", again)
		}
		n.json(&moved, "image", "pull", tag)
		if out := n.must("run", "--image", tag); moved.Image.Digest == first.Image.Digest || out != "second\n" {
			t.Errorf("after the tag had moved: %+v, %q", moved, out)
		}
		n.json(&exact, "image", "pull", byDigest)
		if out := n.must("run", "--image", byDigest); exact.Image.Digest != first.Image.Digest || out != "first\n" {
			t.Errorf("by digest: %+v, %q", exact, out)
		}
		if leases := n.containerd("leases", "list"); len(leases) > 0 {
			t.Errorf("the pulls left leases: %v", leases)
		}
		var events string
		if events = n.must("events"); strings.Count(events, "ImagePulled") != 4 {
			t.Errorf("events:\n%s", events)
		}
	})
}

// hosts writes a certs.d with the hosts.toml of one registry, and the settings that
// lead there.
func hosts(t testing.TB, registry, content string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, registry), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, registry, "hosts.toml"), []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("[images]\ncerts_dir = %q\n", dir)
}

func TestPullWithPrivateAuthority(t *testing.T) {
	t.Parallel()
	r := rig.StartRegistry(t, rig.RegistryOptions{TLS: true, User: "u", Password: "p"})
	r.Push("app:1", speaking("over TLS"))
	ref := "registry.invalid/app:1"
	server := fmt.Sprintf("server = \"https://%s\"\n", r.Addr)
	n := emptyNodeWith(t, rig.V24, hosts(t, "registry.invalid", fmt.Sprintf("%sca = %q\n", server, r.Authority)))
	if got := n.runWith("p", "secret", "set", "login", "USERNAME=u", "PASSWORD=-"); got.code != 0 {
		t.Fatal(got.stderr)
	}
	if got := n.run("run", "--image", ref, "--auth-secret", "login"); got.stdout != "over TLS\n" {
		t.Errorf("%+v", got)
	}
	if text := n.refused("image", "pull", ref); !strings.HasPrefix(text, "purser: unauthorized: ") {
		t.Error(text)
	}
	n = emptyNodeWith(t, rig.V24, hosts(t, "registry.invalid", server))
	text := n.refused("image", "pull", ref)
	if !strings.HasPrefix(text, "purser: certificate not trusted: image "+ref+": "+r.Addr+": certificate signed by unknown authority") {
		t.Error(text)
	}
	// What the file should say is not guessed.
	n = emptyNodeWith(t, rig.V24, hosts(t, "registry.invalid", "server = https"))
	text = n.refused("image", "pull", ref)
	if !strings.HasPrefix(text, "purser: misconfigured: image "+ref+": ") || !strings.Contains(text, "hosts.toml") {
		t.Error(text)
	}
}

func TestPullFromMirror(t *testing.T) {
	t.Parallel()
	r := rig.StartRegistry(t, rig.RegistryOptions{})
	r.Push("library/app:1", speaking("from the mirror"))
	l := newLink(t, r)
	n := emptyNodeWith(t, rig.V24, hosts(t, "docker.io", fmt.Sprintf("server = \"https://registry-1.docker.io\"\n[host.%q]\n  capabilities = [\"pull\", \"resolve\"]\n", l.URL)))
	if got := n.run("run", "--image", "app:1"); got.stdout != "from the mirror\n" {
		t.Errorf("%+v", got)
	}
	if len(l.fetched()) == 0 {
		t.Error("it came another way")
	}
}

// pullErrors are images that cannot be had, and what is said of each.
func TestPullErrors(t *testing.T) {
	t.Parallel()
	r := rig.StartRegistry(t, rig.RegistryOptions{})
	locked := rig.StartRegistry(t, rig.RegistryOptions{User: "u", Password: "a password"})
	r.Push("app:1", speaking("x"))
	r.Push("foreign:1", rig.Image{Arch: "s390x"})
	r.PushIndex("foreign:2", rig.Image{Arch: "s390x"}, rig.Image{Arch: "ppc64le"})
	r.PushIndex("empty:1")
	locked.Push("app:1", speaking("x"))
	n := newNode(t, rig.V24)
	for _, tc := range []struct{ ref, want string }{
		{r.Addr + "/app:2", "not found: image " + r.Addr + "/app:2: registry " + r.Addr + " has no such image"},
		{r.Addr + "/none:1", "not found: "},
		{r.Addr + "/app@sha256:" + strings.Repeat("0", 64), "not found: "},
		{"registry.invalid/app:1", "no such host: image registry.invalid/app:1: registry.invalid"},
		{"127.0.0.1:1/app:1", "connection refused: image 127.0.0.1:1/app:1: 127.0.0.1:1 does not listen"},
		{locked.Addr + "/app:1", "unauthorized: image " + locked.Addr + "/app:1: registry " + locked.Addr + " wants credentials"},
		{r.Addr + "/foreign:1", "no image for linux/amd64: " + r.Addr + "/foreign:1 is for linux/s390x"},
		{r.Addr + "/foreign:2", "no image for linux/amd64: " + r.Addr + "/foreign:2 is for linux/ppc64le, linux/s390x"},
		{r.Addr + "/empty:1", "no image for linux/amd64: " + r.Addr + "/empty:1 is for no platform that it names"},
	} {
		for _, command := range [][]string{{"image", "pull", tc.ref}, {"run", "--image", tc.ref}} {
			got := n.run(command...)
			if got.code == 0 || got.stdout != "" || !strings.Contains(got.stderr, "purser: "+tc.want) {
				t.Errorf("%v: %+v, want %q", command, got, tc.want)
			}
		}
	}
	if text := n.refused("image", "pull", "Not A Reference"); !strings.HasPrefix(text, "purser: image reference \"Not A Reference\": ") {
		t.Error(text)
	}
	var list struct{ Images []struct{ Ref string } }
	n.json(&list, "image", "list")
	if leases := n.containerd("leases", "list"); len(list.Images) != 1 || len(leases) > 0 {
		t.Errorf("left: %+v, %v", list, leases)
	}
	if out := n.must("ps", "-a", "-o", "json"); strings.Contains(out, "state") {
		t.Errorf("left: %s", out)
	}
	// Another platform than the node's may be asked for.
	var got pulled
	n.json(&got, "image", "pull", r.Addr+"/foreign:2", "--platform", "linux/s390x")
	// The image only claims to be for it.
	if run := n.run("run", "--image", r.Addr+"/foreign:2", "--pull", "never", "--", "true"); got.Image.Digest == "" || run.code != 0 {
		t.Errorf("%+v, %+v", got, run)
	}
	n.json(&list, "image", "list")
	if len(list.Images) != 2 {
		t.Errorf("%+v", list)
	}
}

// A slow link, that is cut half way and is down for a while: what has come stays.
func TestPullGoesOn(t *testing.T) {
	onEach(t, func(t *testing.T, n *node) {
		r := rig.StartRegistry(t, rig.RegistryOptions{})
		const size = 8 << 20
		i := speaking("whole")
		i.Layers = []map[string]string{{"big": noise(t, size)}}
		r.Push("big:1", i)
		l := newLink(t, r)
		ref := l.addr() + "/big:1"
		l.set(func() { l.rate, l.cutAfter = 8<<20, size/2 })
		pull := n.command("image", "pull", ref)
		var out strings.Builder
		pull.Stderr = &out
		if err := pull.Start(); err != nil {
			t.Fatal(err)
		}
		n.eventually("the half", func() bool { return l.big() >= size/2 })
		l.set(func() { l.down = true })
		if err := pull.Wait(); err == nil || !strings.Contains(out.String(), "connection lost") {
			t.Fatalf("%v: %s", err, out.String())
		}
		if strings.Contains(out.String(), "MiB, from ") || !strings.Contains(out.String(), "MiB\n") {
			t.Errorf("a pull from the start said\n%s", out.String())
		}
		// Tries that bring nothing take nothing away.
		if text := n.refused("image", "pull", ref); !strings.Contains(text, "connection lost") {
			t.Errorf("while the link is down: %s", text)
		}
		n.must("secret", "set", "wrong", "USERNAME=u", "PASSWORD=not-it")
		l.set(func() { l.down, l.status = false, http.StatusUnauthorized })
		if text := n.refused("image", "pull", ref, "--auth-secret", "wrong"); !strings.Contains(text, "unauthorized") {
			t.Errorf("with the wrong credentials: %s", text)
		}
		n.collectGarbage()
		before := l.big()
		l.set(func() { l.status, l.cutAfter, l.rate = 0, 0, 8<<20 })
		if got := n.run("image", "pull", ref); got.code != 0 || !strings.Contains(got.stderr, "MiB, from ") {
			t.Fatalf("%+v", got)
		}
		// What was on its way when it was cut, and what containerd had not written yet,
		// comes twice.
		again := l.big() - size
		if again > 2<<20 || before < size/2 {
			t.Errorf("%d bytes of %d came twice, %d before the cut: %+v", again, size, before, l.fetched())
		}
		if out := n.must("run", "--image", ref); out != "whole\n" {
			t.Error(out)
		}
		if leases := n.containerd("leases", "list"); len(leases) > 0 {
			t.Errorf("left: %v", leases)
		}
	})
}

// big is how much of the largest blobs has been sent: the others are small.
func (l *link) big() int {
	total := map[string]int{}
	for _, f := range l.fetched() {
		total[f.path] += f.sent
	}
	most := 0
	for _, n := range total {
		most = max(most, n)
	}
	return most
}
