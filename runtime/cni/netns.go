package cni

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	goruntime "runtime"
	"slices"

	"golang.org/x/sys/unix"
)

// pin makes a network namespace that stays as long as it is mounted on a file.
func pin(path string) error {
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		return fmt.Errorf("making a file for a network namespace: %w", err)
	}
	done := make(chan error)
	go elsewhere(func() { done <- pinNew(path) })
	if err := <-done; err != nil {
		return errors.Join(err, unpin(path))
	}
	return nil
}

// elsewhere does something that leaves the namespace, on a thread that is not the first:
// that one's is what others take for the process's, as in /proc/self/net.
func elsewhere(do func()) {
	goruntime.LockOSThread()
	defer goruntime.UnlockOSThread()
	if unix.Gettid() != os.Getpid() {
		do()
		return
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		elsewhere(do)
	}()
	<-done
}

// pinNew leaves the calling thread in the namespace that it was in; if that cannot be, the
// thread ends with its goroutine.
func pinNew(path string) (err error) {
	own, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return fmt.Errorf("opening the agent's own network namespace: %w", err)
	}
	defer own.Close()
	defer func() {
		if back := unix.Setns(int(own.Fd()), unix.CLONE_NEWNET); back != nil {
			goruntime.LockOSThread()
			err = errors.Join(err, fmt.Errorf("going back to the agent's own network namespace: %w", back))
		}
	}()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("making a network namespace: %w", err)
	}
	if err := linkUp("lo"); err != nil {
		return err
	}
	// Nobody in a container has the right to use raw sockets; with this anybody may ping.
	if err := os.WriteFile("/proc/sys/net/ipv4/ping_group_range", []byte("0 2147483647"), 0); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("allowing ping: %w", err)
	}
	if err := unix.Mount("/proc/thread-self/ns/net", path, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("mounting a network namespace on %s: %w", path, err)
	}
	return nil
}

// unpin undoes pin, once nothing is in the namespace any more.
func unpin(path string) error {
	err := unix.Unmount(path, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
	if err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("unmounting the network namespace %s: %w", path, err)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("removing the network namespace's file: %w", err)
	}
	return nil
}

// pinned says whether a namespace is mounted on a file: none is after a reboot.
func pinned(path string) bool {
	var st unix.Statfs_t
	return unix.Statfs(path, &st) == nil && st.Type == unix.NSFS_MAGIC
}

// inhabited says whether there are processes in the namespace that is mounted on a file.
func inhabited(path string) bool {
	ns, err := os.Stat(path)
	if err != nil || !pinned(path) {
		return false
	}
	processes, _ := filepath.Glob("/proc/[0-9]*/ns/net")
	return slices.ContainsFunc(processes, func(process string) bool {
		theirs, err := os.Stat(process)
		return err == nil && os.SameFile(ns, theirs)
	})
}

func linkUp(name string) error {
	socket, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("opening a socket: %w", err)
	}
	defer unix.Close(socket)
	request, err := unix.NewIfreq(name)
	if err != nil {
		return err
	}
	if err := unix.IoctlIfreq(socket, unix.SIOCGIFFLAGS, request); err != nil {
		return fmt.Errorf("looking at interface %s: %w", name, err)
	}
	request.SetUint16(request.Uint16() | unix.IFF_UP)
	if err := unix.IoctlIfreq(socket, unix.SIOCSIFFLAGS, request); err != nil {
		return fmt.Errorf("starting interface %s: %w", name, err)
	}
	return nil
}
