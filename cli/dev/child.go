package dev

import (
	"errors"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"syscall"
	"time"
)

const (
	backoffMin = 200 * time.Millisecond
	backoffMax = 10 * time.Second
	// settled is how long a child must have run for its next end to count as
	// the first.
	settled = 30 * time.Second
	// pipeDelay bounds the wait for output that a grandchild may hold open.
	pipeDelay = time.Second
)

// child is a program that is started again whenever it ends, until it is told
// to end.
type child struct {
	name string
	// command makes what is started; it can be started once.
	command func() *exec.Cmd
	// say tells the user that it ended and is started again.
	say func(format string, args ...any)
	// restarted is called after every start but the first.
	restarted func()

	// failed gets the first end that nobody asked for.
	failed chan error
	// done is closed once it has ended for good.
	done chan struct{}
	stop chan struct{}

	mu       sync.Mutex
	process  *os.Process // nil while none runs
	running  bool        // start was called
	stopping bool
}

func newChild(name string, command func() *exec.Cmd, say func(string, ...any)) *child {
	return &child{
		name: name, command: command, say: say, restarted: func() {},
		failed: make(chan error, 1), done: make(chan struct{}), stop: make(chan struct{}),
	}
}

// start runs it in the background and returns at once. It does nothing once
// end was called.
func (c *child) start() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.stopping {
		c.running = true
		go c.keep()
	}
}

// keep starts it over and over. The kernel sends the parent-death signal when
// the *thread* that forked ends: so one thread does nothing else, and lasts
// as long as the child may.
func (c *child) keep() {
	runtime.LockOSThread() // never unlocked: the thread ends with this function
	defer close(c.done)
	pause := backoffMin
	for first := true; ; first = false {
		began := time.Now()
		err := c.once(!first)
		if c.ending() {
			return
		}
		c.fail(err)
		if time.Since(began) > settled {
			pause = backoffMin
		}
		c.say("%s ended (%v); starting it again", c.name, err)
		select {
		case <-time.After(pause):
		case <-c.stop:
			return
		}
		pause = min(2*pause, backoffMax)
	}
}

// once runs it until it ends.
func (c *child) once(again bool) error {
	cmd := c.command()
	cmd.WaitDelay = pipeDelay
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Pdeathsig: syscall.SIGKILL,
		// A terminal's interrupt is for this process, which ends them in order.
		Setpgid: true,
	}
	if started, err := c.launch(cmd); !started {
		return err
	}
	if again {
		c.restarted()
	}
	err := cmd.Wait()
	c.mu.Lock()
	c.process = nil
	c.mu.Unlock()
	if err == nil {
		return errors.New("exit status 0")
	}
	return err
}

// launch starts cmd unless it is to end; both under the lock, so that no
// signal is lost between.
func (c *child) launch(cmd *exec.Cmd) (started bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stopping {
		return false, nil
	}
	if err := cmd.Start(); err != nil {
		return false, err
	}
	c.process = cmd.Process
	return true, nil
}

func (c *child) fail(err error) {
	select {
	case c.failed <- err:
	default:
	}
}

func (c *child) ending() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.stopping
}

// end asks it to end, by a signal, and not to be started again. Closes done
// when it was never started.
func (c *child) end(signal os.Signal) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.stopping {
		c.stopping = true
		close(c.stop)
		if !c.running {
			close(c.done)
		}
	}
	if c.process != nil {
		_ = c.process.Signal(signal)
	}
}
