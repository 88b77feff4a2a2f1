package volumes

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// removeAll removes a directory that has been taken away, and all that is in it. Each
// level below it that is looked into takes a descriptor, and containers nest
// directories as deep as they like: what lies deeper than deepest is moved up, to be
// removed from there.
func removeAll(path string) error {
	fd, err := openDir(unix.AT_FDCWD, path)
	if err != nil {
		return fmt.Errorf("opening %s: %w", path, err)
	}
	trash := os.NewFile(uintptr(fd), path)
	defer trash.Close()
	d := destroyer{trash: fd}
	if err := d.empty(trash, 0); err != nil {
		return err
	}
	return os.Remove(path)
}

// destroyer empties one directory.
type destroyer struct {
	// trash is the directory's descriptor.
	trash int
}

// empty removes what is in a directory. Removing may hide entries from who reads
// on, and the trash is given more while it is emptied: it is read again until
// nothing is found. What cannot be removed keeps nothing else there, but is not
// tried again.
func (d *destroyer) empty(dir *os.File, depth int) error {
	for {
		if _, err := dir.Seek(0, io.SeekStart); err != nil {
			return err
		}
		found, err := d.pass(dir, depth)
		if err != nil || !found {
			return err
		}
	}
}

// pass removes what one reading of a directory finds.
func (d *destroyer) pass(dir *os.File, depth int) (found bool, err error) {
	for {
		names, readErr := dir.Readdirnames(namesAtOnce)
		for _, name := range names {
			found = true
			// One error says enough: a volume may have millions of files.
			if removeErr := d.remove(int(dir.Fd()), name, depth); err == nil {
				err = removeErr
			}
		}
		if errors.Is(readErr, io.EOF) {
			return found, err
		}
		if readErr != nil {
			return found, errors.Join(err, readErr)
		}
	}
}

// remove removes a file or directory, or moves it up.
func (d *destroyer) remove(dir int, name string, depth int) error {
	err := unix.Unlinkat(dir, name, 0)
	if errors.Is(err, unix.EISDIR) && depth < deepest {
		return d.removeDir(dir, name, depth)
	}
	if errors.Is(err, unix.EISDIR) {
		err = unix.Renameat(dir, name, d.trash, rand.Text())
	}
	return unlessGone(err, name)
}

func (d *destroyer) removeDir(dir int, name string, depth int) error {
	fd, err := openDir(dir, name)
	if err != nil {
		return unlessGone(err, name)
	}
	inner := os.NewFile(uintptr(fd), name)
	defer inner.Close()
	// Its error names what is in the way; so many names above it would say less.
	if err := d.empty(inner, depth+1); err != nil {
		return err
	}
	return unlessGone(unix.Unlinkat(dir, name, unix.AT_REMOVEDIR), name)
}

func unlessGone(err error, name string) error {
	if err == nil || errors.Is(err, unix.ENOENT) {
		return nil
	}
	return fmt.Errorf("removing %q: %w", name, err)
}
