package runtime_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"os"
	"path/filepath"
	goruntime "runtime"
	"slices"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/purserd/purser/e2e/rig"
	"github.com/purserd/purser/runtime"
)

func TestImport(t *testing.T) {
	eachVersion(t, func(t *testing.T, n *node) {
		t.Run("names", func(t *testing.T) { testImportNames(t, n) })
		t.Run("formats", func(t *testing.T) { testImportFormats(t, n) })
		t.Run("faults", func(t *testing.T) { testImportFaults(t, n) })
		t.Run("list and remove", func(t *testing.T) { testListAndRemove(t, n) })
		t.Run("again, with other content", func(t *testing.T) { testReimport(t, n) })
	})
}

func testImportNames(t *testing.T, n *node) {
	for _, c := range []struct {
		ref  string
		o    runtime.ImportOptions
		want string
	}{
		{"docker.io/library/busybox:test", runtime.ImportOptions{}, "docker.io/library/busybox:test"},
		{"busybox:other", runtime.ImportOptions{Stem: "unused"}, "docker.io/library/busybox:other"},
		{"1.2", runtime.ImportOptions{Stem: "rag-qna"}, "localhost/rag-qna:1.2"},
		{"latest", runtime.ImportOptions{Stem: "My App_v2"}, "localhost/my-app-v2:latest"},
		{"latest", runtime.ImportOptions{}, "localhost/imported:latest"},
		{"latest", runtime.ImportOptions{Name: "app:3", Stem: "x"}, "docker.io/library/app:3"},
		{"latest", runtime.ImportOptions{Name: "registry.example/team/app"}, "registry.example/team/app:latest"},
	} {
		images := n.importTar(rig.Archive(t, rig.Busybox(t, rig.Image{Ref: c.ref})), c.o)
		if len(images) != 1 || images[0].Ref != c.want {
			t.Errorf("%s with %+v: %+v", c.ref, c.o, images)
		}
		if _, err := n.Image(t.Context(), c.want); err != nil {
			t.Error(err)
		}
	}
}

func testImportFormats(t *testing.T, n *node) {
	var zipped bytes.Buffer
	z := gzip.NewWriter(&zipped)
	if _, err := io.Copy(z, rig.Archive(t, rig.Busybox(t, rig.Image{Ref: "zipped:1"}))); err != nil {
		t.Fatal(err)
	}
	z.Close()
	docker, err := os.Open(rig.DockerArchive(t, rig.Image{Ref: "docker:1"}))
	if err != nil {
		t.Fatal(err)
	}
	defer docker.Close()
	for ref, archive := range map[string]io.Reader{"zipped:1": &zipped, "docker:1": docker} {
		images := n.importTar(archive, runtime.ImportOptions{})
		if len(images) != 1 || images[0].Ref != "docker.io/library/"+ref || images[0].Size == 0 {
			t.Errorf("%s: %+v", ref, images)
		}
		s := spec("echo", ref)
		s.Image.Ref = &ref
		if code, out, _ := n.run(strings.Trim(ref, ":1"), s); code != 0 || out != ref+"\n" {
			t.Errorf("%s: status %d, %q", ref, code, out)
		}
	}
}

func testImportFaults(t *testing.T, n *node) {
	other := "arm64"
	if goruntime.GOARCH == other {
		other = "amd64"
	}
	// Each has a layer of its own: one that containerd has already mends the archive.
	whole := func(unique string) []byte {
		image := rig.Image{Ref: "faulty:1", Files: map[string]string{"unique": unique}}
		data, err := io.ReadAll(rig.Archive(t, rig.Busybox(t, image)))
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	half := whole("cut off")
	half = half[:len(half)/2]
	for name, c := range map[string]struct {
		tar  io.Reader
		want string
	}{
		"other architecture":  {rig.Archive(t, rig.Busybox(t, rig.Image{Ref: "faulty:1", Arch: other})), "is for linux/" + other},
		"not an archive":      {strings.NewReader("this is no archive"), "neither an OCI layout nor a docker archive"},
		"nothing":             {strings.NewReader(""), "neither an OCI layout nor a docker archive"},
		"another kind of tar": {rig.Archive(t, filepath.Dir(rig.DockerArchive(t, rig.Image{}))), "neither an OCI layout nor a docker archive"},
		"cut off":             {bytes.NewReader(half), "damaged"},
		"a blob missing":      {without(t, whole("missing"), func(h *tar.Header) bool { return h.Size > 100_000 }), "damaged"},
		"a blob changed":      {altered(t, whole("changed")), "damaged"},
	} {
		_, err := n.ImportImages(t.Context(), c.tar, runtime.ImportOptions{})
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
		if _, err := n.Image(t.Context(), "faulty:1"); !errors.Is(err, runtime.ErrImageNotFound) {
			t.Errorf("%s: the image is there: %v", name, err)
		}
	}
}

// without drops the files of an archive that match.
func without(t *testing.T, archive []byte, drop func(*tar.Header) bool) io.Reader {
	return rewrite(t, archive, func(h *tar.Header, data []byte) []byte {
		if drop(h) {
			return nil
		}
		return data
	})
}

// altered changes one byte of the layer.
func altered(t *testing.T, archive []byte) io.Reader {
	return rewrite(t, archive, func(h *tar.Header, data []byte) []byte {
		if h.Size > 100_000 {
			data[len(data)/2] ^= 1
		}
		return data
	})
}

func rewrite(t *testing.T, archive []byte, change func(*tar.Header, []byte) []byte) io.Reader {
	t.Helper()
	var out bytes.Buffer
	w, r := tar.NewWriter(&out), tar.NewReader(bytes.NewReader(archive))
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		if h.Typeflag == tar.TypeReg {
			if data = change(h, data); data == nil {
				continue
			}
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(data); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return &out
}

func testListAndRemove(t *testing.T, n *node) {
	all, err := n.ListImages(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(all, func(i runtime.Image) bool { return i.Ref == rig.BusyboxRef && i.Size > 0 }) {
		t.Errorf("listed %+v", all)
	}
	img, err := n.Image(t.Context(), "busybox:other")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := n.Image(t.Context(), "busybox@"+img.Digest); err != nil {
		t.Errorf("by digest: %v", err)
	}
	used := errors.New("in use")
	for _, ref := range []string{"busybox:other", "busybox@" + img.Digest} {
		_, err := n.RemoveImage(t.Context(), "busybox:other", func(same func(string) bool) error {
			if same(ref) && !same("busybox:test") && !same("other@"+img.Digest) {
				return used
			}
			return nil
		})
		if !errors.Is(err, used) {
			t.Errorf("removing it while %s is in use: %v", ref, err)
		}
	}
	if err := n.removeImage("busybox:other"); err != nil {
		t.Error(err)
	}
	if err := n.removeImage("busybox:other"); !errors.Is(err, runtime.ErrImageNotFound) {
		t.Errorf("removing it again: %v", err)
	}
	if _, err := n.Image(t.Context(), "Not A Reference"); err == nil || errors.Is(err, runtime.ErrImageNotFound) {
		t.Errorf("a bad reference: %v", err)
	}
}

func testReimport(t *testing.T, n *node) {
	for _, word := range []string{"first", "second"} {
		image := rig.Image{Ref: "moving:1", Config: v1.Config{
			Entrypoint: []string{"cat"}, Cmd: []string{"/word"}, Env: []string{"A=b"}, User: "app", WorkingDir: "/tmp",
		}, Files: map[string]string{"word": word}}
		imported := n.importTar(rig.Archive(t, rig.Busybox(t, image)), runtime.ImportOptions{})
		if env := imported[0].Config.Env; len(env) != 2 || !strings.HasPrefix(env[0], "PATH=") || env[1] != "A=b" {
			t.Errorf("environment %q", env)
		}
		s := spec()
		s.Image.Ref = new("moving:1")
		if _, out, stderr := n.run(word, s); out != word {
			t.Errorf("got %q, %q, want %q", out, stderr, word)
		}
	}
}

func TestNormalizeRef(t *testing.T) {
	for ref, want := range map[string]string{
		"busybox":                     "docker.io/library/busybox:latest",
		"team/app:1":                  "docker.io/team/app:1",
		"localhost/app":               "localhost/app:latest",
		"127.0.0.1:5000/app:2":        "127.0.0.1:5000/app:2",
		"app:1@sha256:" + digest("a"): "docker.io/library/app@sha256:" + digest("a"),
		"":                            "",
		"Upper":                       "",
		"a b":                         "",
		"app:":                        "",
	} {
		got, err := runtime.NormalizeRef(ref)
		if got != want || (err != nil) != (want == "") {
			t.Errorf("%q: %q, %v", ref, got, err)
		}
	}
}

func digest(digit string) string { return strings.Repeat(digit, 64) }
