package runtime

import (
	"syscall"
	"time"
)

// processes are those that there are in one place.
type processes interface {
	// list returns those that have not ended, by process ID.
	list() (map[int]process, error)
	// signal sends a signal to the process that was born then; one that has ended is
	// no error.
	signal(pid int, born string, sig syscall.Signal)
	// await returns when all of some have ended, by process ID, or after a time.
	await(pids map[int]string, within time.Duration)
}

type process struct {
	parent int
	// group is the session, or where there are none to be seen the process group.
	group int
	// born tells a process from an earlier one of its ID.
	born string
	// exiting: it has ended, or is about to. While the first process of a container kills
	// the others, no command can join them any more.
	exiting bool
}

// family is a command and what it started: its children and theirs, and all of its
// session, in which a shell's jobs stay when the shell has ended. Those that have
// left both, as daemons do, are not found.
type family struct {
	of     processes
	leader int
	// session is the one that the command was started in, and born when the process was
	// whose ID that is: the command itself, or one that crun had before it and that may
	// have ended.
	session int
	born    string
	known   map[int]string // when they were born, by process ID
}

// familyOf is that of a command that leads its session.
func familyOf(of processes, leader int, born string) *family {
	return &family{of: of, leader: leader, session: leader, born: born, known: map[int]string{leader: born}}
}

// look finds out who there is now, and reports whether somebody is new.
func (f *family) look() (grown bool) {
	list, err := f.of.list()
	if err != nil {
		return false
	}
	for pid, born := range f.known {
		if p, there := list[pid]; !there || p.born != born {
			delete(f.known, pid)
		}
	}
	// A session goes by its leader's ID, which is not given anew as long as it exists.
	leader, there := list[f.session]
	ours := !there || leader.born == f.born
	for found := true; found; {
		found = false
		for pid, p := range list {
			_, known := f.known[pid]
			_, child := f.known[p.parent]
			if !known && (child || ours && p.group == f.session) {
				f.known[pid] = p.born
				found, grown = true, true
			}
		}
	}
	return grown
}

func (f *family) signal(sig syscall.Signal) {
	for pid, born := range f.known {
		f.of.signal(pid, born, sig)
	}
}

// tries bounds what is repeated because processes start others meanwhile.
const tries = 10

// kill ends everybody, having stopped them first: one that is killed leaves
// children that nobody would find.
func (f *family) kill() {
	// A sandbox that hangs takes long over each call.
	deadline := time.Now().Add(killTimeout)
	for range tries {
		grown := f.look()
		f.signal(syscall.SIGSTOP)
		if !grown || time.Now().After(deadline) {
			break
		}
	}
	for range tries {
		f.signal(syscall.SIGKILL)
		if f.end(100*time.Millisecond) || time.Now().After(deadline) {
			return
		}
	}
}

// hangUp tells everybody that the terminal is gone, and waits for their end.
func (f *family) hangUp() {
	f.look()
	f.signal(syscall.SIGHUP)
	f.signal(syscall.SIGCONT) // what is stopped would not hear of it
	f.end(hangUpTime)
}

// hangUpTime is how long what runs on a terminal may take to end once that is gone.
const hangUpTime = time.Second

// lookAgain is how often it is looked who is new among those that are to end. A look
// at a node takes 1 ms for 100 processes, and none is taken as long as nobody is to end.
const lookAgain = 100 * time.Millisecond

// end reports whether everybody has ended within a time.
func (f *family) end(within time.Duration) bool {
	for deadline := time.Now().Add(within); ; {
		f.look()
		if len(f.known) == 0 {
			return true
		}
		left := time.Until(deadline)
		if left <= 0 {
			return false
		}
		f.of.await(f.known, min(left, lookAgain))
	}
}
