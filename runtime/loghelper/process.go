package loghelper

import (
	"errors"
	"fmt"
	"net"
	"net/rpc"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"weak"

	"github.com/purserd/purser/inject"
	"github.com/purserd/purser/inject/redact"
	"github.com/purserd/purser/runtime/companion"
	"github.com/purserd/purser/runtime/private"
)

// socketFile is in the helper's directory.
const socketFile = "helper.sock"

// helper is the process's one.
type helper struct {
	dir      string
	counters *counters
	agents   *companion.Service // has mu

	mu        sync.Mutex
	instances map[string]*opening
	leaving   bool
	matchers  []weak.Pointer[compilation]
}

// compilation is a set of values and what finds them, for as long as anyone uses it.
type compilation struct {
	values  inject.Redactions
	compile func() *redact.Matcher // once: a second for values of a megabyte
}

// Run serves in a directory, on memory that no disk sees, until it is asked to leave, or
// there is nothing to do and no agent. allowSwap goes on where the process can be swapped.
func Run(dir string, allowSwap bool) error {
	if err := private.LockProcess(allowSwap); err != nil {
		return err
	}
	lock, err := companion.Lock(dir)
	if err != nil {
		return err
	}
	defer lock.Close()
	h, err := newHelper(dir)
	if err != nil {
		return err
	}
	names, err := h.left()
	if err != nil {
		return err
	}
	if err := h.listen(); err != nil {
		return err
	}
	defer h.agents.Close()
	companion.Ready()
	// Side by side: the values of one may take a second, and the disk of all may hang.
	for _, name := range names {
		go h.takeUp(name)
	}
	<-h.agents.Over()
	return nil
}

func newHelper(dir string) (*helper, error) {
	counted, err := openCounters(dir)
	h := &helper{dir: dir, counters: counted, instances: map[string]*opening{}}
	h.agents = companion.NewService(&h.mu, func() bool { return len(h.instances) > 0 })
	return h, err
}

// Main is for executables that are not purser; see [companion.Main].
func Main() {
	companion.Main("log-helper", func(dir string, flags []string) error {
		return Run(dir, len(flags) > 0)
	})
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
	server := rpc.NewServer()
	if err := server.RegisterName(service, h); err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.agents.Listen(filepath.Join(h.dir, socketFile), func(conn *net.UnixConn) { server.ServeConn(conn) })
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
