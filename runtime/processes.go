package runtime

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/containerd/containerd/api/types/runc/options"
	"github.com/containerd/containerd/v2/core/containers"
	"github.com/containerd/typeurl/v2"
	"golang.org/x/sys/unix"

	"github.com/purserd/purser/runtime/handover"
)

// nodeProcesses are those that the node's kernel knows.
type nodeProcesses struct{}

func (nodeProcesses) list() (map[int]process, error) {
	proc, err := os.Open("/proc")
	if err != nil {
		return nil, err
	}
	defer proc.Close()
	names, err := proc.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	all := make(map[int]process, len(names))
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err != nil {
			continue
		}
		stat, err := os.ReadFile("/proc/" + name + "/stat")
		if err != nil {
			continue // it has just ended
		}
		if p, alive, err := parseStat(stat); err == nil && alive {
			all[pid] = p
		}
	}
	return all, nil
}

// signal compares the time of birth once the process is held by a descriptor: its ID
// may have been given anew since it was listed, but not to the descriptor.
func (nodeProcesses) signal(pid int, born string, sig syscall.Signal) {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return // it has ended; or there are no more descriptors, and who kills tries again
	}
	defer unix.Close(fd)
	if p, there := processOf(pid); there && p.born == born {
		_ = unix.PidfdSendSignal(fd, sig, nil, 0)
	}
}

// await has the kernel say who has ended. One whose ID was given anew meanwhile is
// waited for in vain, but not for long.
func (nodeProcesses) await(pids map[int]string, within time.Duration) {
	var left []unix.PollFd
	for pid := range pids {
		fd, err := unix.PidfdOpen(pid, 0)
		switch {
		case err == nil:
			defer unix.Close(fd)
			left = append(left, unix.PollFd{Fd: int32(fd), Events: unix.POLLIN})
		case !errors.Is(err, unix.ESRCH):
			time.Sleep(min(within, 10*time.Millisecond)) // there are no more descriptors
			return
		}
	}
	for deadline := time.Now().Add(within); len(left) > 0 && time.Now().Before(deadline); {
		_, err := unix.Poll(left, int(time.Until(deadline).Milliseconds())+1)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return
		}
		left = slices.DeleteFunc(left, func(p unix.PollFd) bool { return err == nil && p.Revents != 0 })
	}
}

// parseStat reads /proc/PID/stat. Of a zombie nothing is left but its status.
func parseStat(stat []byte) (p process, alive bool, err error) {
	// PID (name) state parent group session terminal foreground flags …; the name may
	// contain anything.
	end := bytes.LastIndexByte(stat, ')')
	if end < 0 {
		return p, false, errors.New("no name in the status of a process")
	}
	fields := strings.Fields(string(stat[end+1:]))
	if len(fields) < 20 {
		return p, false, errors.New("the status of a process is cut off")
	}
	if p.parent, err = strconv.Atoi(fields[1]); err != nil {
		return p, false, fmt.Errorf("the parent of a process: %w", err)
	}
	if p.group, err = strconv.Atoi(fields[3]); err != nil {
		return p, false, fmt.Errorf("the session of a process: %w", err)
	}
	flags, err := strconv.ParseUint(fields[6], 10, 32)
	if err != nil {
		return p, false, fmt.Errorf("the flags of a process: %w", err)
	}
	p.born = fields[19]
	alive = fields[0] != "Z" && fields[0] != "X"
	p.exiting = !alive || flags&pfExiting != 0
	return p, alive, nil
}

// pfExiting is the kernel's PF_EXITING, a flag of a process.
const pfExiting = 0x4

// sandboxProcesses are those of a container that has a kernel of its own, which
// only its OCI runtime, runsc, can ask. On the node there is but one process for
// each exec, which waits for the command.
type sandboxProcesses struct {
	runtime string // path
	root    string // where it keeps its state
	id      string // of the container
}

// sandbox is a container with a kernel of its own.
type sandbox struct {
	processes sandboxProcesses
	// notes is where the runtime notes the process IDs of commands.
	notes string
}

// sandboxOf returns nil for a container whose processes are the node's.
func (r *Runtime) sandboxOf(record containers.Container) *sandbox {
	var o options.Options
	if record.Runtime.Options == nil || typeurl.UnmarshalTo(record.Runtime.Options, &o) != nil {
		return nil
	}
	installed, ok := handover.InstalledAt(o.BinaryName)
	if !ok || !exists(installed.Inside) {
		return nil
	}
	// The shim adds the namespace.
	root := filepath.Join(o.Root, r.cfg.Namespace)
	return &sandbox{notes: installed.Inside, processes: sandboxProcesses{runtime: o.BinaryName, root: root, id: record.ID}}
}

// run has the runtime do something, which takes it milliseconds.
func (s sandboxProcesses) run(args ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), killTimeout)
	defer cancel()
	out, err := exec.CommandContext(ctx, s.runtime, append([]string{"--root", s.root}, args...)...).Output()
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", s.runtime, args[0], err)
	}
	return out, nil
}

func (s sandboxProcesses) signal(pid int, _ string, sig syscall.Signal) {
	_, _ = s.run("kill", "--pid", strconv.Itoa(pid), s.id, strconv.Itoa(int(sig)))
}

// await asks nobody: that takes a process of 100 MB each time.
func (s sandboxProcesses) await(_ map[int]string, within time.Duration) {
	time.Sleep(min(within, 50*time.Millisecond))
}

func (s sandboxProcesses) list() (map[int]process, error) {
	out, err := s.run("ps", s.id)
	if err != nil {
		return nil, err
	}
	return parsePs(out)
}

// parsePs reads the table of processes that runsc prints.
func parsePs(table []byte) (map[int]process, error) {
	lines := strings.Split(strings.TrimSpace(string(table)), "\n")
	column := map[string]int{}
	for i, name := range strings.Fields(lines[0]) {
		column[name] = i
	}
	all := map[int]process{}
	for _, line := range lines[1:] {
		fields := strings.Fields(line)
		number := func(name string) (int, error) {
			i, there := column[name]
			if !there || i >= len(fields) {
				return 0, fmt.Errorf("runsc's table of processes has no %s", name)
			}
			return strconv.Atoi(fields[i])
		}
		pid, err := number("PID")
		parent, parentErr := number("PPID")
		group, groupErr := number("PGID")
		if err := errors.Join(err, parentErr, groupErr); err != nil {
			return nil, err
		}
		all[pid] = process{parent: parent, group: group}
	}
	return all, nil
}

// familyOn is that of a process of the node.
func familyOn(leader int) *family {
	// Of one that has ended already only the group is left to be looked for.
	p, _ := processOf(leader)
	f := familyOf(nodeProcesses{}, leader, p.born)
	if p.group > 0 && p.group != leader && !isOthers(p) {
		first, _ := processOf(p.group)
		f.session, f.born = p.group, first.born
	}
	return f
}

// isOthers says whether a process is in a session that it has from the shim or from us,
// in which there are others than those that it starts.
func isOthers(p process) bool {
	parent, there := processOf(p.parent)
	ours, _ := processOf(os.Getpid())
	return !there || p.group == parent.group || p.group == ours.group
}

// processOf reads the status of a process of the node.
func processOf(pid int) (p process, there bool) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return process{}, false
	}
	p, _, err = parseStat(stat)
	return p, err == nil
}

// noteOf is where the runtime notes the process ID, in the container, of a command.
func noteOf(dir, exec string) string { return filepath.Join(dir, exec+".pid") }

// readNote returns the process ID that a runtime has noted; 0 when it has not.
func readNote(path string) int {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return 0
	}
	return pid
}
