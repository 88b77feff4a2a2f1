package forward

import (
	"maps"
	"slices"
	"sync"

	"golang.org/x/sys/unix"
)

// mirror is the agent's knowledge of what a forwarder has, with duplicates of its
// sockets: when the forwarder dies, clients wait in their backlog until the next one has
// them, instead of being refused.
type mirror struct {
	mu     sync.Mutex
	owners map[string]mirrored
}

type mirrored struct {
	Owner
	fds []int // in the order of the ports
}

func (m *mirror) get(name string) mirrored {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.owners[name]
}

func (m *mirror) put(o Owner, fds []int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.owners == nil {
		m.owners = map[string]mirrored{}
	}
	closeAll(m.owners[o.Name].fds)
	m.owners[o.Name] = mirrored{o, fds}
}

// yield closes the sockets that keep an owner's ports from being bound as they are wanted
// now: the forwarder's close of its own does not free a port of UDP. It says whether there
// were any.
func (m *mirror) yield(name string, wanted []Port) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	had := m.owners[name]
	left := mirrored{Owner: Owner{Name: name, Targets: had.Targets}}
	for i, p := range had.Ports {
		if inTheWay(p.binding(), wanted) {
			unix.Close(had.fds[i])
			continue
		}
		left.Ports, left.fds = append(left.Ports, p), append(left.fds, had.fds[i])
	}
	if len(left.fds) == len(had.fds) {
		return false
	}
	m.owners[name] = left
	return true
}

// inTheWay tells whether what is bound keeps another port from being bound.
func inTheWay(there binding, wanted []Port) bool {
	return slices.ContainsFunc(wanted, func(p Port) bool { return p.binding() != there && p.binding().conflicts(there) })
}

func (m *mirror) point(name string, targets []Target) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if o, ok := m.owners[name]; ok {
		o.Targets = targets
		m.owners[name] = o
	}
}

func (m *mirror) remove(name string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	closeAll(m.owners[name].fds)
	delete(m.owners, name)
}

func (m *mirror) names() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Sorted(maps.Keys(m.owners))
}

func (m *mirror) close() {
	for _, name := range m.names() {
		m.remove(name)
	}
}

// sync gives a forwarder what it does not have, and learns what it has.
func (m *mirror) sync(ask func(request, func(response)) error) error {
	for _, name := range m.names() {
		o := m.get(name)
		r := request{Op: opRestore, Owner: name, Ports: o.Ports, Targets: o.Targets, fds: o.fds}
		if err := ask(r, func(response) {}); err != nil {
			return err
		}
	}
	var there []Owner
	if err := ask(request{Op: opList}, func(r response) { there = r.Owners }); err != nil {
		return err
	}
	had := m.names()
	for _, o := range there {
		had = slices.DeleteFunc(had, func(name string) bool { return name == o.Name })
		if err := ask(request{Op: opSockets, Owner: o.Name}, m.learn); err != nil {
			return err
		}
	}
	for _, name := range had { // released by another agent
		m.remove(name)
	}
	return nil
}

// learn takes what a forwarder has of an owner.
func (m *mirror) learn(r response) {
	if len(r.Owners) == 1 {
		m.put(r.Owners[0], r.fds)
		return
	}
	closeAll(r.fds)
}
