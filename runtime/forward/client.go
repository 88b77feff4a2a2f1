package forward

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"time"

	"github.com/purserd/purser/runtime/companion"
)

// Client is the agent's side of the forwarder. Its methods may be called by many goroutines,
// and wait no longer than their context lasts: what they asked for may be done yet then.
type Client struct {
	keeper   *companion.Keeper[*connection]
	counters *counters
	mirror   mirror

	heartbeat time.Duration // how long an answer may take
	log       *slog.Logger
}

// Open finds the forwarder that runs in the directory, or starts one. One of another
// executable is replaced by ours, which takes over all that it has. The context is that of
// Open alone.
func Open(ctx context.Context, o companion.Options) (*Client, error) {
	counted, err := openCounters(o.Dir)
	if err != nil {
		return nil, err
	}
	c := &Client{counters: counted, heartbeat: o.Beat(), log: o.Log}
	if c.keeper, err = companion.Open(ctx, c.companion(o)); err != nil {
		c.mirror.close() // of what it had learned
		return nil, errors.Join(err, counted.Close())
	}
	return c, nil
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
			c.log.Warn("what waits at ports is lost if the port forwarder dies now", "owner", owner, "error", err)
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
	_ = c.keeper.Close(func(there *connection) error {
		_, err := there.ask(context.Background(), request{Op: opLeave}, c.heartbeat, func(response) {})
		return err
	})
	c.mirror.close()
	return c.counters.Close()
}

// call asks the forwarder, and the next one if it ends meanwhile. note is called with
// what is answered before anybody else's answer is noted.
func (c *Client) call(ctx context.Context, r request, note func(response)) error {
	return c.keeper.Do(ctx, func(there *connection) (answered bool, err error) {
		return there.ask(ctx, r, c.heartbeat, note)
	})
}
