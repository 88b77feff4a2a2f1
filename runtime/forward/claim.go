package forward

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"
)

// claim gives an owner these ports instead of what it had, all or none.
func (f *forwarder) claim(name string, ports []Port) (*owner, error) {
	if err := errors.Join(checkName(name), checkPorts(ports)); err != nil {
		return nil, err
	}
	if err := f.free(name, ports); err != nil {
		return nil, err
	}
	o := f.owners[name]
	if o == nil {
		o = f.newOwner(name)
	}
	c := change{owner: o, ports: ports}
	if err := c.make(); err != nil {
		return nil, errors.Join(err, c.undo())
	}
	c.finish()
	f.owners[name] = o
	f.agents.Rest()
	return o, nil
}

func checkName(name string) error {
	if name == "" || len(name) > 512 {
		return fmt.Errorf("%d bytes are no name of an owner", len(name))
	}
	return nil
}

// free tells of the owner that has one of the ports.
func (f *forwarder) free(name string, ports []Port) error {
	for _, p := range ports {
		for _, other := range f.owners {
			if other.name != name && other.conflicting(p.binding()) != nil {
				return &TakenError{Port: p, Owner: other.name}
			}
		}
	}
	return nil
}

// conflicting is the socket of the owner's that keeps a binding from being had.
func (o *owner) conflicting(b binding) *socket {
	for _, s := range o.sockets {
		if b.conflicts(s.port.Load().binding()) {
			return s
		}
	}
	return nil
}

// change of an owner's ports.
type change struct {
	owner *owner
	ports []Port
	now   []*socket // in the order of ports
	fresh []*socket // those of them that have been bound
	ended []Port    // what had to be closed to bind others
}

// make binds what is new, and changes nothing else but what stands in its way.
func (c *change) make() error {
	for _, p := range c.ports {
		s := c.owner.socket(p.binding())
		if s == nil {
			var err error
			if s, err = c.bind(p); err != nil {
				return err
			}
		}
		c.now = append(c.now, s)
	}
	return nil
}

func (o *owner) socket(b binding) *socket {
	for _, s := range o.sockets {
		if s.port.Load().binding() == b {
			return s
		}
	}
	return nil
}

func (c *change) bind(p Port) (*socket, error) {
	// One address instead of all, say.
	for in := c.owner.conflicting(p.binding()); in != nil; in = c.owner.conflicting(p.binding()) {
		c.ended = append(c.ended, *in.port.Load())
		c.owner.drop(in)
	}
	s, err := c.owner.f.bind(c.owner, p)
	if errors.Is(err, unix.EADDRINUSE) {
		return nil, &TakenError{Port: p} // by a process, which is looked for later
	}
	if errors.Is(err, unix.EADDRNOTAVAIL) {
		return nil, &TakenError{Port: p, Absent: true}
	}
	if err != nil {
		return nil, fmt.Errorf("binding port %s: %w", p.binding(), err)
	}
	c.fresh = append(c.fresh, s)
	return s, nil
}

// drop closes a socket of the owner's.
func (o *owner) drop(s *socket) {
	s.end()
	o.sockets = slices.DeleteFunc(o.sockets, func(other *socket) bool { return other == s })
}

// undo has all be as before.
func (c *change) undo() error {
	for _, s := range c.fresh {
		s.end()
	}
	var errs []error
	for _, p := range c.ended {
		s, err := c.owner.f.bind(c.owner, p)
		if err != nil {
			errs = append(errs, fmt.Errorf("having port %s again: %w", p.binding(), err))
			continue
		}
		c.owner.serve(s)
	}
	return errors.Join(errs...)
}

// finish has the ports be as they are wanted.
func (c *change) finish() {
	for _, s := range slices.Clone(c.owner.sockets) {
		if !slices.Contains(c.now, s) {
			c.owner.drop(s)
		}
	}
	for i, s := range c.now {
		s.port.Store(&c.ports[i])
	}
	for _, s := range c.fresh {
		c.owner.serve(s)
	}
	slices.SortFunc(c.owner.sockets, func(a, b *socket) int {
		return cmp.Compare(slices.Index(c.now, a), slices.Index(c.now, b))
	})
}

// serve begins to take what comes to a socket.
func (o *owner) serve(s *socket) {
	o.sockets = append(o.sockets, s)
	s.begin()
}

// restore gives an owner sockets that it had with a forwarder which has ended. An owner
// that has claimed ports since keeps those. The descriptors are the forwarder's then.
func (f *forwarder) restore(had Owner, fds []int) error {
	if f.owners[had.Name] != nil {
		closeAll(fds)
		return nil
	}
	o, err := f.adopt(had, fds)
	if err != nil {
		return err
	}
	for _, s := range o.sockets {
		s.begin()
	}
	f.agents.Rest()
	return nil
}

// adopt has an owner with sockets that are bound already, and serves nothing yet. It
// closes the descriptors.
func (f *forwarder) adopt(had Owner, fds []int) (*owner, error) {
	defer closeAll(fds)
	err := errors.Join(checkName(had.Name), checkPorts(had.Ports), checkTargets(had.Targets))
	if err == nil && len(fds) != len(had.Ports) {
		err = fmt.Errorf("%d sockets do not make %d ports", len(fds), len(had.Ports))
	}
	if err != nil {
		return nil, err
	}
	o := f.newOwner(had.Name)
	for i, p := range had.Ports {
		s, err := o.adopted(p, fds[i])
		if err != nil {
			for _, s := range o.sockets {
				s.letGo()
			}
			return nil, fmt.Errorf("taking the socket of port %s: %w", p.binding(), err)
		}
		o.sockets = append(o.sockets, s)
	}
	o.point(had.Targets)
	f.owners[had.Name] = o
	return o, nil
}
