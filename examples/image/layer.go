package main

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// entry is one thing in the layer.
type entry struct {
	header *tar.Header
	path   string // the file with the content; empty without any
}

// tree collects entries by name, so that a later source wins over an earlier
// one and the layer's order depends on nothing but names.
type tree map[string]entry

// layer packs the sources into one OCI layer.
func layer(sources []source) (v1.Layer, error) {
	t := tree{}
	for _, s := range sources {
		if err := t.add(s); err != nil {
			return nil, fmt.Errorf("reading %s: %w", s.path, err)
		}
	}
	var buf bytes.Buffer
	if err := t.write(&buf); err != nil {
		return nil, fmt.Errorf("packing the layer: %w", err)
	}
	open := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(buf.Bytes())), nil }
	return tarball.LayerFromOpener(open, tarball.WithMediaType(types.OCILayer))
}

func (t tree) add(s source) error {
	info, err := os.Stat(s.path)
	if err != nil {
		return err
	}
	target := s.in(info.IsDir())
	if !info.IsDir() {
		return t.put(target, s.path, info)
	}
	// Following the source itself, not the links in it.
	root, err := filepath.EvalSymlinks(s.path)
	if err != nil {
		return err
	}
	return filepath.WalkDir(root, func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		below, err := filepath.Rel(root, file)
		if err != nil {
			return err
		}
		return t.put(path.Join(target, filepath.ToSlash(below)), file, info)
	})
}

// put adds a file, directory or link at the absolute path name, and its parents.
func (t tree) put(name, file string, info fs.FileInfo) error {
	name = strings.TrimPrefix(name, "/")
	if name == "" {
		return nil // the root itself: the runtime makes it
	}
	t.parents(name)
	h := &tar.Header{Name: name, ModTime: epoch, Mode: tarMode(info.Mode()), Format: tar.FormatPAX}
	e := entry{header: h}
	switch {
	case info.IsDir():
		h.Typeflag, h.Name = tar.TypeDir, name+"/"
	case info.Mode().IsRegular():
		h.Typeflag, h.Size, e.path = tar.TypeReg, info.Size(), file
	case info.Mode()&fs.ModeSymlink != 0:
		link, err := os.Readlink(file)
		if err != nil {
			return err
		}
		h.Typeflag, h.Linkname = tar.TypeSymlink, link
	default:
		return fmt.Errorf("%s is neither a file, a directory nor a link", file)
	}
	t[name] = e
	return nil
}

// epoch dates everything, so that the image depends on content alone.
var epoch = time.Unix(0, 0)

func (t tree) parents(name string) {
	for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
		if _, ok := t[dir]; !ok {
			t[dir] = entry{header: &tar.Header{
				Typeflag: tar.TypeDir, Name: dir + "/", Mode: 0o755, ModTime: epoch, Format: tar.FormatPAX,
			}}
		}
	}
}

// tarMode keeps the permissions and the set-uid, set-gid and sticky bits.
func tarMode(mode fs.FileMode) int64 {
	bits := int64(mode.Perm())
	for flag, bit := range map[fs.FileMode]int64{fs.ModeSetuid: 0o4000, fs.ModeSetgid: 0o2000, fs.ModeSticky: 0o1000} {
		if mode&flag != 0 {
			bits |= bit
		}
	}
	return bits
}

func (t tree) write(w io.Writer) error {
	names := make([]string, 0, len(t))
	for name := range t {
		names = append(names, name)
	}
	slices.Sort(names) // a directory sorts before what is in it
	out := tar.NewWriter(w)
	for _, name := range names {
		if err := t[name].write(out); err != nil {
			return err
		}
	}
	return out.Close()
}

func (e entry) write(out *tar.Writer) error {
	if err := out.WriteHeader(e.header); err != nil {
		return err
	}
	if e.path == "" {
		return nil
	}
	f, err := os.Open(e.path)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(out, f)
	return err
}
