package rig

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	goruntime "runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// BusyboxRef is the reference that [Busybox] gives when it is told none.
const BusyboxRef = "docker.io/library/busybox:test"

// Image says what the busybox image is to be like.
type Image struct {
	// Ref is the reference in the archive: [BusyboxRef] when empty.
	Ref string
	// Config of the image; its Cmd is sh when it has neither.
	Config v1.Config
	// Files are added to the image, by path; those in /bin can be executed.
	Files map[string]string
	// Layers are further layers, each of files by path.
	Layers []map[string]string
	// Arch is the architecture that it claims to be for; this machine's when empty.
	Arch string
}

// Busybox makes an image from Debian's static busybox, with its applets and
// with the accounts root, app (1000:1000, also in the group extra, 2000) and
// nobody, as a directory in OCI layout, and returns its path.
func Busybox(t testing.TB, i Image) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "busybox")
	if err := WriteLayout(dir, i); err != nil {
		t.Fatalf("making the busybox image: %v", err)
	}
	return dir
}

// WriteLayout is [Busybox] for programs: it writes the image to dir.
func WriteLayout(dir string, i Image) error {
	img, err := build(i)
	if err != nil {
		return err
	}
	path, err := layout.Write(dir, empty.Index)
	if err != nil {
		return err
	}
	ref := i.Ref
	if ref == "" {
		ref = BusyboxRef
	}
	return path.AppendImage(img,
		layout.WithAnnotations(map[string]string{"org.opencontainers.image.ref.name": ref}),
		layout.WithPlatform(v1.Platform{OS: "linux", Architecture: i.arch()}))
}

// DockerArchive makes the image as `docker save` would, and returns the file's path.
func DockerArchive(t testing.TB, i Image) string {
	t.Helper()
	img, err := build(i)
	if err != nil {
		t.Fatalf("making the busybox image: %v", err)
	}
	ref := i.Ref
	if ref == "" {
		ref = BusyboxRef
	}
	file := filepath.Join(t.TempDir(), "busybox-docker.tar")
	tag, err := name.NewTag(ref)
	if err != nil {
		t.Fatal(err)
	}
	if err := tarball.WriteToFile(file, tag, img); err != nil {
		t.Fatalf("writing the docker archive: %v", err)
	}
	return file
}

// Archive returns a directory as a tar archive.
func Archive(t testing.TB, dir string) io.Reader {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	if err := w.AddFS(os.DirFS(dir)); err != nil {
		t.Fatalf("archiving %s: %v", dir, err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return &buf
}

func (i Image) arch() string {
	if i.Arch != "" {
		return i.Arch
	}
	return goruntime.GOARCH
}

func build(i Image) (v1.Image, error) {
	layer, err := layer(i.Files)
	if err != nil {
		return nil, err
	}
	img, err := mutate.AppendLayers(empty.Image, layer)
	if err != nil {
		return nil, err
	}
	for _, files := range i.Layers {
		more, err := plainLayer(files)
		if err != nil {
			return nil, err
		}
		if img, err = mutate.AppendLayers(img, more); err != nil {
			return nil, err
		}
	}
	file, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	file = file.DeepCopy()
	file.OS, file.Architecture, file.Config = "linux", i.arch(), i.Config
	if len(file.Config.Entrypoint) == 0 && len(file.Config.Cmd) == 0 {
		file.Config.Cmd = []string{"sh"}
	}
	return mutate.ConfigFile(img, file)
}

func layer(extra map[string]string) (v1.Layer, error) {
	busybox, err := os.ReadFile("/bin/busybox")
	if err != nil {
		return nil, fmt.Errorf("busybox is missing: apt-get install busybox-static: %w", err)
	}
	applets, err := exec.Command("/bin/busybox", "--list").Output()
	if err != nil {
		return nil, fmt.Errorf("listing busybox's applets: %w", err)
	}
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, dir := range []string{"bin", "etc", "tmp", "root", "home", "home/app"} {
		if err := w.WriteHeader(dirHeader(dir)); err != nil {
			return nil, err
		}
	}
	if err := writeFile(w, "bin/busybox", 0o755, busybox); err != nil {
		return nil, err
	}
	if err := writeApplets(w, strings.Fields(string(applets))); err != nil {
		return nil, err
	}
	files := map[string]string{
		"etc/passwd": "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000:app:/home/app:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n",
		"etc/group":  "root:x:0:\napp:x:1000:\nextra:x:2000:app\nnogroup:x:65534:\n",
	}
	maps.Copy(files, extra)
	if err := writeFiles(w, files); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return compressed(buf.Bytes())
}

// compressed is a layer of an archive. Most nodes of a test run have the same, which is
// compressed once.
func compressed(archive []byte) (v1.Layer, error) {
	layersMu.Lock()
	defer layersMu.Unlock()
	sum := sha256.Sum256(archive)
	if known, ok := layers[sum]; ok {
		return known, nil
	}
	made, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(archive)), nil
	}, tarball.WithCompressedCaching)
	if err == nil {
		layers[sum] = made
	}
	return made, err
}

var (
	layersMu sync.Mutex
	layers   = map[[sha256.Size]byte]v1.Layer{}
)

// plainLayer is a layer of nothing but files.
func plainLayer(files map[string]string) (v1.Layer, error) {
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	if err := writeFiles(w, files); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return tarball.LayerFromOpener(func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(buf.Bytes())), nil
	}, tarball.WithCompressedCaching)
}

// writeApplets links the applets' names to busybox.
func writeApplets(w *tar.Writer, applets []string) error {
	for _, applet := range applets {
		if applet == "busybox" {
			continue
		}
		link := &tar.Header{Typeflag: tar.TypeLink, Name: "bin/" + applet, Linkname: "bin/busybox", Mode: 0o755}
		if err := w.WriteHeader(link); err != nil {
			return err
		}
	}
	return nil
}

func dirHeader(name string) *tar.Header {
	h := &tar.Header{Typeflag: tar.TypeDir, Name: name + "/", Mode: 0o755}
	if name == "tmp" {
		h.Mode = 0o1777
	}
	return h
}

func writeFiles(w *tar.Writer, files map[string]string) error {
	for _, name := range slices.Sorted(maps.Keys(files)) {
		mode := fs.FileMode(0o644)
		if strings.HasPrefix(strings.TrimPrefix(name, "/"), "bin/") {
			mode = 0o755
		}
		if err := writeFile(w, strings.TrimPrefix(name, "/"), mode, []byte(files[name])); err != nil {
			return err
		}
	}
	return nil
}

func writeFile(w *tar.Writer, name string, mode fs.FileMode, data []byte) error {
	if err := w.WriteHeader(&tar.Header{Name: name, Mode: int64(mode), Size: int64(len(data))}); err != nil {
		return err
	}
	_, err := w.Write(data)
	return err
}
