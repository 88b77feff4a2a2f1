package cli

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// archive is an image as one tar stream.
type archive struct {
	io.ReadCloser
	// stem names the image when the archive does not.
	stem string
	// size is the number of bytes to come; 0 when it is not known.
	size int64
}

func (s *session) openArchive(path string) (*archive, error) {
	if path == "-" {
		return &archive{ReadCloser: io.NopCloser(s.in), stem: "stdin"}, nil
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.IsDir() {
		return openLayout(path)
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	return &archive{ReadCloser: file, stem: stem(path), size: info.Size()}, nil
}

// stem is the name of a file without its directory and the endings of an
// archive.
func stem(path string) string {
	name := filepath.Base(path)
	for _, ending := range []string{".gz", ".tgz", ".tar"} {
		name = strings.TrimSuffix(name, ending)
	}
	return name
}

// openLayout packs the directory of an OCI layout while it is being read.
func openLayout(dir string) (*archive, error) {
	for _, name := range []string{"oci-layout", "index.json"} {
		if _, err := os.Stat(filepath.Join(dir, name)); errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("%s is not an OCI layout: it has no %s", dir, name)
		}
	}
	absolute, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	size, err := layoutSize(absolute)
	if err != nil {
		return nil, err
	}
	reader, writer := io.Pipe()
	go func() { writer.CloseWithError(packLayout(absolute, writer)) }()
	return &archive{ReadCloser: reader, stem: stem(absolute), size: size}, nil
}

// layoutSize is about what the archive will have.
func layoutSize(dir string) (int64, error) {
	var total int64
	err := filepath.WalkDir(dir, func(_ string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		total += info.Size()
		return nil
	})
	return total, err
}

// packLayout writes what belongs to a layout and leaves out whatever else lies
// in the directory.
func packLayout(dir string, w io.Writer) error {
	out := tar.NewWriter(w)
	for _, name := range []string{"oci-layout", "index.json", "blobs"} {
		err := filepath.WalkDir(filepath.Join(dir, name), func(path string, entry fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			return packFile(out, dir, path)
		})
		if err != nil {
			return err
		}
	}
	return out.Close()
}

func packFile(out *tar.Writer, dir, path string) error {
	name, err := filepath.Rel(dir, path)
	if err != nil {
		return err
	}
	info, err := os.Stat(path) // a blob may be a link to a shared one
	if err != nil || info.IsDir() {
		return err
	}
	header := &tar.Header{Typeflag: tar.TypeReg, Name: filepath.ToSlash(name), Mode: 0o644, Size: info.Size()}
	if err := out.WriteHeader(header); err != nil {
		return err
	}
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	_, err = io.Copy(out, file)
	return err
}
