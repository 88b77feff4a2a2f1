package forward

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync"
	"time"
)

// Config says how a forwarder is found or started.
type Config struct {
	// Dir is the forwarder's, and must not survive a reboot.
	Dir string
	// Command starts a forwarder, which is to call [Run] with the directory that follows
	// the flag --dir, and to call [Ready] once that serves. The first element is the
	// path of the executable. [Main] does it for others than purser.
	Command []string
	// Heartbeat is how often a forwarder has to answer, and how long it may take; 5 s when 0.
	Heartbeat time.Duration
	// Log gets what no caller can be told.
	Log *slog.Logger
	// Restarted is called whenever a forwarder had died and another one has been started.
	Restarted func()
}

// Client is the agent's side of the forwarder: it starts one, and another one whenever
// it dies. Its methods may be called by many goroutines, and wait no longer than their
// context lasts: what they asked for may be done yet then.
type Client struct {
	c        Config
	counters *counters

	ctx    context.Context
	cancel context.CancelFunc
	kept   chan struct{} // closed when no forwarder is kept up any more

	mirror mirror

	mu      sync.Mutex
	current *connection   // nil while there is none
	changed chan struct{} // closed, and replaced, when current changes
}

// Open finds the forwarder that runs in the directory, or starts one. One of another
// executable is replaced by ours, which takes over all that it has. The context is that of
// Open alone.
func Open(ctx context.Context, c Config) (*Client, error) {
	if os.Getenv(variable) != "" {
		// An executable that does not know the command would start itself for ever.
		return nil, fmt.Errorf("%s was to be a port forwarder, and is not one", c.Command[0])
	}
	if err := os.MkdirAll(c.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("making the port forwarder's directory: %w", err)
	}
	if c.Heartbeat == 0 {
		c.Heartbeat = 5 * time.Second
	}
	if c.Restarted == nil {
		c.Restarted = func() {}
	}
	counted, err := openCounters(c.Dir)
	if err != nil {
		return nil, err
	}
	client := &Client{c: c, counters: counted, kept: make(chan struct{}), changed: make(chan struct{})}
	client.ctx, client.cancel = context.WithCancel(context.Background())
	first, err := client.find(ctx)
	if err != nil {
		client.cancel()
		client.mirror.close() // of what it had learned
		return nil, errors.Join(err, counted.close())
	}
	client.set(first)
	go client.keep(first)
	return client, nil
}

// Claim gives an owner these ports instead of those that it had: all of them, or it
// returns an error and nothing is changed. Ports that stay are served without a break. A
// port that somebody has makes it a [*TakenError].
func (c *Client) Claim(ctx context.Context, owner string, ports []Port) error {
	yielded := c.mirror.yield(owner, ports)
	err := c.call(ctx, request{Op: opClaim, Owner: owner, Ports: ports}, func(r response) {
		had := c.mirror.get(owner)
		c.mirror.put(Owner{Name: owner, Ports: slices.Clone(ports), Targets: had.Targets}, r.fds)
	})
	if err != nil && yielded {
		if err := c.call(ctx, request{Op: opSockets, Owner: owner}, c.mirror.learn); err != nil {
			c.c.Log.Warn("what waits at ports is lost if the port forwarder dies now", "owner", owner, "error", err)
		}
	}
	return err
}

// Point has new connections to an owner's ports go to these targets, in turn; while there
// are none, they wait. Once it has returned nil, no connection will be made to any other.
func (c *Client) Point(ctx context.Context, owner string, targets []Target) error {
	return c.call(ctx, request{Op: opPoint, Owner: owner, Targets: targets}, func(response) {
		c.mirror.point(owner, targets)
	})
}

// Release closes an owner's ports. Connections that are established go on. An owner that
// has none is released.
func (c *Client) Release(ctx context.Context, owner string) error {
	return c.call(ctx, request{Op: opRelease, Owner: owner}, func(response) { c.mirror.remove(owner) })
}

// List is who has claimed ports, and where they lead, sorted by name.
func (c *Client) List(ctx context.Context) ([]Owner, error) {
	var all []Owner
	if err := c.call(ctx, request{Op: opList}, func(r response) { all = r.Owners }); err != nil {
		return nil, err // all may be noted yet
	}
	return all, nil
}

// Counters are what the forwarders in the directory have done so far.
func (c *Client) Counters() Counters { return c.counters.read() }

// Close lets go of the forwarder, which goes on for as long as anybody has ports, or a
// connection lasts.
func (c *Client) Close() error {
	c.cancel()
	<-c.kept
	c.mu.Lock()
	current := c.current
	c.current = nil
	c.mu.Unlock()
	if current != nil {
		ctx, cancel := context.WithTimeout(context.Background(), c.c.Heartbeat)
		defer cancel()
		_, _ = current.ask(ctx, request{Op: opLeave}, c.c.Heartbeat, func(response) {})
		current.end()
	}
	c.mirror.close()
	return c.counters.close()
}

func (c *Client) set(current *connection) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.current = current
	close(c.changed)
	c.changed = make(chan struct{})
}

// forwarder returns the one that runs, waiting for it if need be. before is one that has
// failed, or nil.
func (c *Client) forwarder(ctx context.Context, before *connection) (*connection, error) {
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
			return nil, fmt.Errorf("the port forwarder does not run: %w", ctx.Err())
		case <-c.ctx.Done():
			return nil, os.ErrClosed
		}
	}
}

// call asks the forwarder, and the next one if it ends meanwhile. note is called with
// what is answered before anybody else's answer is noted.
func (c *Client) call(ctx context.Context, r request, note func(response)) error {
	var current *connection
	for {
		var err error
		if current, err = c.forwarder(ctx, current); err != nil {
			return err
		}
		answered, err := current.ask(ctx, r, c.c.Heartbeat, note)
		if err == nil || answered || ctx.Err() != nil {
			return err
		}
	}
}
