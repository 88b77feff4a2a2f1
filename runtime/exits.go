package runtime

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Of a container whose shim dies, or that ends while containerd is down, containerd
// knows no exit status. The kernel does: to who had a descriptor of the process before
// it ended it tells the status afterwards (PIDFD_GET_INFO with PIDFD_INFO_EXIT, Linux
// 6.15 and later, include/uapi/linux/pidfd.h).

// exits has a descriptor of the first process of each container that runs.
type exits struct {
	mu  sync.Mutex
	fds map[string]int
}

// hold takes a descriptor of a container's first process. Where it cannot be had, less
// is known if containerd loses the container.
func (e *exits) hold(id string, pid uint32) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if _, held := e.fds[id]; held || pid == 0 {
		return
	}
	fd, err := unix.PidfdOpen(int(pid), 0)
	if err != nil {
		return
	}
	// The ID may have been given anew. Only now that it is held can it be looked at.
	if !inCgroup(int(pid), "/"+id) {
		unix.Close(fd)
		return
	}
	if e.fds == nil {
		e.fds = map[string]int{}
	}
	e.fds[id] = fd
}

// release lets go of a container's first process.
func (e *exits) release(id string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if fd, held := e.fds[id]; held {
		unix.Close(fd)
		delete(e.fds, id)
	}
}

// close lets go of all.
func (e *exits) close() {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, fd := range e.fds {
		unix.Close(fd)
	}
	e.fds = nil
}

// endTime is how long a process may take to end, and to be reaped, that containerd
// takes for one that has ended: what cleans up after a dead shim kills it.
const endTime = 5 * time.Second

// status returns the exit status of a container's first process, for whose end it waits
// a moment.
func (e *exits) status(ctx context.Context, id string) (code uint32, ok bool) {
	fd, ok := e.borrow(id)
	if !ok {
		return 0, false
	}
	defer unix.Close(fd)
	for deadline := time.Now().Add(endTime); time.Now().Before(deadline) && ctx.Err() == nil; {
		info := unix.PidfdInfo{Mask: unix.PIDFD_INFO_EXIT}
		if err := unix.IoctlPidfdInfo(fd, &info); err != nil && err != unix.ESRCH {
			return 0, false // a kernel that does not know
		}
		if info.Mask&unix.PIDFD_INFO_EXIT != 0 {
			return exitCode(syscall.WaitStatus(info.Exit_code)), true
		}
		// Readable once it has ended, which is before it has been reaped.
		poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		if n, _ := unix.Poll(poll, int(lookAgain.Milliseconds())); n > 0 {
			time.Sleep(time.Millisecond)
		}
	}
	return 0, false
}

// await returns when a container's first process has ended; false when ctx ends before,
// or it is not held.
func (e *exits) await(ctx context.Context, id string) bool {
	fd, ok := e.borrow(id)
	if !ok {
		return false
	}
	// The runtime of Go waits for what does not block, without a thread.
	_ = unix.SetNonblock(fd, true)
	process := os.NewFile(uintptr(fd), "pidfd")
	defer process.Close()
	stop := context.AfterFunc(ctx, func() { _ = process.SetReadDeadline(time.Now()) })
	defer stop()
	raw, err := process.SyscallConn()
	if err != nil {
		return false
	}
	err = raw.Read(func(fd uintptr) bool {
		n, _ := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
		return n > 0
	})
	return err == nil
}

// signal sends a signal to a container's first process.
func (e *exits) signal(id string, sig syscall.Signal) error {
	fd, ok := e.borrow(id)
	if !ok {
		return errors.New("its process is not known")
	}
	defer unix.Close(fd)
	if err := unix.PidfdSendSignal(fd, sig, nil, 0); err != nil && err != unix.ESRCH {
		return fmt.Errorf("sending %s to its process: %w", sig, err)
	}
	return nil
}

// borrow duplicates a descriptor, so that it is not closed meanwhile.
func (e *exits) borrow(id string) (fd int, ok bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if fd, ok = e.fds[id]; !ok {
		return 0, false
	}
	fd, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	return fd, err == nil
}

// exitCode is a status as shells give it.
func exitCode(s syscall.WaitStatus) uint32 {
	if s.Signaled() {
		return 128 + uint32(s.Signal())
	}
	return uint32(s.ExitStatus())
}
