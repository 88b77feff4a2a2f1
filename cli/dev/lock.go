package dev

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// lock makes sure that a directory has one node. It ends with the process,
// however that ends.
func (l *layout) lock() (unlock func(), err error) {
	file, err := os.OpenFile(l.path("lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("locking the node's directory: %w", err)
	}
	err = unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		defer file.Close()
		return nil, fmt.Errorf("another purser dev%s runs on %s already; stop it, or choose another --dir", holder(file), l.dir)
	}
	if err == nil {
		err = writePID(file)
	}
	if err != nil {
		file.Close()
		return nil, fmt.Errorf("locking %s: %w", l.dir, err)
	}
	return func() { file.Close() }, nil
}

func writePID(file *os.File) error {
	if err := file.Truncate(0); err != nil {
		return err
	}
	_, err := file.WriteAt(fmt.Appendln(nil, os.Getpid()), 0)
	return err
}

// holder is the pid in a lock file that somebody else holds.
func holder(file *os.File) string {
	data := make([]byte, 32)
	n, _ := file.ReadAt(data, 0)
	if pid := strings.TrimSpace(string(data[:n])); pid != "" {
		return " (pid " + pid + ")"
	}
	return ""
}
