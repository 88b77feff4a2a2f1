package loghelper

import (
	"maps"
	"os"
	"slices"
	"sync"

	"github.com/purserd/purser/runtime/fifo"
)

// holds are the agent's own ends of FIFOs, which nobody reads from: what is in a FIFO
// that a container has closed is there for as long as anyone has it open, and a helper
// may have died just then.
type holds struct {
	mu   sync.Mutex
	open map[string][]*os.File // by instance
}

// take opens the FIFOs of an instance, once. An empty path is none.
func (h *holds) take(instance string, paths ...string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.open[instance] != nil {
		return nil
	}
	var all []*os.File
	for _, path := range paths {
		if path == "" {
			continue
		}
		f, err := fifo.Open(path)
		if err != nil {
			closeAll(all)
			return err
		}
		all = append(all, f)
	}
	if h.open == nil {
		h.open = map[string][]*os.File{}
	}
	h.open[instance] = all
	return nil
}

// letGo closes those of an instance.
func (h *holds) letGo(instance string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	closeAll(h.open[instance])
	delete(h.open, instance)
}

// instances are those that FIFOs are held of, sorted.
func (h *holds) instances() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Sorted(maps.Keys(h.open))
}

// close closes all of them.
func (h *holds) close() {
	for _, instance := range h.instances() {
		h.letGo(instance)
	}
}

func closeAll(files []*os.File) {
	for _, f := range files {
		f.Close()
	}
}
