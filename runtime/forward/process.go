package forward

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/purserd/purser/runtime/private"
)

// Paths in the forwarder's directory.
const (
	lockFile   = "lock"
	socketFile = "forwarder.sock"
)

// unused is how long a forwarder waits for an agent while nobody has claimed a port.
const unused = 10 * time.Second

// forwarder is the process's one.
type forwarder struct {
	dir    string
	limits limits
	bind   func(*owner, Port) (*socket, error)
	// findHolder says which process has a port. It is called without mu.
	findHolder func(*TakenError)
	counters   *counters
	listener   *net.UnixListener
	lock       *os.File
	// connections has one for each that is being served, and bounds them.
	connections chan struct{}
	serving     atomic.Int64

	mu      sync.Mutex
	owners  map[string]*owner
	agents  map[*net.UnixConn]bool
	retired bool        // another one has the ports
	idle    *time.Timer // runs while there are neither agents nor owners
	over    chan struct{}
	end     func() // closes over, once
}

// RunOptions are those of the process.
type RunOptions struct {
	// Dir is the forwarder's, and must not survive a reboot.
	Dir string
	// Ready is called once requests are taken.
	Ready func()
}

// Run serves until there is nothing to do and no agent, or until another one has taken
// over and all connections have ended.
func Run(o RunOptions) error {
	if err := private.NoCore(); err != nil {
		return err
	}
	spare()
	if err := allowReuse(); err != nil {
		fmt.Fprintln(os.Stderr, err) // the directory's file of last words
	}
	f, err := newForwarder(o.Dir)
	if err != nil {
		return err
	}
	defer f.counters.close()
	defer f.idle.Stop()
	if err := f.start(); err != nil {
		return err
	}
	o.Ready()
	<-f.over
	f.stopListening()
	return nil
}

func newForwarder(dir string) (*forwarder, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("making the port forwarder's directory: %w", err)
	}
	counted, err := openCounters(dir)
	if err != nil {
		return nil, err
	}
	f := &forwarder{
		dir: dir, limits: defaultLimits, bind: (*owner).bind, findHolder: (*TakenError).findProcess, counters: counted, connections: make(chan struct{}, mostConnections()),
		owners: map[string]*owner{}, agents: map[*net.UnixConn]bool{}, over: make(chan struct{}),
	}
	f.end = sync.OnceFunc(func() { close(f.over) })
	f.idle = time.AfterFunc(unused, f.endUnused)
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
		if err := f.tryLock(); err == nil {
			return f.open(true)
		} else if !errors.Is(err, unix.EWOULDBLOCK) || time.Now().After(limit) {
			return fmt.Errorf("locking the port forwarder's directory: %w", err)
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
	if err := f.listen(); err != nil {
		return err
	}
	for _, o := range f.owners {
		for _, s := range o.sockets {
			s.begin()
		}
	}
	f.rest()
	return nil
}

// tryLock succeeds when no other forwarder has the directory.
func (f *forwarder) tryLock() error {
	lock, err := os.OpenFile(filepath.Join(f.dir, lockFile), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		lock.Close()
		return err
	}
	f.lock = lock
	return nil
}

// Main is for executables of which the agent's side is a part and that are not purser,
// such as those of tests: it runs a forwarder, and ends the process, if it was started as
// one.
func Main() {
	if os.Getenv(variable) == "" || len(os.Args) != 4 || os.Args[1] != "port-forwarder" || os.Args[2] != "--dir" {
		return
	}
	if err := Run(RunOptions{Dir: os.Args[3], Ready: Ready}); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// Ready tells the agent that started this process that it serves.
func Ready() {
	agent := os.NewFile(3, "ready")
	defer agent.Close()
	_, _ = agent.Write([]byte{1}) // one that has gone finds us by the socket
}

// listen takes requests from agents. There is a socket at any time.
func (f *forwarder) listen() error {
	path := filepath.Join(f.dir, socketFile)
	fresh := path + "." + strconv.Itoa(os.Getpid())
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: fresh})
	if err != nil {
		return fmt.Errorf("listening for agents: %w", err)
	}
	l.SetUnlinkOnClose(false)
	if err := os.Rename(fresh, path); err != nil {
		return errors.Join(fmt.Errorf("listening for agents: %w", err), l.Close())
	}
	f.listener = l
	go func() {
		for {
			conn, err := l.AcceptUnix()
			if err != nil {
				return
			}
			go f.serveAgent(conn)
		}
	}()
	return nil
}

func (f *forwarder) stopListening() {
	if f.listener != nil {
		f.listener.Close()
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for conn := range f.agents {
		conn.Close()
	}
}

// rest has the forwarder end after a while if nothing needs it.
func (f *forwarder) rest() {
	if len(f.agents) == 0 && len(f.owners) == 0 && f.serving.Load() == 0 {
		f.idle.Reset(unused)
	} else {
		f.idle.Stop()
	}
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
		f.end()
	}
	f.rest()
}

// endUnused ends a forwarder that nobody needs.
func (f *forwarder) endUnused() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.agents) == 0 && len(f.owners) == 0 && f.serving.Load() == 0 {
		f.end()
	}
}
