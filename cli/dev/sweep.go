package dev

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"github.com/purserd/purser/runtime/cni"
)

const (
	// cgroupPatience is how long the kernel may take to let go of a cgroup
	// whose processes have ended.
	cgroupPatience = 2 * time.Second
	cgroupPause    = 20 * time.Millisecond
	// shimSockets is where containerd's shims listen, whatever its state
	// directory is.
	shimSockets = "/run/containerd/s"
	// namespace is the agent's in containerd.
	namespace = "purser"
)

// sweep removes what is left of a node whose agent and containerd have ended.
// After an orderly end these are its cgroups and its private mount alone; after a
// hard one also containers, shims and other mounts. found says what should not have been there.
func (l *layout) sweep() (found []string, err error) {
	cgroups, err := l.cgroups()
	if err != nil {
		return nil, err
	}
	if n := killContainers(cgroups); n > 0 {
		found = append(found, fmt.Sprintf("%d processes", n))
	}
	if n := l.killShims(); n > 0 {
		found = append(found, fmt.Sprintf("%d shims", n))
	}
	for command, name := range map[string]string{"log-helper": "the log helper", "port-forwarder": "the port forwarder"} {
		if l.killHelper(command) > 0 {
			found = append(found, name)
		}
	}
	mounts, mountErr := l.unmount()
	if mounts > 0 {
		found = append(found, fmt.Sprintf("%d mounts", mounts))
	}
	return found, errors.Join(mountErr, removeCgroups(cgroups), cni.Remove(l.bridge(), l.path("state", "network")))
}

// cgroups finds the node's cgroup in every hierarchy that has it.
func (l *layout) cgroups() ([]string, error) {
	mounts, err := mountinfo.GetMounts(mountinfo.FSTypeFilter("cgroup", "cgroup2"))
	if err != nil {
		return nil, fmt.Errorf("reading mounts: %w", err)
	}
	var found []string
	for _, m := range mounts {
		path := filepath.Join(m.Mountpoint, l.cgroupParent())
		if _, err := os.Stat(path); err == nil {
			found = append(found, path)
		}
	}
	return found, nil
}

// killContainers kills every process in the cgroups.
func killContainers(cgroups []string) int {
	killed := map[int]bool{}
	for _, cgroup := range cgroups {
		_ = filepath.WalkDir(cgroup, func(path string, entry fs.DirEntry, err error) error {
			if err != nil || entry.Name() != "cgroup.procs" {
				return nil
			}
			for _, pid := range readPIDs(path) {
				if unix.Kill(pid, unix.SIGKILL) == nil {
					killed[pid] = true
				}
			}
			return nil
		})
	}
	return len(killed)
}

func readPIDs(path string) []int {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil
	}
	var pids []int
	for _, field := range strings.Fields(string(data)) {
		// 0 is a process that this namespace cannot see, and would be our own
		// process group to kill(2).
		if pid, err := strconv.Atoi(field); err == nil && pid > 1 {
			pids = append(pids, pid)
		}
	}
	return pids
}

// killShims kills the shims that this node's containerd has started: they
// carry its address.
func (l *layout) killShims() int {
	return kill(func(args []string) bool {
		id, ours := l.shimID(args)
		if ours {
			_ = os.Remove(l.shimSocket(id))
		}
		return ours
	})
}

// killHelper kills a process that outlives the agent, and ends by itself when there is
// nothing for it to do.
func (l *layout) killHelper(command string) int {
	return kill(func(args []string) bool {
		return slices.Contains(args, command) && strings.HasPrefix(after(args, "--dir"), l.path("run")+"/")
	})
}

// kill kills the processes whose command lines are meant, and counts them.
func kill(meant func(args []string) bool) int {
	entries, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		return 0
	}
	killed := 0
	for _, path := range entries {
		data, err := os.ReadFile(path)
		if err != nil || !meant(strings.Split(string(bytes.TrimRight(data, "\x00")), "\x00")) {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		if err == nil && unix.Kill(pid, unix.SIGKILL) == nil {
			killed++
		}
	}
	return killed
}

// shimID reads a process's command line: the container that it is a shim of,
// when it is one of this node's.
func (l *layout) shimID(args []string) (id string, ours bool) {
	if filepath.Base(args[0]) != shimName {
		return "", false
	}
	if after(args, "-address") != l.containerdSocket() || after(args, "-namespace") != namespace {
		return "", false
	}
	return after(args, "-id"), true
}

func after(args []string, flag string) string {
	if i := slices.Index(args, flag); i >= 0 && i+1 < len(args) {
		return args[i+1]
	}
	return ""
}

// shimSocket is named as containerd's shim library does it.
func (l *layout) shimSocket(id string) string {
	sum := sha256.Sum256([]byte(filepath.Join(l.containerdSocket(), namespace, id)))
	return filepath.Join(shimSockets, fmt.Sprintf("%x", sum))
}

// unmount detaches what is mounted below the node's directory, the innermost
// first, and counts what should not be there any more.
func (l *layout) unmount() (int, error) {
	mounts, err := mountinfo.GetMounts(func(m *mountinfo.Info) (skip, stop bool) {
		return !l.ownMount(m.Mountpoint), false
	})
	if err != nil {
		return 0, fmt.Errorf("reading mounts: %w", err)
	}
	var errs []error
	unexpected := 0
	for _, m := range slices.Backward(mounts) {
		// runsc keeps a mount of its own where it keeps its state.
		if private := l.path("run", "private"); m.Mountpoint != private && !strings.HasPrefix(m.Mountpoint, private+"/runtimes/") {
			unexpected++
		}
		if err := unix.Unmount(m.Mountpoint, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil {
			errs = append(errs, fmt.Errorf("unmounting %s: %w", m.Mountpoint, err))
		}
	}
	return unexpected, errors.Join(errs...)
}

// ownMount leaves alone what a user may have mounted elsewhere below it.
func (l *layout) ownMount(path string) bool {
	for _, part := range []string{"containerd", "run", "state"} {
		if strings.HasPrefix(path, l.path(part)+"/") {
			return true
		}
	}
	return false
}

func removeCgroups(cgroups []string) error {
	var errs []error
	for _, cgroup := range cgroups {
		deadline := time.Now().Add(cgroupPatience)
		err := removeCgroup(cgroup)
		for err != nil && time.Now().Before(deadline) {
			time.Sleep(cgroupPause)
			err = removeCgroup(cgroup)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// removeCgroup removes a cgroup and those in it. Their files go with them.
func removeCgroup(cgroup string) error {
	var dirs []string
	err := filepath.WalkDir(cgroup, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && entry.IsDir() {
			dirs = append(dirs, path)
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, dir := range slices.Backward(dirs) {
		if err := unix.Rmdir(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("removing a cgroup: %w", err)
		}
	}
	return nil
}
