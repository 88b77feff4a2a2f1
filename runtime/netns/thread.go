package netns

import (
	"fmt"
	"os"
	goruntime "runtime"

	"golang.org/x/sys/unix"
)

// Own is the namespace of the thread that opens it.
const Own = "/proc/thread-self/ns/net"

// Do does something in the namespace that is mounted on a file.
func Do(path string, do func() error) error {
	ns, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("opening a network namespace: %w", err)
	}
	defer ns.Close()
	return DoIn(ns, do)
}

// DoIn does something in a namespace that is open.
func DoIn(ns *os.File, do func() error) error {
	return elsewhere(func() error {
		if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("entering network namespace %s: %w", ns.Name(), err)
		}
		return do()
	})
}

// DoInNew does something in a new namespace, which has an interface lo that is down.
func DoInNew(do func() error) error {
	return elsewhere(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("making a network namespace: %w", err)
		}
		return do()
	})
}

// elsewhere does something that takes its thread to another namespace, and has it come back.
func elsewhere(do func() error) error {
	done := make(chan error)
	go func() {
		goruntime.LockOSThread()
		if unix.Gettid() == os.Getpid() {
			done <- elsewhere(do) // while this goroutine keeps the first thread
			goruntime.UnlockOSThread()
			return
		}
		own, err := os.Open(Own)
		if err != nil {
			goruntime.UnlockOSThread()
			done <- fmt.Errorf("opening the agent's own network namespace: %w", err)
			return
		}
		err = do()
		if unix.Setns(int(own.Fd()), unix.CLONE_NEWNET) == nil {
			goruntime.UnlockOSThread() // else the thread ends with this goroutine
		}
		own.Close()
		done <- err
	}()
	return <-done
}
