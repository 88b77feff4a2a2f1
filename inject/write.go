package inject

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// dataLink is the one name in a directory that is ever replaced. The names that the
// container uses are links through it: all of them change at one moment. It is the
// layout that Kubernetes gives its volumes (pkg/volume/util/atomic_writer.go), which
// programs that watch their files know.
const dataLink = "..data"

// Write makes dir, which must be there, hold the files of d: at one moment for who
// looks into it, whatever it held before. What it held before stays until the next
// time, under a name that nobody is told. Files without an owner of their own get uid
// and gid.
func (d Directory) Write(dir string, uid, gid uint32) error {
	if err := d.write(dir, uid, gid); err != nil {
		return fmt.Errorf("writing the files of secrets for %s: %w", d.Target, err)
	}
	return nil
}

func (d Directory) write(dir string, uid, gid uint32) (err error) {
	for _, inner := range d.Within {
		if err := os.MkdirAll(filepath.Join(dir, inner), 0o755); err != nil {
			return err
		}
	}
	before, err := os.Readlink(filepath.Join(dir, dataLink))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	data := ".." + strings.ToLower(rand.Text())
	made := []string{data}
	defer func() {
		if err != nil {
			err = errors.Join(err, removeAll(dir, made))
		}
	}()
	if err := d.writeFiles(filepath.Join(dir, data), uid, gid); err != nil {
		return err
	}
	names, err := d.linkNew(dir)
	made = append(made, names...)
	if err != nil {
		return err
	}
	if err := relink(data, filepath.Join(dir, dataLink)); err != nil {
		return err
	}
	// From here on nothing fails: what is there now is what is read. What could not be
	// removed hurts nobody, and the next time removes it.
	d.removeGone(dir)
	removeOlder(dir, data, before)
	return nil
}

// removeOlder removes all data but what is there now and what was there before: that
// may be being opened at this moment.
func removeOlder(dir, now, before string) {
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		if e.IsDir() && strings.HasPrefix(e.Name(), "..") && e.Name() != now && e.Name() != before {
			_ = os.RemoveAll(filepath.Join(dir, e.Name()))
		}
	}
}

func removeAll(dir string, names []string) error {
	var errs []error
	for _, name := range names {
		errs = append(errs, os.RemoveAll(filepath.Join(dir, name)))
	}
	return errors.Join(errs...)
}

func (d Directory) writeFiles(data string, uid, gid uint32) error {
	if err := os.Mkdir(data, 0o755); err != nil {
		return err
	}
	for _, f := range d.Files {
		if err := f.write(filepath.Join(data, f.Name), uid, gid); err != nil {
			return err
		}
	}
	return nil
}

func (f File) write(path string, uid, gid uint32) (err error) {
	if f.UID != nil {
		uid = *f.UID
	}
	if f.GID != nil {
		gid = *f.GID
	}
	file, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	f.Content.use(func(content []byte) { _, err = file.Write(content) })
	if err != nil {
		return err
	}
	if err := file.Chown(int(uid), int(gid)); err != nil {
		return err
	}
	return file.Chmod(f.Mode)
}

// relink makes a symbolic link, or replaces another in one step.
func relink(target, path string) error {
	next := path + "_next"
	if err := os.Remove(next); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.Symlink(target, next); err != nil {
		return err
	}
	return os.Rename(next, path)
}

// linkNew makes the names that are new, and returns them also after an error. Until the
// data is there they lead nowhere.
func (d Directory) linkNew(dir string) (made []string, err error) {
	there, err := names(dir)
	if err != nil {
		return nil, err
	}
	for _, f := range d.Files {
		if there[f.Name] {
			continue
		}
		if err := os.Symlink(filepath.Join(dataLink, f.Name), filepath.Join(dir, f.Name)); err != nil {
			return made, err
		}
		made = append(made, f.Name)
	}
	return made, nil
}

// removeGone removes the names that lead nowhere any more.
func (d Directory) removeGone(dir string) {
	gone, _ := names(dir)
	for _, f := range d.Files {
		delete(gone, f.Name)
	}
	for name := range gone {
		_ = os.Remove(filepath.Join(dir, name))
	}
}

// names are those that linkNew has made in a directory.
func names(dir string) (map[string]bool, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	found := map[string]bool{}
	for _, e := range entries {
		if e.Type()&fs.ModeSymlink != 0 && !strings.HasPrefix(e.Name(), "..") {
			found[e.Name()] = true
		}
	}
	return found, nil
}
