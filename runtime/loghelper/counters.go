package loghelper

import (
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Counters are what all helpers in a directory have done so far.
type Counters struct {
	// Redactions is how often something was replaced.
	Redactions uint64
	// LostBytes could not be stored.
	LostBytes uint64
}

// counters are shared by the helper, which writes, and the agent: a mapped file, which
// outlives both.
type counters struct {
	mem              []byte
	redactions, lost *uint64
}

const countersSize = 4 << 10

func openCounters(dir string) (*counters, error) {
	f, err := os.OpenFile(filepath.Join(dir, "counters"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("opening the log helper's counters: %w", err)
	}
	defer f.Close()
	if err := allocate(f, countersSize); err != nil {
		return nil, fmt.Errorf("making room for the log helper's counters: %w", err)
	}
	mem, err := unix.Mmap(int(f.Fd()), 0, countersSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("mapping the log helper's counters: %w", err)
	}
	word := func(n int) *uint64 { return (*uint64)(unsafe.Pointer(&mem[8*n])) }
	return &counters{mem: mem, redactions: word(0), lost: word(1)}, nil
}

func (c *counters) read() Counters {
	return Counters{Redactions: atomic.LoadUint64(c.redactions), LostBytes: atomic.LoadUint64(c.lost)}
}

func (c *counters) redacted(n uint64) { atomic.AddUint64(c.redactions, n) }
func (c *counters) lose(n int)        { atomic.AddUint64(c.lost, uint64(n)) }
func (c *counters) close() error      { return unix.Munmap(c.mem) }
