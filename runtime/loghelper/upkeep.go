package loghelper

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/purserd/purser/runtime/companion"
)

// missedBeats of the helper's: its journals lose nothing when it is killed, and containers
// wait for whoever reads them.
const missedBeats = 1

// companion is how the helper is kept up.
func (c *Client) companion() companion.Config[*connection] {
	config := companion.Config[*connection]{
		Options: c.o.Options, Name: "log helper", Socket: socketFile,
		MissedBeats: missedBeats, Absence: "containers that write much are going to wait",
		Link: newConnection, Leave: leave, Gap: c.holdAll,
	}
	config.Restarted = c.restarted
	if c.o.AllowSwap {
		config.Flags = []string{"--allow-swap"}
	}
	return config
}

// leave has a helper of another version end, unless a disk hangs. Of one that does not
// answer the journals have what the next one needs.
func leave(ctx context.Context, there *connection) error {
	err := there.within(ctx, 2*patience, "Leave", LeaveRequest{}, &struct{}{})
	if isAnswer(err) {
		return fmt.Errorf("%w: %w", companion.ErrStays, err)
	}
	return err
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

// restarted sees to it that a new helper reads all that the one before did.
func (c *Client) restarted() {
	if c.o.Restarted != nil {
		c.o.Restarted()
	}
	for _, instance := range c.held.instances() {
		c.reopening.Go(func() {
			err := c.Resume(context.Background(), instance)
			if err != nil && !errors.Is(err, os.ErrClosed) {
				c.o.Log.Error("the output of a container is not read any more, and may keep it waiting: restart the agent", "instance", instance, "error", err)
			}
		})
	}
}
