package forward

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// startTimeout bounds the start of a forwarder, which takes 20 ms as a rule.
const startTimeout = 20 * time.Second

// variable, in the environment, marks what was started as a port forwarder.
const variable = "PURSER_PORT_FORWARDER"

// keep starts the next forwarder when one has ended, until the client is closed.
func (c *Client) keep(current *connection) {
	defer close(c.kept)
	for {
		if !c.watch(current) {
			return
		}
		c.set(nil)
		before, words := current.pid, c.lastWords()
		if current = c.again(); current == nil {
			return
		}
		if current.pid != before {
			c.c.Log.Error("the port forwarder had ended unasked, and its connections with it; another one runs", "last_words", words)
			c.c.Restarted()
		}
		c.set(current)
	}
}

// missedBeats are how many a forwarder may miss before it is killed, and its connections
// with it.
const missedBeats = 3

// watch returns when a forwarder has ended, having killed it when it does not answer any
// more: its connections hang, and no new ones are served. It returns false when the client
// is closed.
func (c *Client) watch(current *connection) bool {
	tick := time.NewTicker(c.c.Heartbeat)
	defer tick.Stop()
	for {
		select {
		case <-current.gone:
			return true
		case <-c.ctx.Done():
			return false
		case <-tick.C:
			if _, err := current.ask(c.ctx, request{Op: opHello}, missedBeats*c.c.Heartbeat, func(response) {}); err != nil && current.hangs() {
				c.c.Log.Error("the port forwarder does not answer, and is killed", "pid", current.pid, "error", err)
				current.kill()
			}
		}
	}
}

// again finds the forwarder, or starts one in the place of one that died; nil when the
// client is closed.
func (c *Client) again() *connection {
	for pause := 10 * time.Millisecond; ; pause = min(2*pause, time.Second) {
		next, err := c.find(c.ctx)
		if err == nil {
			return next
		}
		if c.ctx.Err() != nil {
			return nil
		}
		c.c.Log.Error("cannot start the port forwarder: connections to published ports wait", "error", err)
		select {
		case <-time.After(pause):
		case <-c.ctx.Done():
			return nil
		}
	}
}

// lastWords are the end of what a forwarder has written to its stderr.
func (c *Client) lastWords() string {
	const most = 2 << 10
	words, _ := os.ReadFile(c.stderr())
	return string(words[max(0, len(words)-most):])
}

func (c *Client) stderr() string { return filepath.Join(c.c.Dir, "stderr") }

// find connects to a forwarder of our own executable, having started one that takes over
// from one of another if need be, and gives it what another that died had.
func (c *Client) find(ctx context.Context) (*connection, error) {
	there, err := c.findOwn(ctx)
	if err != nil {
		return nil, err
	}
	err = c.mirror.sync(func(r request, note func(response)) error {
		answered, err := there.ask(ctx, r, c.c.Heartbeat, note)
		if answered && err != nil {
			// All others are served in any case.
			c.c.Log.Error("the port forwarder does not take what another one had", "owner", r.Owner, "error", err)
			return nil
		}
		return err
	})
	if err != nil {
		there.end()
		return nil, fmt.Errorf("giving the port forwarder what another one had: %w", err)
	}
	return there, nil
}

func (c *Client) findOwn(ctx context.Context) (*connection, error) {
	wanted, err := executable(c.c.Command[0])
	if err != nil {
		return nil, fmt.Errorf("looking for the port forwarder's executable: %w", err)
	}
	if there, err := c.connect(ctx); err == nil {
		var is Executable
		_, err := there.ask(ctx, request{Op: opHello}, missedBeats*c.c.Heartbeat, func(r response) { is = r.Executable })
		if err == nil && is == wanted {
			return there, nil
		}
		if err == nil {
			c.c.Log.Info("replacing the port forwarder of another version, which finishes its connections", "pid", there.pid)
		} else if there.hangs() {
			there.kill()
		}
		there.close()
		if ctx.Err() != nil {
			return nil, err
		}
	}
	if err := c.spawn(ctx); err != nil {
		return nil, err
	}
	return c.connect(ctx)
}

// spawn starts a forwarder and returns when it serves. One that is not waited for any more
// is let alone: it may have taken over what another had.
func (c *Client) spawn(ctx context.Context) error {
	ready, theirs, err := os.Pipe()
	if err != nil {
		return err
	}
	defer ready.Close()
	// One that finishes its connections goes on with the file that it has.
	if err := os.Remove(c.stderr()); err != nil && !errors.Is(err, os.ErrNotExist) {
		return errors.Join(err, theirs.Close())
	}
	errs, err := os.OpenFile(c.stderr(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return errors.Join(err, theirs.Close())
	}
	defer errs.Close()
	cmd := exec.Command(c.c.Command[0], append(c.c.Command[1:len(c.c.Command):len(c.c.Command)], "--dir", c.c.Dir)...)
	cmd.Stderr, cmd.ExtraFiles, cmd.Dir = errs, []*os.File{theirs}, "/"
	cmd.Env = append(os.Environ(), variable+"=1")
	// Of its own session: what ends the agent does not end it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	err = cmd.Start()
	theirs.Close()
	if err != nil {
		return fmt.Errorf("starting the port forwarder: %w", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	_ = ready.SetReadDeadline(time.Now().Add(startTimeout))
	stop := context.AfterFunc(ctx, func() { _ = ready.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	switch _, err := ready.Read(make([]byte, 1)); {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return fmt.Errorf("starting the port forwarder: %w", ctx.Err())
	case errors.Is(err, io.EOF):
		return fmt.Errorf("the port forwarder ended at once (%v): %s", <-ended, c.lastWords())
	default:
		_ = cmd.Process.Kill()
		return fmt.Errorf("the port forwarder is not ready after %s: %s", startTimeout, c.lastWords())
	}
}
