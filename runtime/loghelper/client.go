package loghelper

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/rpc"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/purserd/purser/failpoint"
	"github.com/purserd/purser/inject"
)

// Options say how a helper is found or started.
type Options struct {
	// Dir is the helper's, on memory that no disk sees.
	Dir string
	// Command starts a helper, which is to call [Run] with the directory that follows
	// the flag --dir, and to call [Ready] once that serves. The first
	// element is the path of the executable. [Main] does it for others than purser.
	Command []string
	// AllowSwap is the helper's flag --allow-swap.
	AllowSwap bool
	// Heartbeat is how often a helper has to answer, and how long it may take; 5 s when 0.
	Heartbeat time.Duration
	// Log gets what no caller can be told.
	Log *slog.Logger
	// Restarted is called whenever a helper had died and another one has been started.
	Restarted func()
}

func (o Options) arguments() []string {
	args := append(slices.Clone(o.Command[1:]), "--dir", o.Dir)
	if o.AllowSwap {
		args = append(args, "--allow-swap")
	}
	return args
}

// Client is the agent's side of the helper: it starts one, and another one whenever
// it dies. Its methods may be called by many goroutines.
type Client struct {
	o        Options
	counters *counters

	ctx    context.Context
	cancel context.CancelFunc
	kept   chan struct{} // closed when no helper is kept up any more

	held      holds
	reopening sync.WaitGroup

	mu      sync.Mutex
	current *connection   // nil while there is none
	changed chan struct{} // closed, and replaced, when current changes
}

// Start finds the helper that runs in the directory, or starts one.
func Start(o Options) (*Client, error) {
	if os.Getenv(variable) != "" {
		// An executable that does not know the command would start itself for ever.
		return nil, fmt.Errorf("%s was to be a log helper, and is not one", o.Command[0])
	}
	if err := os.MkdirAll(filepath.Join(o.Dir, instancesDir), 0o700); err != nil {
		return nil, fmt.Errorf("making the log helper's directory: %w", err)
	}
	if o.Heartbeat == 0 {
		o.Heartbeat = 5 * time.Second
	}
	counted, err := openCounters(o.Dir)
	if err != nil {
		return nil, err
	}
	c := &Client{o: o, counters: counted, kept: make(chan struct{}), changed: make(chan struct{})}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	first, err := c.find()
	if err != nil {
		return nil, errors.Join(err, counted.close())
	}
	c.set(first)
	go c.keep(first)
	return c, nil
}

// Counters are what the helpers have done in this directory.
func (c *Client) Counters() Counters { return c.counters.read() }

// Redacted adds to them what was replaced elsewhere.
func (c *Client) Redacted(n uint64) { c.counters.redacted(n) }

func (c *Client) set(current *connection) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.current = current
	close(c.changed)
	c.changed = make(chan struct{})
}

// helper returns the one that runs, waiting for it if need be. before is one that has
// failed, or nil.
func (c *Client) helper(ctx context.Context, before *connection) (*connection, error) {
	for {
		c.mu.Lock()
		current, changed := c.current, c.changed
		c.mu.Unlock()
		if current != nil && current != before {
			return current, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, fmt.Errorf("the log helper does not run: %w", ctx.Err())
		case <-c.ctx.Done():
			return nil, os.ErrClosed
		}
	}
}

// call asks the helper, and the next one if it ends meanwhile.
func (c *Client) call(ctx context.Context, method string, args, answer any) error {
	var current *connection
	for {
		var err error
		if current, err = c.helper(ctx, current); err != nil {
			return err
		}
		call := current.Go(service+"."+method, args, answer, make(chan *rpc.Call, 1))
		select {
		case <-call.Done:
		case <-ctx.Done():
			return ctx.Err()
		}
		var answered rpc.ServerError
		if call.Error == nil || errors.As(call.Error, &answered) {
			return call.Error
		}
	}
}

// Open begins to read an instance's output, whose FIFOs must be there. values are what
// must not be stored of it. Open may be called again.
func (c *Client) Open(ctx context.Context, spec Spec, values inject.Redactions) error {
	f := filesOf(c.o.Dir, spec.Instance)
	if err := f.write(spec, values); err != nil {
		return fmt.Errorf("telling the log helper of %s: %w", spec.Instance, errors.Join(err, f.remove()))
	}
	if err := failpoint.Error("output.files"); err != nil {
		return err
	}
	return c.Resume(ctx, spec.Instance, spec.Stdout, spec.Stderr)
}

// Redact adds values to those that are not stored of an instance's output: once it has
// returned, none of what comes out of the FIFOs is stored with them in plain.
func (c *Client) Redact(ctx context.Context, instance string, values inject.Redactions) error {
	f := filesOf(c.o.Dir, instance)
	if _, err := f.read(); errors.Is(err, fs.ErrNotExist) {
		return nil // all of its output has been stored
	}
	there, err := inject.ReadRedactions(f.values())
	if err != nil {
		return err
	}
	if err := there.Add(values).Write(f.values()); err != nil {
		return err
	}
	if err := c.call(ctx, "Redact", instance, &struct{}{}); err != nil {
		return fmt.Errorf("having more of the output of %s redacted: %w", instance, err)
	}
	return nil
}

// ErrUnknown says that no helper has been told of an instance, or that all of its
// output has been stored.
var ErrUnknown = errors.New("the log helper does not know the instance")

// Resume sees to it that an instance's output is read, from FIFOs at these paths, of
// which a helper has been told before. It wraps ErrUnknown where none has.
func (c *Client) Resume(ctx context.Context, instance string, fifos ...string) error {
	if err := c.held.take(instance, fifos...); err != nil {
		return fmt.Errorf("holding the output of %s: %w", instance, err)
	}
	var opened Opened
	if err := c.call(ctx, "Open", instance, &opened); err != nil {
		return fmt.Errorf("having the output of %s read: %w", instance, err)
	}
	if opened.Unknown {
		return fmt.Errorf("having the output of %s read: %w", instance, ErrUnknown)
	}
	return nil
}

// Drain returns when all has been stored that an instance wrote which has ended, or
// when nothing has come of it for so long.
func (c *Client) Drain(ctx context.Context, instance string, quiet time.Duration) error {
	return c.call(ctx, "Drain", DrainRequest{Instance: instance, Quiet: quiet}, &struct{}{})
}

// End drains, and ends the instance's log.
func (c *Client) End(ctx context.Context, instance string, quiet time.Duration) error {
	defer c.held.letGo(instance)
	return c.call(ctx, "End", DrainRequest{Instance: instance, Quiet: quiet}, &struct{}{})
}

// Instances are those that files are kept of, for this helper and the next.
func (c *Client) Instances() ([]string, error) { return instancesIn(c.o.Dir) }

// Forget removes the files of an instance of which the helper reads nothing any more.
func (c *Client) Forget(instance string) error { return filesOf(c.o.Dir, instance).remove() }

// Close lets go of the helper, which goes on for as long as it has something to read.
func (c *Client) Close() error {
	c.cancel()
	<-c.kept
	c.reopening.Wait()
	c.mu.Lock()
	current := c.current
	c.mu.Unlock()
	c.held.close()
	if current == nil {
		return c.counters.close()
	}
	err := current.within(patience, "Leave", LeaveRequest{IfIdle: true}, &struct{}{})
	return errors.Join(err, current.Close(), c.counters.close())
}
