package runtime

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// What containers leave running. No process is ours by its name alone: another agent, or
// another containerd, may have one that looks the same.

// shimPrefix begins the names of containerd's shims.
const shimPrefix = "containerd-shim"

// shimProcess is a process that has containers.
type shimProcess struct {
	pid  int
	born string
	id   string // of the container, or of the first of several
	// ours: it reports to our containerd, in our namespace, and the container is ours.
	ours bool
	// others: it reports to another containerd.
	others bool
	// bundle is its working directory.
	bundle string
}

// runningShims are all of this machine, whoever has them. ours are the containers that are ours
// by what is in our directories.
func (r *Runtime) runningShims(ours map[string]bool) ([]shimProcess, error) {
	all, err := nodeProcesses{}.list()
	if err != nil {
		return nil, fmt.Errorf("looking for shims: %w", err)
	}
	var found []shimProcess
	for pid, p := range all {
		args := commandLine(pid)
		if len(args) == 0 || !strings.HasPrefix(filepath.Base(args[0]), shimPrefix) {
			continue
		}
		s := shimProcess{pid: pid, born: p.born, id: argument(args, "id")}
		if s.id == "" {
			continue
		}
		s.bundle, _ = os.Readlink(fmt.Sprintf("/proc/%d/cwd", pid))
		s.ours = r.isOurs(args) && (ours[s.id] || hasOpen(pid, r.cfg.instanceDir(s.id)))
		s.others = !samePath(argument(args, "address"), r.cfg.Address)
		found = append(found, s)
	}
	return found, nil
}

// commandLine is how a process was started; nil when it has ended.
func commandLine(pid int) []string {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil || len(text) == 0 {
		return nil
	}
	return strings.Split(strings.TrimSuffix(string(text), "\x00"), "\x00")
}

// argument is the value of a flag.
func argument(args []string, flag string) string {
	if i := slices.Index(args, "-"+flag); i >= 0 && i+1 < len(args) {
		return args[i+1]
	}
	return ""
}

// isOurs says whether a shim reports to our containerd, in our namespace. One with a
// command (start, delete) is containerd's, at work.
func (r *Runtime) isOurs(args []string) bool {
	last := args[len(args)-1]
	return last != "start" && last != "delete" &&
		argument(args, "namespace") == r.cfg.Namespace && samePath(argument(args, "address"), r.cfg.Address)
}

func samePath(a, b string) bool {
	if a == b {
		return true
	}
	x, errX := filepath.EvalSymlinks(a)
	y, errY := filepath.EvalSymlinks(b)
	return errX == nil && errY == nil && x == y
}

// hasOpen says whether a process has something in a directory open.
func hasOpen(pid int, dir string) bool {
	fds := fmt.Sprintf("/proc/%d/fd", pid)
	names, _ := namesIn(fds, func(fs.DirEntry) bool { return true })
	return slices.ContainsFunc(names, func(name string) bool {
		path, err := os.Readlink(filepath.Join(fds, name))
		return err == nil && strings.HasPrefix(path, dir+"/")
	})
}

// leftShims lists those that can be judged; what the others have is tended.
func leftShims(shims []shimProcess, tended map[string]bool) []thing {
	var all []thing
	for _, s := range shims {
		if !s.ours {
			tended[s.id] = true
			continue
		}
		all = append(all, thing{
			kind: LeakShim, name: fmt.Sprintf("process %d", s.pid), owner: s.id,
			remove: func(context.Context) error {
				nodeProcesses{}.signal(s.pid, s.born, syscall.SIGKILL)
				return nil
			},
		})
	}
	return all
}

// leftCgroups lists those of containers that are ours. What is in one whose parent is a
// shim that is not to go has not been left.
func (r *Runtime) leftCgroups(shims []shimProcess, ours, tended map[string]bool) []thing {
	has := map[int]shimProcess{}
	for _, s := range shims {
		has[s.pid] = s
	}
	var all []thing
	for id, c := range r.cfg.containerCgroups() {
		members := c.members()
		if !ours[id] && !slices.ContainsFunc(members, func(pid int) bool { return r.cfg.isOnLayer(pid, id) }) {
			continue
		}
		for _, pid := range members {
			p, _ := processOf(pid)
			if parent, is := has[p.parent]; is && !(parent.ours && parent.id == id) {
				tended[id] = true
			}
		}
		all = append(all, thing{kind: LeakCgroup, name: c.path, owner: id, remove: c.remove})
	}
	return all
}

// isOnLayer says whether a process sees a container's writable layer of ours.
func (c Config) isOnLayer(pid int, id string) bool {
	if c.RootDir == "" {
		return false
	}
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/mountinfo", pid))
	return err == nil && strings.Contains(string(text), c.upperOption(id))
}

// upperOption is how the mount of a container's writable layer is known by.
func (c Config) upperOption(id string) string {
	return "upperdir=" + filepath.Join(c.rootDir(id), "upper") + ","
}
