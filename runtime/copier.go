package runtime

import (
	"os"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// openReader opens the reading end without waiting for a writer. Reading
// before there has been one gives EOF.
func openReader(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
}

// copier hands on what is read from one FIFO, until all its writers have closed it.
type copier struct {
	from  *os.File
	to    func([]byte)
	ended chan struct{}
	// moved counts reads; it is odd while to runs.
	moved atomic.Uint64
}

func newCopier(from *os.File, to func([]byte)) *copier {
	return &copier{from: from, to: to, ended: make(chan struct{})}
}

// run copies until the end of the FIFO or until it is closed.
func (c *copier) run() {
	defer close(c.ended)
	defer c.from.Close()
	buf := make([]byte, 32<<10)
	for {
		n, err := c.from.Read(buf)
		if n > 0 {
			c.moved.Add(1)
			c.to(buf[:n])
			c.moved.Add(1)
		}
		if err != nil {
			return
		}
	}
}

// drain waits until the copiers have ended, or until nothing has moved for a
// while: a process that was left behind may hold its end open for ever, but
// what takes long because much is left, or because its reader is slow, is
// waited for. It reports whether all have ended.
func drain(quiet time.Duration, all ...*copier) bool {
	tick := time.NewTicker(quiet)
	defer tick.Stop()
	before := progress(all)
	for _, c := range all {
		for waiting := true; waiting; {
			select {
			case <-c.ended:
				waiting = false
			case <-tick.C:
				now := progress(all)
				if now == before && now%2 == 0 {
					return false
				}
				before = now
			}
		}
	}
	return true
}

// progress is a number that changes as long as something moves, and is odd
// while a copier's reader has not taken what it was given.
func progress(all []*copier) uint64 {
	var sum, busy uint64
	for _, c := range all {
		n := c.moved.Load()
		sum += n
		busy |= n % 2
	}
	return sum<<1 | busy
}

// stop ends the copiers, whether or not their FIFOs have ended.
func stop(all ...*copier) {
	for _, c := range all {
		c.from.Close()
	}
	for _, c := range all {
		<-c.ended
	}
}
