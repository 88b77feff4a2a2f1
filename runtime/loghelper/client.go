package loghelper

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"time"

	"github.com/purserd/purser/failpoint"
	"github.com/purserd/purser/inject"
	"github.com/purserd/purser/runtime/companion"
)

// Options say how a helper is found or started. The directory is to be on memory that no
// disk sees.
type Options struct {
	companion.Options
	// AllowSwap is the helper's flag --allow-swap.
	AllowSwap bool
}

// Client is the agent's side of the helper. Its methods may be called by many goroutines.
type Client struct {
	o        Options
	keeper   *companion.Keeper[*connection]
	counters *counters

	held      holds
	reopening sync.WaitGroup
}

// Start finds the helper that runs in the directory, or starts one.
func Start(o Options) (*Client, error) {
	counted, err := openCounters(o.Dir)
	if err != nil {
		return nil, err
	}
	c := &Client{o: o, counters: counted}
	if c.keeper, err = companion.Open(context.Background(), c.companion()); err != nil {
		c.held.close()
		return nil, errors.Join(err, counted.Close())
	}
	return c, nil
}

// Counters are what the helpers have done in this directory.
func (c *Client) Counters() Counters { return c.counters.read() }

// Redacted adds to them what was replaced elsewhere.
func (c *Client) Redacted(n uint64) { c.counters.redacted(n) }

// call asks the helper, and the next one if it ends meanwhile.
func (c *Client) call(ctx context.Context, method string, args, answer any) error {
	return c.keeper.Do(ctx, func(there *connection) (answered bool, err error) {
		return there.call(ctx, method, args, answer)
	})
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
	err := c.keeper.Close(func(there *connection) error {
		return there.within(context.Background(), patience, "Leave", LeaveRequest{IfIdle: true}, &struct{}{})
	})
	c.reopening.Wait()
	c.held.close()
	return errors.Join(err, c.counters.Close())
}
