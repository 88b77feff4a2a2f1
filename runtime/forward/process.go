package forward

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/purserd/purser/runtime/companion"
	"github.com/purserd/purser/runtime/private"
)

// socketFile is in the forwarder's directory.
const socketFile = "forwarder.sock"

// startTimeout bounds how long a forwarder waits for the end of another, or its start.
const startTimeout = 20 * time.Second

// forwarder is the process's one.
type forwarder struct {
	dir    string
	limits limits
	bind   func(*owner, Port) (*socket, error)
	// findHolder says which process has a port. It is called without mu.
	findHolder func(*TakenError)
	counters   *counters
	agents     *companion.Service // has mu
	lock       *os.File
	// connections has one for each that is being served, and bounds them.
	connections chan struct{}
	serving     atomic.Int64

	mu      sync.Mutex
	owners  map[string]*owner
	retired bool // another one has the ports
}

// Run serves in a directory that does not survive a reboot, until there is nothing to do and
// no agent, or until another one has taken over and all connections have ended.
func Run(dir string) error {
	if err := private.NoCore(); err != nil {
		return err
	}
	spare()
	if err := allowReuse(); err != nil {
		fmt.Fprintln(os.Stderr, err) // the directory's file of last words
	}
	f, err := newForwarder(dir)
	if err != nil {
		return err
	}
	defer f.counters.Close()
	if err := f.start(); err != nil {
		return err
	}
	defer f.agents.Close()
	companion.Ready()
	<-f.agents.Over()
	return nil
}

func newForwarder(dir string) (*forwarder, error) {
	counted, err := openCounters(dir)
	if err != nil {
		return nil, err
	}
	f := &forwarder{
		dir: dir, limits: defaultLimits, bind: (*owner).bind, findHolder: (*TakenError).findProcess, counters: counted, connections: make(chan struct{}, mostConnections()),
		owners: map[string]*owner{},
	}
	f.agents = companion.NewService(&f.mu, func() bool { return len(f.owners) > 0 || f.serving.Load() > 0 })
	return f, nil
}

// spare has the kernel end others first when there is no memory left, if we may ask.
func spare() {
	const adjustment = -900
	path := "/proc/self/oom_score_adj"
	if there, err := os.ReadFile(path); err == nil {
		if n, err := strconv.Atoi(string(there[:max(0, len(there)-1)])); err == nil && n > adjustment {
			_ = os.WriteFile(path, []byte(strconv.Itoa(adjustment)), 0)
		}
	}
}

// mostConnections is how many there is room for: each has two descriptors. (The limit that
// is set is the highest that may be: Go sees to it.) Some are for ports and pipes.
func mostConnections() int {
	const others = 1024
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		limit.Cur = others
	}
	return int(max(min(limit.Cur, 1<<21), 2*others)-others) / 2
}

// start takes over what another one has, or begins with nothing, and serves.
func (f *forwarder) start() error {
	for limit := time.Now().Add(startTimeout); ; {
		err := f.takeOver()
		if err == nil || !errors.Is(err, errNone) {
			return errors.Join(err, f.open(err == nil))
		}
		if f.lock, err = companion.TryLock(f.dir); err == nil {
			return f.open(true)
		} else if !errors.Is(err, companion.ErrLocked) || time.Now().After(limit) {
			return err
		}
		time.Sleep(5 * time.Millisecond) // one starts, or ends
	}
}

// open serves, if this is the one forwarder.
func (f *forwarder) open(is bool) error {
	if !is {
		return nil
	}
	f.counters.write()
	// Who is listened to waits until all that was taken over is served.
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.agents.Listen(filepath.Join(f.dir, socketFile), f.serveAgent); err != nil {
		return err
	}
	for _, o := range f.owners {
		for _, s := range o.sockets {
			s.begin()
		}
	}
	f.agents.Rest()
	return nil
}

// Main is for executables that are not purser; see [companion.Main].
func Main() {
	companion.Main("port-forwarder", func(dir string, _ []string) error { return Run(dir) })
}

// hasRoom makes room for a connection, if there is any.
func (f *forwarder) hasRoom() bool {
	select {
	case f.connections <- struct{}{}:
		return true
	default:
		return false
	}
}

// served notes the end of a connection.
func (f *forwarder) served() {
	<-f.connections
	if f.serving.Add(-1) > 0 {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.retired && f.serving.Load() == 0 {
		f.agents.End()
	}
	f.agents.Rest()
}
