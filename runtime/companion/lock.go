package companion

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// lockFile is a companion's lock in its directory.
const lockFile = "lock"

// Lock makes a directory this process's, having waited until it is no other companion's. It
// is until the file is closed.
func Lock(dir string) (*os.File, error) { return lock(dir, 0) }

// TryLock is Lock for who does not wait: the error wraps [ErrLocked] when another has the
// directory.
func TryLock(dir string) (*os.File, error) { return lock(dir, unix.LOCK_NB) }

// ErrLocked says that another companion has the directory.
var ErrLocked = unix.EWOULDBLOCK

func lock(dir string, how int) (*os.File, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("making a companion's directory: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(dir, lockFile), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("opening a companion's lock: %w", err)
	}
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|how)
		if err == nil {
			return f, nil
		}
		if !errors.Is(err, unix.EINTR) {
			return nil, errors.Join(fmt.Errorf("locking %s: %w", dir, err), f.Close())
		}
	}
}

// Running says whether a companion has a directory. None is started to find out: without
// one there is nothing that it could be asked for.
func Running(dir string) bool {
	f, err := os.Open(filepath.Join(dir, lockFile))
	if err != nil {
		return !os.IsNotExist(err)
	}
	defer f.Close()
	return unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB) != nil
}
