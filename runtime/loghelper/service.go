package loghelper

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/purserd/purser/failpoint"
	"github.com/purserd/purser/inject"
	"github.com/purserd/purser/runtime/companion"
)

// service is the name under which a helper's methods are called. They take an
// instance's name as a rule; values travel in files on the private mount alone.
const service = "LogHelper"

// Hello says what the helper runs.
func (h *helper) Hello(_ struct{}, answer *companion.Executable) (err error) {
	*answer, err = companion.Self()
	return err
}

// Opened says what came of a call of Open.
type Opened struct {
	// Unknown: there are no files of the instance, as none was opened or all of it has
	// been stored.
	Unknown bool
}

// Open begins to read an instance's output, of which the files are there. For one that
// is being read it does nothing.
func (h *helper) Open(name string, answer *Opened) error {
	o, reserved := h.reserve(name)
	if o == nil {
		return errors.New("the log helper is about to end")
	}
	var err error
	if reserved {
		err = h.openReserved(name)
	} else {
		<-o.done
		err = o.err
	}
	if errors.Is(err, errNoFiles) {
		answer.Unknown, err = true, nil
	}
	return err
}

// reserve returns an instance that is there or being opened, or one that the caller is
// to open; nil when nothing is opened any more.
func (h *helper) reserve(name string) (o *opening, reserved bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if o := h.instances[name]; o != nil {
		return o, false
	}
	if h.leaving {
		return nil, false
	}
	o = newOpening()
	h.instances[name] = o
	h.agents.Rest()
	return o, true
}

// openReserved opens an instance that the caller has reserved.
func (h *helper) openReserved(name string) error {
	i, err := h.open(name)
	failpoint.Here("output.opened")
	if errors.Is(err, errNoFiles) || errors.Is(err, fs.ErrNotExist) {
		// Half made, or its FIFOs are gone. While it is reserved: later somebody may
		// tell of it again.
		err = errors.Join(errNoFiles, filesOf(h.dir, name).remove())
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	o := h.instances[name]
	o.instance, o.err = i, err
	close(o.done)
	if err != nil {
		delete(h.instances, name)
		h.agents.Rest()
		return err
	}
	go h.keep(name, i)
	return nil
}

// errNoFiles says that nobody has told of an instance.
var errNoFiles = errors.New("no files of the instance")

// open is done without a lock: the disk may hang, and values may take their time.
func (h *helper) open(name string) (*instance, error) {
	f := filesOf(h.dir, name)
	spec, err := f.read()
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errNoFiles
	}
	if err != nil {
		return nil, err
	}
	values, err := inject.ReadRedactions(f.values())
	if err != nil {
		// Nobody knows what must not be stored.
		fmt.Fprintf(os.Stderr, "the output of %s is dropped: %v\n", name, err)
		spec.Drop = true
	}
	return openInstance(f, spec, h.compilation(values), h.counters)
}

// Redact has an instance's output searched for the values that its files have now.
func (h *helper) Redact(name string, _ *struct{}) error {
	values, err := inject.ReadRedactions(filesOf(h.dir, name).values())
	if err != nil {
		return err
	}
	i := h.find(name)
	if i == nil {
		return nil // it has ended, or is opened with them
	}
	c := h.compilation(values)
	for _, s := range i.streams {
		s.next.Store(c.compile())
	}
	i.keepCompilation(c)
	return nil
}

// keep has an instance run, and forgets it when it is over.
func (h *helper) keep(name string, i *instance) {
	defer close(i.over)
	i.run()
	if i.halted() != leaving {
		_ = i.files.remove()
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.instances, name)
	h.agents.Rest()
}

// DrainRequest names an instance whose container has ended.
type DrainRequest struct {
	Instance string
	// Quiet is how long nothing may come of its streams before they are given up.
	Quiet time.Duration
}

// Drain waits until all has been stored that a container wrote which has ended.
func (h *helper) Drain(r DrainRequest, _ *struct{}) error {
	if i := h.find(r.Instance); i != nil {
		i.drain(r.Quiet)
	}
	return nil
}

// End waits like Drain, and ends the log, whatever is still to come.
func (h *helper) End(r DrainRequest, _ *struct{}) error {
	i := h.find(r.Instance)
	if i == nil {
		return nil
	}
	i.drain(r.Quiet)
	i.halt(ending)
	select {
	case <-i.over:
	case <-time.After(patience): // the disk hangs; the log ends when it answers
	}
	return nil
}

// LeaveRequest asks a helper to end.
type LeaveRequest struct {
	// IfIdle: only if it has nothing to do.
	IfIdle bool
}

// Leave ends the helper between two batches of each stream. Another one goes on. While
// a disk hangs it does not: what waits for the disk cannot be given to another, which
// would wait as well, with nobody to empty the FIFOs.
func (h *helper) Leave(r LeaveRequest, _ *struct{}) error {
	h.mu.Lock()
	if r.IfIdle && len(h.instances) > 0 {
		h.mu.Unlock()
		return nil
	}
	all := h.opened()
	for _, i := range all {
		if i.hangs.Load() {
			h.mu.Unlock()
			return fmt.Errorf("the disk of %s does not answer", i.spec.Instance)
		}
	}
	h.leaving = true
	h.mu.Unlock()
	for _, i := range all {
		i.halt(leaving)
	}
	late, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for _, i := range all {
		select {
		case <-i.over:
		case <-late.Done(): // its journal has what the next one needs
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.agents.End()
	return nil
}

// opened are the instances that are there.
func (h *helper) opened() []*instance {
	var all []*instance
	for _, o := range h.instances {
		if o.instance != nil {
			all = append(all, o.instance)
		}
	}
	return all
}
