package forward

import (
	"fmt"
	"maps"
	"net"
	"os"
	"slices"

	"github.com/purserd/purser/runtime/companion"
)

// serveAgent answers the requests that come by a connection.
func (f *forwarder) serveAgent(conn *net.UnixConn) {
	for {
		var r request
		fds, err := receive(conn, &r)
		if err != nil {
			return
		}
		r.fds = fds
		if r.Op == opTakeOver {
			closeAll(fds)
			if err := f.handOver(conn); err != nil {
				fmt.Fprintf(os.Stderr, "another port forwarder has not taken over: %v\n", err)
			}
			return
		}
		answer := f.answer(r)
		if err := send(conn, answer, answer.fds); err != nil {
			return
		}
	}
}

// answer does what is asked for. Descriptors that came with it are its.
func (f *forwarder) answer(r request) response {
	a := f.do(r)
	if t := a.Taken; t != nil && t.Owner == "" && !t.Absent {
		f.findHolder(t) // takes a while where there are many processes
	}
	return a
}

func (f *forwarder) do(r request) response {
	if r.Op != opRestore {
		closeAll(r.fds)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	switch r.Op {
	case opHello:
		is, err := companion.Self()
		a := failed(err)
		a.Executable = is
		return a
	case opClaim:
		o, err := f.claim(r.Owner, r.Ports)
		if err != nil {
			return failed(err)
		}
		return response{fds: o.fds()}
	case opPoint:
		return failed(f.point(r.Owner, r.Targets))
	case opRelease:
		f.release(r.Owner)
		return response{}
	case opList:
		return response{Owners: f.list()}
	case opSockets:
		if o := f.owners[r.Owner]; o != nil {
			return response{Owners: []Owner{o.described()}, fds: o.fds()}
		}
		return response{}
	case opRestore:
		return failed(f.restore(Owner{r.Owner, r.Ports, r.Targets}, r.fds))
	case opLeave:
		if len(f.owners) == 0 && f.serving.Load() == 0 {
			f.agents.End()
		}
		return response{}
	}
	return failed(fmt.Errorf("the port forwarder does not know how to %q", r.Op))
}

func (f *forwarder) point(name string, targets []Target) error {
	o := f.owners[name]
	if o == nil {
		return fmt.Errorf("%s has claimed no ports", name)
	}
	if err := checkTargets(targets); err != nil {
		return err
	}
	o.point(targets)
	return nil
}

func (f *forwarder) release(name string) {
	if o := f.owners[name]; o != nil {
		delete(f.owners, name)
		o.release()
		f.agents.Rest()
	}
}

func (f *forwarder) list() []Owner {
	var all []Owner
	for _, name := range slices.Sorted(maps.Keys(f.owners)) {
		all = append(all, f.owners[name].described())
	}
	return all
}
