package forward

import (
	"maps"
	"slices"
	"sync"
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
