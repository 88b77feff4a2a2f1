// Package fifo reads what processes in containers write, and tells when no more is
// going to come of one that has ended.
package fifo

import (
	"os"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// Open opens the reading end without waiting for a writer. Reading before there has
// been one gives EOF.
func Open(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
}

// Meter tells whether something comes out of a FIFO. The zero Meter is ready to be used.
type Meter struct {
	// moved counts the beginnings and ends of what is done: it is odd in between.
	moved atomic.Uint64
}

// Begin says that something came, and is being passed on; End that it has been.
func (m *Meter) Begin() { m.moved.Add(1) }

// End is the counterpart of Begin.
func (m *Meter) End() { m.moved.Add(1) }

// Await waits until ended is closed, or until nothing has come for a while: a process
// that was left behind may hold its end open for ever, but what takes long because
// much is left, or because its reader is slow, is waited for. It reports whether ended
// is closed.
func Await(ended <-chan struct{}, quiet time.Duration, meters ...*Meter) bool {
	tick := time.NewTicker(quiet)
	defer tick.Stop()
	for before := progress(meters); ; {
		select {
		case <-ended:
			return true
		case <-tick.C:
			now := progress(meters)
			if now == before && now%2 == 0 {
				return false
			}
			before = now
		}
	}
}

// progress is a number that changes as long as something comes, and is odd while some
// of it is being passed on.
func progress(meters []*Meter) uint64 {
	var sum, busy uint64
	for _, m := range meters {
		n := m.moved.Load()
		sum += n
		busy |= n % 2
	}
	return sum<<1 | busy
}
