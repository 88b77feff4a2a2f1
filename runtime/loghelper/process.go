package loghelper

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/rpc"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"
	"weak"

	"golang.org/x/sys/unix"

	"github.com/purserd/purser/inject"
	"github.com/purserd/purser/inject/redact"
	"github.com/purserd/purser/runtime/private"
)

// Paths in the helper's directory.
const (
	lockFile   = "lock"
	socketFile = "helper.sock"
)

// unused is how long a helper waits for an agent while it has nothing to do.
const unused = 10 * time.Second

// helper is the process's one.
type helper struct {
	dir      string
	counters *counters
	listener net.Listener

	mu        sync.Mutex
	instances map[string]*opening
	agents    int // connections
	leaving   bool
	matchers  []weak.Pointer[compilation]
	idle      *time.Timer // runs while there are neither agents nor instances
	over      chan struct{}
	leave     sync.Once
}

// compilation is a set of values and what finds them, for as long as anyone uses it.
type compilation struct {
	values  inject.Redactions
	compile func() *redact.Matcher // once: a second for values of a megabyte
}

// RunOptions are those of the process.
type RunOptions struct {
	// Dir has to be on memory that no disk sees.
	Dir string
	// AllowSwap goes on where the process can be swapped.
	AllowSwap bool
	// Ready is called once requests are taken.
	Ready func()
}

// Run serves until it is asked to leave, or there is nothing to do and no agent.
func Run(o RunOptions) error {
	if err := private.LockProcess(o.AllowSwap); err != nil {
		return err
	}
	dir := o.Dir
	unlock, err := lock(dir)
	if err != nil {
		return err
	}
	defer unlock()
	h := &helper{dir: dir, instances: map[string]*opening{}, over: make(chan struct{})}
	if h.counters, err = openCounters(dir); err != nil {
		return err
	}
	h.idle = time.AfterFunc(unused, h.leaveUnused)
	defer h.idle.Stop()
	names, err := h.left()
	if err != nil {
		return err
	}
	if err := h.listen(); err != nil {
		return err
	}
	o.Ready()
	// Side by side: the values of one may take a second, and the disk of all may hang.
	for _, name := range names {
		go h.takeUp(name)
	}
	<-h.over
	return h.listener.Close()
}

// Main is for executables of which the agent's side is a part and that are not purser,
// such as those of tests: it runs a helper, and ends the process, if it was started as
// one.
func Main() {
	if os.Getenv(variable) == "" || len(os.Args) < 4 || os.Args[1] != "log-helper" || os.Args[2] != "--dir" {
		return
	}
	if err := Run(RunOptions{Dir: os.Args[3], AllowSwap: len(os.Args) > 4, Ready: Ready}); err != nil {
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

// lock waits until no other helper is in the directory.
func lock(dir string) (unlock func(), err error) {
	if err := os.MkdirAll(filepath.Join(dir, instancesDir), 0o700); err != nil {
		return nil, fmt.Errorf("making the log helper's directory: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(dir, lockFile), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("opening the log helper's lock: %w", err)
	}
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX)
		if err == nil {
			return func() { f.Close() }, nil
		}
		if !errors.Is(err, unix.EINTR) {
			return nil, errors.Join(fmt.Errorf("locking the log helper's directory: %w", err), f.Close())
		}
	}
}

// left are the instances that an earlier helper had, which nobody else can open.
func (h *helper) left() ([]string, error) {
	names, err := instancesIn(h.dir)
	for _, name := range names {
		h.instances[name] = newOpening()
	}
	return names, err
}

// takeUp goes on with what an earlier helper had of an instance.
func (h *helper) takeUp(name string) {
	if err := h.openReserved(name); err != nil && !errors.Is(err, errNoFiles) {
		fmt.Fprintf(os.Stderr, "the output of %s is not read: %v\n", name, err)
	}
}

// compilation finds the one of these values, or begins it.
func (h *helper) compilation(values inject.Redactions) *compilation {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.matchers = slices.DeleteFunc(h.matchers, func(w weak.Pointer[compilation]) bool { return w.Value() == nil })
	for _, w := range h.matchers {
		if c := w.Value(); c != nil && c.values.Equal(values) {
			return c
		}
	}
	c := &compilation{values: values, compile: sync.OnceValue(values.Matcher)}
	h.matchers = append(h.matchers, weak.Make(c))
	return c
}

// listen takes requests from agents.
func (h *helper) listen() error {
	path := filepath.Join(h.dir, socketFile)
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("replacing the log helper's socket: %w", err)
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return fmt.Errorf("listening for agents: %w", err)
	}
	server := rpc.NewServer()
	if err := server.RegisterName(service, h); err != nil {
		return errors.Join(err, l.Close())
	}
	h.listener = l
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			h.connected(1)
			go func() {
				defer h.connected(-1)
				server.ServeConn(conn)
			}()
		}
	}()
	return nil
}

func (h *helper) connected(n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.agents += n
	h.rest()
}

// rest has the helper end after a while if nothing needs it.
func (h *helper) rest() {
	if h.agents == 0 && len(h.instances) == 0 {
		h.idle.Reset(unused)
	} else {
		h.idle.Stop()
	}
}

// opening is an instance that is there, or is about to be.
type opening struct {
	done     chan struct{} // closed when it is known what came of it
	instance *instance     // nil if it could not be opened
	err      error
}

func newOpening() *opening { return &opening{done: make(chan struct{})} }

// find waits for an instance that is being opened; nil for one that is not there.
func (h *helper) find(name string) *instance {
	h.mu.Lock()
	o := h.instances[name]
	h.mu.Unlock()
	if o == nil {
		return nil
	}
	<-o.done
	return o.instance
}
