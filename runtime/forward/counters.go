package forward

import (
	"errors"
	"fmt"
	"path/filepath"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/purserd/purser/runtime/companion"
)

// Results of connections.
const (
	Forwarded   = "forwarded"    // a target took it
	HeldTimeout = "held_timeout" // none did in time
	Abandoned   = "abandoned"    // the client went before one did
	Released    = "released"     // the port was released before one did
)

// Results are all of them.
var Results = []string{Forwarded, HeldTimeout, Abandoned, Released}

// Counters are what all forwarders in a directory have done so far, and what those have
// that run.
type Counters struct {
	// Connections by result: one of Results.
	Connections map[string]uint64
	// BytesIn came from clients, BytesOut went to them, by TCP and UDP.
	BytesIn, BytesOut uint64
	// DatagramsDropped had nowhere to go.
	DatagramsDropped uint64
	// Active connections, Held ones, which wait for a target, and clients of UDP ports.
	Active, Held, Sessions uint64
}

type counter = atomic.Uint64

// totals outlive the process.
type totals struct {
	forwarded, heldTimeout, abandoned, released counter
	bytesIn, bytesOut, dropped                  counter
}

// gauges are a process's own.
type gauges struct{ active, held, sessions counter }

// maxProcesses write gauges: one, and those that finish their connections.
const maxProcesses = 48

// counted is a file that the forwarders, which write, and the agent have mapped: the
// totals, and gauges for each process that runs. Whose process runs is known by a lock
// on one byte of the file for each, which the kernel takes back.
type counted struct {
	totals
	_         [1<<10 - 7*8]byte
	processes [maxProcesses]struct {
		gauges
		_ [64 - 3*8]byte
	}
}

// counters are those of the directory, and the gauges of this process.
type counters struct {
	*companion.Shared[counted]
	*totals
	*gauges
}

func openCounters(dir string) (*counters, error) {
	shared, err := companion.Share[counted](filepath.Join(dir, "counters"))
	if err != nil {
		return nil, fmt.Errorf("opening the port forwarder's counters: %w", err)
	}
	return &counters{Shared: shared, totals: &shared.Value.totals, gauges: &gauges{}}, nil
}

// write gives this process gauges that the agent sees, if there are any left.
func (c *counters) write() {
	for n := range maxProcesses {
		lock := unix.Flock_t{Type: unix.F_WRLCK, Start: int64(n), Len: 1}
		if unix.FcntlFlock(c.File.Fd(), unix.F_OFD_SETLK, &lock) == nil {
			c.gauges = c.gaugesOf(n)
			for _, g := range []*counter{&c.active, &c.held, &c.sessions} {
				g.Store(0)
			}
			return
		}
	}
}

func (c *counters) gaugesOf(n int) *gauges { return &c.Value.processes[n].gauges }

func (c *counters) result(err error) *counter {
	switch {
	case err == nil:
		return &c.forwarded
	case errors.Is(err, errAbandoned):
		return &c.abandoned
	case errors.Is(err, errReleased):
		return &c.totals.released
	}
	return &c.heldTimeout
}

func (c *counters) read() Counters {
	all := Counters{
		Connections: map[string]uint64{
			Forwarded: c.forwarded.Load(), HeldTimeout: c.heldTimeout.Load(),
			Abandoned: c.abandoned.Load(), Released: c.totals.released.Load(),
		},
		BytesIn: c.bytesIn.Load(), BytesOut: c.bytesOut.Load(), DatagramsDropped: c.dropped.Load(),
	}
	for n := range maxProcesses {
		if c.runs(n) {
			g := c.gaugesOf(n)
			all.Active += g.active.Load()
			all.Held += g.held.Load()
			all.Sessions += g.sessions.Load()
		}
	}
	return all
}

// runs tells whether the process runs that has these gauges.
func (c *counters) runs(n int) bool {
	lock := unix.Flock_t{Type: unix.F_WRLCK, Start: int64(n), Len: 1}
	err := unix.FcntlFlock(c.File.Fd(), unix.F_OFD_GETLK, &lock)
	return err == nil && lock.Type != unix.F_UNLCK
}
