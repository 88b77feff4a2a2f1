package e2e

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1"

	"github.com/purserd/purser/e2e/rig"
)

// Archives of every kind that other tools write.
func TestImageImport(t *testing.T) {
	onEach(t, func(t *testing.T, n *node) {
		cfg := v1.Config{Cmd: []string{"echo", "from the image"}}
		layout := rig.Busybox(t, rig.Image{Ref: "localhost/layout:1", Config: cfg})
		tarred := filepath.Join(t.TempDir(), "tarred.tar")
		out, err := os.Create(tarred)
		if err != nil {
			t.Fatal(err)
		}
		io.Copy(out, rig.Archive(t, rig.Busybox(t, rig.Image{Ref: "v7", Config: cfg})))
		out.Close()
		zipped := rig.DockerArchive(t, rig.Image{Ref: "localhost/docker:1", Config: cfg})
		if err := exec.Command("gzip", zipped).Run(); err != nil {
			t.Fatal(err)
		}
		skopeo := filepath.Join(t.TempDir(), "skopeo.tar")
		if r := finish(t, exec.Command("skopeo", "--insecure-policy", "copy", "oci:"+layout, "docker-archive:"+skopeo+":localhost/skopeo:2")); r.code != 0 {
			t.Fatal(r.stderr)
		}
		for _, tc := range []struct {
			args []string
			ref  string
		}{
			{[]string{layout}, "localhost/layout:1"},
			{[]string{tarred}, "localhost/tarred:v7"},
			{[]string{zipped + ".gz"}, "localhost/docker:1"},
			{[]string{skopeo}, "localhost/skopeo:2"},
			{[]string{layout, "--name", "other/name:3"}, "docker.io/other/name:3"},
		} {
			n.must(append([]string{"image", "import"}, tc.args...)...)
			if r := n.run("run", "--image", tc.ref); r.code != 0 || r.stdout != "from the image\n" {
				t.Errorf("%v as %s: %+v\n%s", tc.args, tc.ref, r, n.must("image", "list"))
			}
		}
		var list struct {
			Images []struct{ Ref, Digest string }
		}
		n.json(&list, "image", "list")
		if len(list.Images) != 6 {
			t.Errorf("images: %+v", list.Images)
		}
		n.must("image", "rm", "localhost/layout:1")
		n.refused("run", "--image", "localhost/layout:1")
		n.refused("image", "rm", "localhost/layout:1")
	})
}

func TestBadArchives(t *testing.T) {
	onEach(t, func(t *testing.T, n *node) {
		whole := rig.DockerArchive(t, rig.Image{Ref: "localhost/whole:1"})
		data, err := os.ReadFile(whole)
		if err != nil {
			t.Fatal(err)
		}
		for name, path := range map[string]string{
			"cut":          file(t, "cut.tar", string(data[:len(data)/2])),
			"empty":        file(t, "empty.tar", ""),
			"text":         file(t, "text.tar", strings.Repeat("no archive ", 100)),
			"not there":    "/nonexistent.tar",
			"architecture": rig.DockerArchive(t, rig.Image{Ref: "localhost/foreign:1", Arch: "s390x"}),
		} {
			text := n.refused("image", "import", path)
			if !strings.HasPrefix(text, "purser: ") || strings.Count(strings.TrimSpace(text), "\n") > 3 {
				t.Errorf("%s: %s", name, text)
			}
		}
		var list struct{ Images []struct{ Ref string } }
		n.json(&list, "image", "list")
		if len(list.Images) != 1 {
			t.Errorf("a bad archive left %+v", list.Images)
		}
	})
}
