// Package private keeps what secrets are in from disks: files, the agent's memory and
// that of the OCI runtimes.
//
// The private directory is where values of secrets lie, and what OCI runtimes copy
// them into. [LockProcess] is for the process that calls it, [MakeCgroup] for others.
//
// [Mount] mounts memory on it that the kernel does not swap: tmpfs with noswap
// (Linux 6.4 and later), else ramfs, which has never been swapped. The mount has to
// be seen by containerd, its shims and the runtimes, so it is made in the mount
// namespace of the machine and checked there. It outlives the agent, as the
// containers do that need it; the next agent finds it and goes on with it.
package private

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// size bounds a tmpfs. ramfs cannot be bounded.
const size = "256m"

// flags of the mount: nothing on it is to be executed or to give privileges.
const flags = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC

// Options change how the memory is mounted.
type Options struct {
	// Ramfs uses ramfs even where the kernel has tmpfs with noswap.
	Ramfs bool
}

// Mount makes dir, with mode 0700, and sees to it that it is on memory that is
// never swapped. Called again it changes nothing.
func Mount(dir string, o Options) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("making the private directory: %w", err)
	}
	// The tables of mounts have paths without links.
	dir, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return fmt.Errorf("finding the private directory: %w", err)
	}
	mounted, err := find("/proc/self/mountinfo", dir)
	if err != nil {
		return err
	}
	if mounted == nil {
		if err := mount(dir, o); err != nil {
			return fmt.Errorf("mounting memory that is never swapped on the private directory %s (purser needs CAP_SYS_ADMIN): %w", dir, err)
		}
	} else if !unswapped(mounted) {
		return fmt.Errorf("something is mounted on the private directory %s that may reach a disk: %s (%s); unmount it", dir, mounted.FSType, mounted.VFSOptions)
	}
	if err := visible(dir); err != nil {
		if mounted == nil {
			err = errors.Join(err, Unmount(dir))
		}
		return err
	}
	return nil
}

func mount(dir string, o Options) error {
	if !o.Ramfs {
		err := unix.Mount("purser", dir, "tmpfs", flags, "noswap,mode=0700,size="+size)
		if !errors.Is(err, unix.EINVAL) {
			return err
		}
	}
	return unix.Mount("purser", dir, "ramfs", flags, "mode=0700")
}

// unswapped says whether a file system keeps what is in it in memory.
func unswapped(m *mountinfo.Info) bool {
	switch m.FSType {
	case "ramfs":
		return true
	case "tmpfs":
		for option := range strings.SplitSeq(m.VFSOptions, ",") {
			if option == "noswap" {
				return true
			}
		}
	}
	return false
}

// visible checks that the machine's first process, and so containerd, sees the
// mount: an agent in a mount namespace of its own would write to a disk what it
// believes to be in memory.
func visible(dir string) error {
	seen, err := find("/proc/1/mountinfo", dir)
	if err != nil {
		return err
	}
	ours, err := find("/proc/self/mountinfo", dir)
	if err != nil {
		return err
	}
	if seen == nil || ours == nil || seen.Major != ours.Major || seen.Minor != ours.Minor {
		return fmt.Errorf("the private directory %s is not mounted in the machine's mount namespace: start the agent there (with systemd: without PrivateMounts, ProtectSystem and the like)", dir)
	}
	return nil
}

// find returns what is mounted on a directory, the last of several; nil for
// nothing.
func find(table, dir string) (*mountinfo.Info, error) {
	f, err := os.Open(table)
	if err != nil {
		return nil, fmt.Errorf("reading what is mounted: %w", err)
	}
	defer f.Close()
	all, err := mountinfo.GetMountsFromReader(f, func(m *mountinfo.Info) (skip, stop bool) { return m.Mountpoint != dir, false })
	if err != nil {
		return nil, fmt.Errorf("reading what is mounted: %w", err)
	}
	if len(all) == 0 {
		return nil, nil
	}
	return all[len(all)-1], nil
}

// Unmount undoes [Mount], once nothing needs the content any more.
func Unmount(dir string) error {
	if err := unix.Unmount(dir, unix.UMOUNT_NOFOLLOW|unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("unmounting the private directory %s: %w", dir, err)
	}
	return nil
}
