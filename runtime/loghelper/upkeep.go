package loghelper

import (
	"errors"
	"fmt"
	"io"
	"net/rpc"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// startTimeout bounds the start of a helper, which takes 20 ms as a rule, more when
// it takes up many instances.
const startTimeout = 20 * time.Second

// variable, in the environment, marks what was started as a log helper.
const variable = "PURSER_LOG_HELPER"

// keep starts the next helper when one has ended, until the client is closed.
func (c *Client) keep(current *connection) {
	defer close(c.kept)
	for {
		if !c.watch(current) {
			return
		}
		current.Close()
		c.set(nil)
		if current = c.again(); current == nil {
			return
		}
		c.o.Restarted()
		c.set(current)
		c.reopen()
	}
}

// reopen sees to it that a new helper reads all that the one before did.
func (c *Client) reopen() {
	for _, instance := range c.held.instances() {
		c.reopening.Go(func() {
			err := c.Resume(c.ctx, instance)
			if err != nil && c.ctx.Err() == nil {
				c.o.Log.Error("the output of a container is not read any more, and may keep it waiting: restart the agent", "instance", instance, "error", err)
			}
		})
	}
}

// watch returns when a helper has ended, having killed it when it does not answer any
// more: its journals lose nothing, and containers wait for whoever reads them. It returns
// false when the client is closed.
func (c *Client) watch(current *connection) bool {
	tick := time.NewTicker(c.o.Heartbeat)
	defer tick.Stop()
	for {
		select {
		case <-current.gone:
			return true
		case <-c.ctx.Done():
			return false
		case <-tick.C:
			if err := current.within(c.o.Heartbeat, "Hello", struct{}{}, &Executable{}); err != nil {
				c.o.Log.Error("the log helper does not answer, and is killed", "pid", current.pid, "error", err)
				current.kill()
				// A process that a disk holds does not die before that answers.
			}
		}
	}
}

// again starts a helper in the place of one that died; nil when the client is closed.
func (c *Client) again() *connection {
	for pause := 10 * time.Millisecond; ; pause = min(2*pause, time.Second) {
		c.o.Log.Error("the log helper has ended unasked; starting another one, which goes on where it was", "last_words", c.lastWords())
		next, err := c.find()
		if err == nil {
			return next
		}
		c.o.Log.Error("cannot start the log helper: containers that write much are going to wait", "error", err)
		select {
		case <-time.After(pause):
		case <-c.ctx.Done():
			return nil
		}
	}
}

// lastWords are the end of what a helper has written to its stderr.
func (c *Client) lastWords() string {
	const most = 2 << 10
	words, _ := os.ReadFile(c.stderr())
	return string(words[max(0, len(words)-most):])
}

func (c *Client) stderr() string { return filepath.Join(c.o.Dir, "stderr") }

// find connects to a helper of our own executable. One of another is asked to leave.
func (c *Client) find() (*connection, error) {
	wanted, err := executable(c.o.Command[0])
	if err != nil {
		return nil, fmt.Errorf("looking for the log helper's executable: %w", err)
	}
	if there, err := c.connect(); err == nil {
		var is Executable
		if err := there.within(c.o.Heartbeat, "Hello", struct{}{}, &is); err == nil && is == wanted {
			return there, nil
		}
		if !c.replace(there) {
			return there, nil
		}
	}
	if err := c.spawn(); errors.Is(err, errOther) {
		return c.find()
	} else if err != nil {
		return nil, err
	}
	return c.connect()
}

// replace has a helper of another version leave, and kills one that does not answer: its
// journals have what the next one needs. It returns false for one that has to stay, as
// a disk hangs.
func (c *Client) replace(there *connection) bool {
	c.o.Log.Info("replacing the log helper of another version", "pid", there.pid)
	c.holdAll()
	err := there.within(2*patience, "Leave", LeaveRequest{}, &struct{}{})
	var answered rpc.ServerError
	if errors.As(err, &answered) {
		c.o.Log.Warn("the log helper of another version stays until the agent's next start", "reason", err)
		return false
	}
	if err != nil {
		there.kill()
	}
	there.Close()
	return true
}

// holdAll holds the FIFOs of all instances: for a moment nobody reads them.
func (c *Client) holdAll() {
	all, _ := c.Instances()
	for _, instance := range all {
		if spec, err := filesOf(c.o.Dir, instance).read(); err == nil {
			_ = c.held.take(spec.Instance, spec.Stdout, spec.Stderr)
		}
	}
}

// spawn starts a helper and returns when it serves.
func (c *Client) spawn() error {
	ready, theirs, err := os.Pipe()
	if err != nil {
		return err
	}
	defer ready.Close()
	errs, err := os.OpenFile(c.stderr(), os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return errors.Join(err, theirs.Close())
	}
	defer errs.Close()
	cmd := exec.Command(c.o.Command[0], c.o.arguments()...)
	cmd.Stderr, cmd.ExtraFiles, cmd.Dir = errs, []*os.File{theirs}, "/"
	cmd.Env = append(os.Environ(), variable+"=1")
	// Of its own session: what ends the agent does not end it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	err = cmd.Start()
	theirs.Close()
	if err != nil {
		return fmt.Errorf("starting the log helper: %w", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	switch err := c.awaitReady(ready, cmd.Process.Pid); {
	case err == nil:
		return nil
	case errors.Is(err, errOther):
		_ = cmd.Process.Kill()
		return err
	case errors.Is(err, io.EOF):
		return fmt.Errorf("the log helper ended at once (%v): %s", <-ended, c.lastWords())
	default:
		_ = cmd.Process.Kill()
		return fmt.Errorf("the log helper is not ready after %s: %s", startTimeout, c.lastWords())
	}
}

// errOther says that another helper serves than the one that was started.
var errOther = errors.New("another log helper serves")

// lookAgain is how often it is looked for another helper while one starts.
const lookAgain = 100 * time.Millisecond

// awaitReady returns when a helper that was started serves, or one that an agent had
// started which has died since: ours would wait for its end.
func (c *Client) awaitReady(ready *os.File, pid int) error {
	for limit := time.Now().Add(startTimeout); ; {
		_ = ready.SetReadDeadline(time.Now().Add(lookAgain))
		_, err := ready.Read(make([]byte, 1))
		if !errors.Is(err, os.ErrDeadlineExceeded) || time.Now().After(limit) {
			return err
		}
		if c.servesOther(pid) {
			return errOther
		}
	}
}

// servesOther says whether a helper answers that is not this one.
func (c *Client) servesOther(pid int) bool {
	there, err := c.connect()
	if err != nil {
		return false
	}
	defer there.Close()
	return there.pid != pid && there.within(c.o.Heartbeat, "Hello", struct{}{}, &Executable{}) == nil
}
