package loghelper

import (
	"fmt"
	"path/filepath"
	"sync/atomic"

	"github.com/purserd/purser/runtime/companion"
)

// Counters are what all helpers in a directory have done so far.
type Counters struct {
	// Redactions is how often something was replaced.
	Redactions uint64
	// LostBytes could not be stored.
	LostBytes uint64
}

// counters are shared by the helper, which writes, and the agent, and outlive both.
type counters struct {
	*companion.Shared[counted]
}

type counted struct{ redactions, lost atomic.Uint64 }

func openCounters(dir string) (*counters, error) {
	shared, err := companion.Share[counted](filepath.Join(dir, "counters"))
	if err != nil {
		return nil, fmt.Errorf("opening the log helper's counters: %w", err)
	}
	return &counters{shared}, nil
}

func (c *counters) read() Counters {
	return Counters{Redactions: c.Value.redactions.Load(), LostBytes: c.Value.lost.Load()}
}

func (c *counters) redacted(n uint64) { c.Value.redactions.Add(n) }
func (c *counters) lose(n int)        { c.Value.lost.Add(uint64(n)) }
