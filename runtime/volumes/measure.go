package volumes

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// blockSize is the unit of st_blocks, whatever the file system's own.
const blockSize = 512

const (
	// deepest is how many levels below a volume's directory are looked into, each
	// with a descriptor and a buffer: more than anybody needs who does not mean to
	// exhaust the agent.
	deepest = 256
	// namesAtOnce is how many entries of a directory are read at once.
	namesAtOnce = 256
)

// errTooDeep tells of directories that were not looked into.
var errTooDeep = fmt.Errorf("directories are nested deeper than %d levels", deepest)

// Measure counts the bytes that a volume takes on the disk, as du does: by blocks,
// and a file with several names once. When it cannot see all of it, be it that ctx
// ended, it returns what it had found, with an error.
func (s *Store) Measure(ctx context.Context, environment, name string) (uint64, error) {
	path, err := s.Path(environment, name)
	if err != nil {
		return 0, err
	}
	fd, err := openDir(unix.AT_FDCWD, path)
	if err != nil {
		return 0, err
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return 0, errors.Join(err, unix.Close(fd))
	}
	m := meter{ctx: ctx, device: st.Dev, seen: map[uint64]bool{}}
	m.add(&st)
	err = m.dir(os.NewFile(uintptr(fd), path), 0)
	if err == nil && m.cut {
		err = errTooDeep
	}
	return m.bytes, err
}

// meter measures one volume.
type meter struct {
	ctx    context.Context
	device uint64
	// seen are the inodes of files with several names.
	seen  map[uint64]bool
	bytes uint64
	// cut says that what lies deeper than deepest was left out.
	cut bool
}

func (m *meter) add(st *unix.Stat_t) {
	if st.Nlink > 1 && st.Mode&unix.S_IFMT != unix.S_IFDIR {
		if m.seen[st.Ino] {
			return
		}
		m.seen[st.Ino] = true
	}
	m.bytes += uint64(st.Blocks) * blockSize
}

// dir measures what is in a directory, and closes it. By descriptors alone:
// containers may put links where directories were.
func (m *meter) dir(d *os.File, depth int) error {
	defer d.Close()
	for {
		if err := m.ctx.Err(); err != nil {
			return err
		}
		entries, err := d.Readdirnames(namesAtOnce)
		for _, name := range entries {
			if err := m.entry(int(d.Fd()), name, depth); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) || vanished(err) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func (m *meter) entry(dir int, name string, depth int) error {
	var st unix.Stat_t
	err := unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW)
	if vanished(err) || err == nil && st.Dev != m.device {
		return nil
	}
	if err != nil {
		return err
	}
	m.add(&st)
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return nil
	}
	if depth == deepest {
		m.cut = true
		return nil
	}
	fd, err := openDir(dir, name)
	if vanished(err) {
		return nil
	}
	if err != nil {
		return err
	}
	return m.dir(os.NewFile(uintptr(fd), name), depth+1)
}

func openDir(at int, name string) (int, error) {
	return unix.Openat(at, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
}

// vanished tells what a container took away, or replaced, while it was looked at.
func vanished(err error) bool {
	return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP)
}
