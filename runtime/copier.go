package runtime

import (
	"os"
	"time"

	"github.com/purserd/purser/runtime/fifo"
)

// copier hands on what is read from one FIFO, until all its writers have closed it.
type copier struct {
	from  *os.File
	to    func([]byte)
	ended chan struct{}
	meter fifo.Meter
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
			c.meter.Begin()
			c.to(buf[:n])
			c.meter.End()
		}
		if err != nil {
			return
		}
	}
}

// drain waits until the copiers have ended, or until nothing has moved for a while. It
// reports whether all have ended.
func drain(quiet time.Duration, all ...*copier) bool {
	meters := make([]*fifo.Meter, len(all))
	for i, c := range all {
		meters[i] = &c.meter
	}
	for _, c := range all {
		if !fifo.Await(c.ended, quiet, meters...) {
			return false
		}
	}
	return true
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
