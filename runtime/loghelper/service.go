package loghelper

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"
	"time"

	"github.com/purserd/purser/inject"
)

// service is the name under which a helper's methods are called. They take an
// instance's name as a rule; values travel in files on the private mount alone.
const service = "LogHelper"

// Executable identifies the file that a process runs.
type Executable struct {
	Device, Inode uint64
	Size          int64
	Modified      int64 // ns
}

// executable looks at a file.
func executable(path string) (Executable, error) {
	info, err := os.Stat(path)
	if err != nil {
		return Executable{}, err
	}
	x := Executable{Size: info.Size(), Modified: info.ModTime().UnixNano()}
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		x.Device, x.Inode = stat.Dev, stat.Ino
	}
	return x, nil
}

// Hello says what the helper runs.
func (h *helper) Hello(_ struct{}, answer *Executable) (err error) {
	*answer, err = executable("/proc/self/exe")
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
	if there, err := h.reserve(name); there || err != nil {
		return err
	}
	i, err := h.open(name)
	h.mu.Lock()
	defer h.mu.Unlock()
	if err != nil {
		delete(h.instances, name)
		if errors.Is(err, errNoFiles) {
			answer.Unknown, err = true, nil
		}
		h.rest()
		return err
	}
	h.instances[name] = i
	go h.keep(name, i)
	return nil
}

// reserve keeps others from opening an instance, unless it is there.
func (h *helper) reserve(name string) (there bool, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	i, reserved := h.instances[name]
	switch {
	case h.leaving:
		return false, errors.New("the log helper is about to end")
	case reserved && i == nil:
		return false, fmt.Errorf("the output of %s is being opened already", name)
	case reserved:
		return true, nil
	}
	h.instances[name] = nil
	h.rest()
	return false, nil
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
		return nil, err
	}
	return openInstance(f, spec, h.matcher(values), h.counters)
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
	m := h.matcher(values)
	for _, s := range i.streams {
		s.next.Store(m)
	}
	i.keepMatcher(m)
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
	h.rest()
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

// Leave ends the helper between two batches of each stream. Another one goes on.
func (h *helper) Leave(r LeaveRequest, _ *struct{}) error {
	h.mu.Lock()
	if r.IfIdle && len(h.instances) > 0 {
		h.mu.Unlock()
		return nil
	}
	h.leaving = true
	var all []*instance
	for _, i := range h.instances {
		if i != nil {
			all = append(all, i)
		}
	}
	h.mu.Unlock()
	for _, i := range all {
		i.halt(leaving)
	}
	late := time.After(patience)
	for _, i := range all {
		select {
		case <-i.over:
		case <-late: // its journal has what the next one needs
		}
	}
	h.leave.Do(func() {
		// A moment for the answer.
		time.AfterFunc(10*time.Millisecond, func() { close(h.left) })
	})
	return nil
}
