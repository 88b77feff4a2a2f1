package dir

import (
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/purserd/purser/inject/source"
	"github.com/purserd/purser/inject/store"
)

// dataLink leads to the files of a directory that changes at one moment: as in
// Kubernetes' volumes (pkg/volume/util/atomic_writer.go) and those of CSI drivers.
const dataLink = "..data"

// view is what there is to see of a secret's files from outside.
type view struct {
	// atomic: the files are never changed, but others take their place at one moment.
	atomic bool
	files  []file // sorted by path
	// changed is when anything last has, by the file system's clock.
	changed time.Time
}

// file is one of a secret's files.
type file struct {
	path string
	id
}

// id tells a file, and its content, from what was or will be in its place.
type id struct {
	dev, ino     uint64
	size         int64
	mtime, ctime int64
	mode         uint32
}

func identify(s *unix.Stat_t) id {
	return id{dev: uint64(s.Dev), ino: s.Ino, size: s.Size, mtime: s.Mtim.Nano(), ctime: s.Ctim.Nano(), mode: s.Mode}
}

// look looks at the entry's files without opening any.
func (e entry) look() (view, error) {
	if e.form != directory {
		f, err := lookAt(e.path)
		return view{files: []file{f}, changed: time.Unix(0, max(f.mtime, f.ctime))}, err
	}
	dir := e.path
	link, err := os.Readlink(filepath.Join(dir, dataLink))
	if err == nil && filepath.IsAbs(link) {
		dir = link
	} else if err == nil {
		dir = filepath.Join(dir, link)
	}
	v := view{atomic: err == nil}
	err = v.lookIn(dir, e.dir.naming)
	return v, err
}

func lookAt(path string) (file, error) {
	var s unix.Stat_t
	if err := unix.Stat(path, &s); err != nil {
		return file{}, &os.PathError{Op: "stat", Path: path, Err: err}
	}
	return file{path: path, id: identify(&s)}, nil
}

// lookIn looks at the files of a directory.
func (v *view) lookIn(dir string, naming naming) error {
	at, err := lookAt(dir)
	if err != nil {
		return err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	newest := max(at.mtime, at.ctime)
	for _, e := range entries {
		if !naming.takes(e.Name(), v.atomic) {
			continue
		}
		f, err := lookAt(filepath.Join(dir, e.Name()))
		if err != nil {
			return err
		}
		if f.mode&unix.S_IFMT == unix.S_IFDIR {
			return fmt.Errorf("%s is a directory, where a file for a key is expected", f.path)
		}
		v.files = append(v.files, f)
		newest = max(newest, f.mtime, f.ctime)
	}
	v.changed = time.Unix(0, newest)
	if len(v.files) == 0 {
		// Who makes the directory anew fills it next.
		return fmt.Errorf("%s has no file, and a secret needs a key at least: %w", dir, errAgain)
	}
	return nil
}

// fits refuses more than a secret can hold before any of it is read.
func (v view) fits(path string) error {
	var total int64
	for _, f := range v.files {
		if f.size > store.MaxValue {
			return fmt.Errorf("%s has %d bytes, the limit is %d (1 MiB)", f.path, f.size, store.MaxValue)
		}
		total += f.size
	}
	if total > store.MaxSecret {
		return fmt.Errorf("the %d files of %s have %d bytes together, the limit is %d (1 MiB)", len(v.files), path, total, store.MaxSecret)
	}
	return nil
}

// settled says whether the files have been as they are for a moment. A time in the future
// tells nothing.
func (v view) settled(now time.Time) bool { return v.atomic || now.Sub(v.changed) >= settle }

func (v view) equal(other view) bool {
	return v.atomic == other.atomic && slices.Equal(v.files, other.files)
}

// revision tells one view from another.
func (v view) revision() source.Revision {
	h := sha256.New()
	for _, f := range v.files {
		fmt.Fprintf(h, "%q %+v\n", f.path, f.id)
	}
	return source.Revision(fmt.Sprintf("%x", h.Sum(nil)))
}
