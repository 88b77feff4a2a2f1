package forward

import (
	"sync"
	"sync/atomic"
	"time"
)

// limits bound what an owner has.
type limits struct {
	// pending connections of an owner have been accepted and are not connected to a
	// target yet. More wait in the kernel, in the backlog of the port.
	pending int
	// hold is how long a connection waits for a target that takes it.
	hold time.Duration
	// sessions are the clients of one UDP port. For another, the one that has been
	// silent the longest is forgotten.
	sessions int
	// idle is how long one is remembered that sends and receives nothing.
	idle time.Duration
}

var defaultLimits = limits{pending: 1024, hold: 30 * time.Second, sessions: 4096, idle: time.Minute}

// owner is who has claimed ports.
type owner struct {
	name    string
	f       *forwarder
	sockets []*socket // guarded by the forwarder's mu
	targets atomic.Pointer[targetSet]
	pending chan struct{} // one for each connection that is
	keeping sync.Mutex    // guards what its sockets keep
}

func (f *forwarder) newOwner(name string) *owner {
	o := &owner{name: name, f: f, pending: make(chan struct{}, f.limits.pending)}
	o.targets.Store(newTargetSet(nil))
	return o
}

// point returns when nothing will be connected any more to what is no target any more.
func (o *owner) point(wanted []Target) {
	before := o.targets.Load()
	now := before.change(wanted)
	o.targets.Store(now)
	close(before.replaced)
	for _, t := range before.all {
		if !now.has(t) {
			t.retire()
		}
	}
	for _, s := range o.sockets {
		if s.udp != nil {
			s.udp.pointed(now)
		}
	}
}

func (o *owner) described() Owner {
	d := Owner{Name: o.name, Targets: o.targets.Load().described()}
	for _, s := range o.sockets {
		d.Ports = append(d.Ports, *s.port.Load())
	}
	return d
}

// fds are the descriptors of the sockets, in the order of the ports.
func (o *owner) fds() []int {
	var all []int
	for _, s := range o.sockets {
		all = append(all, s.fd)
	}
	return all
}

// release closes all.
func (o *owner) release() {
	for _, s := range o.sockets {
		s.end()
	}
	o.sockets = nil
	for _, t := range o.targets.Load().all {
		t.retire()
	}
}
