package forward

import (
	"context"

	"github.com/purserd/purser/runtime/companion"
)

// missedBeats are how many a forwarder may miss before it is killed, and its connections
// with it.
const missedBeats = 3

// companion is how the forwarder is kept up.
func (c *Client) companion(o companion.Options) companion.Config[*connection] {
	return companion.Config[*connection]{
		Options: o, Name: "port forwarder", Socket: socketFile,
		MissedBeats: missedBeats, Absence: "connections to published ports wait",
		Link: newConnection, Adopt: c.adopt,
	}
}

// adopt gives a forwarder what another that died had, and learns what it has.
func (c *Client) adopt(ctx context.Context, there *connection) error {
	return c.mirror.sync(func(r request, note func(response)) error {
		answered, err := there.ask(ctx, r, c.heartbeat, note)
		if answered && err != nil {
			// All others are served in any case.
			c.log.Error("the port forwarder does not take what another one had", "owner", r.Owner, "error", err)
			return nil
		}
		return err
	})
}
