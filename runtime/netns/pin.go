package netns

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"
)

// Pin makes a namespace that stays as long as it is mounted on a file, and prepares it
// from within. On an error nothing of it is left.
func Pin(path string, prepare func() error) error {
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		return fmt.Errorf("making a file for a network namespace: %w", err)
	}
	err := DoInNew(func() error {
		if err := prepare(); err != nil {
			return err
		}
		if err := unix.Mount(Own, path, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("mounting a network namespace on %s: %w", path, err)
		}
		return nil
	})
	if err != nil {
		return errors.Join(err, Unpin(path))
	}
	return nil
}

// Unpin undoes Pin, or what there is of it.
func Unpin(path string) error {
	err := unix.Unmount(path, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
	if err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("unmounting the network namespace %s: %w", path, err)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("removing the network namespace's file: %w", err)
	}
	return nil
}

// Pinned says whether a namespace is mounted on a file: none is after a reboot.
func Pinned(path string) bool {
	var st unix.Statfs_t
	return unix.Statfs(path, &st) == nil && st.Type == unix.NSFS_MAGIC
}

// Inhabited says whether there are processes in the namespace that is mounted on a file.
func Inhabited(path string) bool {
	ns, err := os.Stat(path)
	if err != nil || !Pinned(path) {
		return false
	}
	processes, _ := filepath.Glob("/proc/[0-9]*/ns/net")
	return slices.ContainsFunc(processes, func(process string) bool {
		theirs, err := os.Stat(process)
		return err == nil && os.SameFile(ns, theirs)
	})
}
