package forward

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/purserd/purser/runtime/companion"
)

// handOverTime is how long the whole of it may take, while connections wait in the
// backlog. As a rule it takes some milliseconds.
const handOverTime = 5 * time.Second

// errNone says that there is no forwarder to take over from.
var errNone = errors.New("no port forwarder runs")

// takeOver takes all ports of the forwarder that runs.
//
// Of the two it is always known who accepts: the one that runs has stopped before it
// hands anything over, and begins again unless it hears that all has arrived; the one
// that takes over begins once the other has confirmed that it heard so.
func (f *forwarder) takeOver() error {
	c, err := net.DialTimeout("unix", filepath.Join(f.dir, socketFile), time.Second)
	if err != nil {
		return errNone
	}
	conn := c.(*net.UnixConn)
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(handOverTime))
	if err := send(conn, request{Op: opTakeOver}, nil); err != nil {
		return errNone
	}
	if err := f.takeAll(conn); errors.Is(err, errNone) {
		return err
	} else if err != nil {
		return fmt.Errorf("taking over from the port forwarder that runs: %w", err)
	}
	return nil
}

func (f *forwarder) takeAll(conn *net.UnixConn) error {
	for first, more := true, true; more; first = false {
		var r response
		fds, err := receive(conn, &r)
		if first && err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			return errNone // it has just ended, or another one has all of it
		}
		if err != nil {
			return err
		}
		if more, err = f.takeSome(r, fds); err != nil {
			return err
		}
	}
	if err := send(conn, request{Op: opTaken}, nil); err != nil {
		return err
	}
	if _, err := receive(conn, &response{}); err != nil {
		return err
	}
	var err error
	f.lock, err = companion.TryLock(f.dir)
	return err
}

// takeSome has what is in one message; an empty one is the last.
func (f *forwarder) takeSome(r response, fds []int) (more bool, err error) {
	switch {
	case len(r.Owners) == 1:
		return true, f.take(r.Owners[0], fds)
	case r.Handed != nil:
		return true, f.takeHanded(*r.Handed, fds)
	}
	closeAll(fds)
	return false, r.err()
}

// take has an owner, of which nothing is served yet.
func (f *forwarder) take(had Owner, fds []int) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	_, err := f.adopt(had, fds)
	return err
}

// handOver gives all ports to the forwarder at the other end, and retires.
func (f *forwarder) handOver(conn *net.UnixConn) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.retired {
		return errors.New("this one has none any more")
	}
	f.each((*socket).pause)
	_ = conn.SetDeadline(time.Now().Add(handOverTime))
	if err := f.giveAll(conn); err != nil {
		f.each((*socket).begin)
		return err
	}
	f.retire(conn)
	return send(conn, response{}, nil)
}

func (f *forwarder) each(do func(*socket)) {
	for _, o := range f.owners {
		for _, s := range o.sockets {
			do(s)
		}
	}
}

func (f *forwarder) giveAll(conn *net.UnixConn) error {
	for _, o := range f.owners {
		if err := send(conn, response{Owners: []Owner{o.described()}}, o.fds()); err != nil {
			return err
		}
		for i := range o.sockets {
			if err := o.handOver(i, conn); err != nil {
				return err
			}
		}
	}
	if err := send(conn, response{}, nil); err != nil {
		return err
	}
	var r request
	fds, err := receive(conn, &r)
	closeAll(fds)
	if err == nil && r.Op != opTaken {
		err = fmt.Errorf("%q instead of %q", r.Op, opTaken)
	}
	return err
}

// retire has the forwarder serve its connections until they end, and nothing else.
func (f *forwarder) retire(successor *net.UnixConn) {
	f.retired = true
	f.each((*socket).letGo)
	f.owners = map[string]*owner{}
	f.agents.Retire(successor)
	f.lock.Close()
	if f.serving.Load() == 0 {
		f.agents.End() // after the answer
	}
}
