package runtime

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// session is what a command and those that it started belong to, by the process
// ID of its leader on the node: OCI runtimes make each command of an exec the
// leader of a session. A shell's jobs are in it, each in a process group of its
// own; what has left it, as daemons do, is not found.
type session int

// signal sends a signal to every process of the session.
func (s session) signal(sig syscall.Signal) {
	for _, pid := range s.members() {
		_ = unix.Kill(pid, sig)
	}
}

// kill ends every process of the session, those too that are being started
// meanwhile.
func (s session) kill() {
	const tries = 10 // each finds what the one before it was too early for
	for range tries {
		members := s.members()
		if len(members) == 0 {
			return
		}
		for _, pid := range members {
			_ = unix.Kill(pid, unix.SIGKILL)
		}
	}
}

// ends reports whether the session is empty within a time.
func (s session) ends(within time.Duration) bool {
	const often = 10 * time.Millisecond
	for deadline := time.Now().Add(within); ; time.Sleep(often) {
		if len(s.members()) == 0 {
			return true
		}
		if time.Now().After(deadline) {
			return false
		}
	}
}

// members are the processes of the session that have not ended.
func (s session) members() []int {
	if s <= 0 {
		return nil
	}
	proc, err := os.Open("/proc")
	if err != nil {
		return nil
	}
	defer proc.Close()
	names, err := proc.Readdirnames(-1)
	if err != nil {
		return nil
	}
	var found []int
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err != nil {
			continue
		}
		stat, err := os.ReadFile("/proc/" + name + "/stat")
		if err != nil {
			continue // it has just ended
		}
		if of, err := sessionOf(stat); err == nil && of == s {
			found = append(found, pid)
		}
	}
	return found
}

// sessionOf reads /proc/PID/stat. A zombie, which nothing is left of, is in no
// session.
func sessionOf(stat []byte) (session, error) {
	// PID (name) state parent group session …; the name may contain anything.
	end := bytes.LastIndexByte(stat, ')')
	if end < 0 {
		return 0, errors.New("no name in the status of a process")
	}
	fields := bytes.Fields(stat[end+1:])
	if len(fields) < 4 {
		return 0, errors.New("the status of a process is cut off")
	}
	if state := fields[0][0]; state == 'Z' || state == 'X' {
		return 0, nil
	}
	id, err := strconv.Atoi(string(fields[3]))
	if err != nil {
		return 0, fmt.Errorf("the session of a process: %w", err)
	}
	return session(id), nil
}
