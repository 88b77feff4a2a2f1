package runtime

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// lockPatience is how long an agent that is about to end has to let go.
const lockPatience = time.Second

// lockRunDir keeps other agents from the run directory, in which there is one log
// helper and one place where OCI runtimes ask for secrets. It lasts until the file is
// closed, or the process ends.
func (c Config) lockRunDir() (*os.File, error) {
	path := filepath.Join(c.RunDir, "lock")
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("locking the run directory: %w", err)
	}
	for deadline := time.Now().Add(lockPatience); ; time.Sleep(50 * time.Millisecond) {
		err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		switch {
		case err == nil:
			return file, nil
		case !errors.Is(err, unix.EWOULDBLOCK):
			err = fmt.Errorf("locking %s: %w", path, err)
		case time.Now().Before(deadline):
			continue
		default:
			err = fmt.Errorf("%s is in use: another agent runs on this run directory; give each its own run_dir, and its own socket", c.RunDir)
		}
		return nil, errors.Join(err, file.Close())
	}
}
