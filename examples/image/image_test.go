package main

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/validate"

	"github.com/purserd/purser/e2e/rig"
)

// write makes a file with its parents.
func write(t *testing.T, path, content string, mode os.FileMode) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil { // beyond the umask
		t.Fatal(err)
	}
}

func mustRun(t *testing.T, args ...string) string {
	t.Helper()
	var out strings.Builder
	if err := run(args, &out, io.Discard); err != nil {
		t.Fatalf("image %s: %v", strings.Join(args, " "), err)
	}
	return out.String()
}

// read returns the only image of a layout, and the name it has there.
func read(t *testing.T, dir string) (v1.Image, string) {
	t.Helper()
	p, err := layout.FromPath(dir)
	if err != nil {
		t.Fatal(err)
	}
	index, err := p.ImageIndex()
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := index.IndexManifest()
	if err != nil || len(manifest.Manifests) != 1 {
		t.Fatalf("index %+v, %v; want one image", manifest, err)
	}
	image, err := p.Image(manifest.Manifests[0].Digest)
	if err != nil {
		t.Fatal(err)
	}
	return image, manifest.Manifests[0].Annotations[refName]
}

// list describes each entry of the image's file system: mode, name, link or content.
func list(t *testing.T, image v1.Image) []string {
	t.Helper()
	layers, err := image.Layers()
	if err != nil || len(layers) != 1 {
		t.Fatalf("%d layers, %v; want one", len(layers), err)
	}
	r, err := layers[0].Uncompressed()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var all []string
	for in := tar.NewReader(r); ; {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(in)
		if err != nil {
			t.Fatal(err)
		}
		if h.Uid != 0 || h.Gid != 0 {
			t.Errorf("%s is owned by %d:%d", h.Name, h.Uid, h.Gid)
		}
		all = append(all, fmt.Sprintf("%04o %s %s%s", h.Mode, h.Name, h.Linkname, content))
	}
}

func TestImage(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/root/etc/passwd", "root:x:0:0::/:", 0o644)
	write(t, dir+"/root/bin/tool", "old tool", 0o755)
	if err := os.Symlink("tool", dir+"/root/bin/alias"); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(dir+"/root/tmp", 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir+"/root/tmp", 0o777|os.ModeSticky); err != nil {
		t.Fatal(err)
	}
	write(t, dir+"/rag", "binary", 0o755)
	write(t, dir+"/tool", "new tool", 0o700)
	args := []string{
		"-o", dir + "/out", "-ref", "localhost/rag:1.4", "-entrypoint", "/app/rag", "-entrypoint", "-v", "-cmd", "serve",
		"-env", "PATH=/app", "-env", "EMPTY=", "-label", "team=search", "-user", "65532:65532", "-workdir", "/app", "-stop-signal", "SIGINT",
		dir + "/root", dir + "/rag:/app/rag", dir + "/tool:/bin/tool",
	}
	said := mustRun(t, args...)
	image, ref := read(t, dir+"/out")
	if err := validate.Image(image); err != nil {
		t.Error(err)
	}
	digest, err := image.Digest()
	if err != nil || said != "localhost/rag:1.4 "+digest.String()+"\n" || ref != "localhost/rag:1.4" {
		t.Errorf("said %q, wrote %s as %q (%v)", said, digest, ref, err)
	}
	want := []string{
		"0755 app/ ", "0755 app/rag binary", "0755 bin/ ", "0777 bin/alias tool", "0700 bin/tool new tool",
		"0755 etc/ ", "0644 etc/passwd root:x:0:0::/:", "1777 tmp/ ",
	}
	if got := list(t, image); !slices.Equal(got, want) {
		t.Errorf("holds\n%q\nwant\n%q", got, want)
	}
	checkConfig(t, image)
	if again := mustRun(t, args...); again != said {
		t.Errorf("the same input gave %q, then %q", said, again)
	}
}

func checkConfig(t *testing.T, image v1.Image) {
	t.Helper()
	file, err := image.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	c := file.Config
	got := fmt.Sprintln(file.OS, c.Entrypoint, c.Cmd, c.Env, c.Labels, c.User, c.WorkingDir, c.StopSignal)
	want := "linux [/app/rag -v] [serve] [PATH=/app EMPTY=] map[team:search] 65532:65532 /app SIGINT\n"
	if got != want {
		t.Errorf("config is\n%s\nwant\n%s", got, want)
	}
}

func TestSkopeoReadsTheLayout(t *testing.T) {
	skopeo := rig.Program(t, "skopeo", "apt-get install skopeo")
	dir := t.TempDir()
	write(t, dir+"/rag", "binary", 0o755)
	mustRun(t, "-o", dir+"/out", "-ref", "localhost/rag:1.4", "-label", "team=search", dir+"/rag")
	out, err := exec.CommandContext(t.Context(), skopeo, "inspect", "oci:"+dir+"/out:localhost/rag:1.4").CombinedOutput()
	if err != nil || !strings.Contains(string(out), `"team": "search"`) {
		t.Errorf("skopeo inspect: %v\n%s", err, out)
	}
}

func TestRefusals(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/rag", "binary", 0o755)
	write(t, dir+"/precious/file", "content", 0o644)
	tests := []struct {
		name string
		args []string
		says string
	}{
		{"no output", []string{"-ref", "a:1", dir + "/rag"}, "-o is missing"},
		{"no reference", []string{"-o", dir + "/o", dir + "/rag"}, "-ref is missing"},
		{"no source", []string{"-o", dir + "/o", "-ref", "a:1"}, "at least one file"},
		{"source that is not there", []string{"-o", dir + "/o", "-ref", "a:1", dir + "/none"}, "reading " + dir + "/none"},
		{"relative target", []string{"-o", dir + "/o", "-ref", "a:1", dir + "/rag:app"}, `"app" is not a clean absolute path`},
		{"target with dots", []string{"-o", dir + "/o", "-ref", "a:1", dir + "/rag:/../app"}, "is not a clean absolute path"},
		{"bad variable", []string{"-env", "K"}, "is not K=V"},
		{"bad label", []string{"-label", "=v"}, "is not K=V"},
		{"relative workdir", []string{"-o", dir + "/o", "-ref", "a:1", "-workdir", "app", dir + "/rag"}, "-workdir"},
		{"output that is something else", []string{"-o", dir + "/precious", "-ref", "a:1", dir + "/rag"}, "is no OCI image layout"},
		{"output that is a file", []string{"-o", dir + "/rag", "-ref", "a:1", dir + "/rag"}, "writing the image"},
		{"source that is a device", []string{"-o", dir + "/o", "-ref", "a:1", "/dev/null"}, "neither a file"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			err := run(test.args, io.Discard, io.Discard)
			if err == nil || !strings.Contains(err.Error(), test.says) {
				t.Errorf("got %v, want %q", err, test.says)
			}
		})
	}
	if _, err := os.Stat(dir + "/precious/file"); err != nil {
		t.Errorf("a refused output lost a file: %v", err)
	}
}
