package cni

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// Plugins of a process that has ended go on, and nobody bounds the time that they take any
// more. They are waited for, as they do no harm, but not for ever: one that hangs would keep
// every later agent from starting, and with it all workloads from being looked after.

// killPatience is how long plugins have to be gone after they were killed.
const killPatience = 5 * time.Second

// awaitPlugins waits until no plugin runs any more that an earlier process has started, and
// ends those that take longer than they should.
func awaitPlugins(path string, patience time.Duration, log *slog.Logger) error {
	lock, err := openLock(path)
	if err != nil {
		return err
	}
	defer lock.Close()
	if free, err := awaitLock(lock, patience, func() {}); free || err != nil {
		return err
	}
	log.Warn("ending CNI plugins that an earlier agent has started and that still run", "after", patience)
	free, err := awaitLock(lock, killPatience, func() { killHolders(lock) })
	if free || err != nil {
		return err
	}
	return fmt.Errorf("CNI plugins that an earlier agent has started cannot be ended (see who has %s open)", path)
}

// awaitLock takes a lock as soon as nobody else has it, and does something as long as
// somebody has.
func awaitLock(lock *os.File, patience time.Duration, meanwhile func()) (free bool, err error) {
	for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		switch {
		case err == nil:
			return true, nil
		case !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR):
			return false, fmt.Errorf("locking %s: %w", lock.Name(), err)
		case time.Now().After(deadline):
			return false, nil
		}
		meanwhile()
	}
}

// killHolders kills all others who have a file open.
func killHolders(file *os.File) {
	name, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", file.Fd()))
	if err != nil {
		return
	}
	processes, _ := filepath.Glob("/proc/[0-9]*")
	for _, process := range processes {
		if pid, err := strconv.Atoi(filepath.Base(process)); err == nil && pid != os.Getpid() {
			killHolder(pid, name)
		}
	}
}

// killHolder kills a process if it has a file open. Its ID may be given to another one
// meanwhile, but not what refers to it.
func killHolder(pid int, name string) {
	process, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return // it has just ended
	}
	defer unix.Close(process)
	files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	for _, file := range files {
		if open, err := os.Readlink(file); err == nil && open == name {
			_ = unix.PidfdSendSignal(process, unix.SIGKILL, nil, 0)
			return
		}
	}
}
