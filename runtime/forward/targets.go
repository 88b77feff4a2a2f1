package forward

import (
	"context"
	"net/netip"
	"sync"
	"sync/atomic"
)

// target is a target while connections may go to it.
type target struct {
	Target
	ctx    context.Context // over when it is no target any more
	cancel context.CancelFunc

	// gate is held, for reading, while something is connected to the target: who has
	// had it for writing knows that nothing is any more.
	gate sync.RWMutex
	gone bool
}

func newTarget(t Target) *target {
	ctx, cancel := context.WithCancel(context.Background())
	return &target{Target: t, ctx: ctx, cancel: cancel}
}

// enter begins to connect to the target; false if it is none any more. The caller calls leave.
func (t *target) enter() bool {
	t.gate.RLock()
	if t.gone {
		t.gate.RUnlock()
		return false
	}
	return true
}

func (t *target) leave() { t.gate.RUnlock() }

// retire returns when nothing will be connected to the target any more.
func (t *target) retire() {
	t.cancel()
	t.gate.Lock()
	t.gone = true
	t.gate.Unlock()
}

// targetSet is where an owner's connections go.
type targetSet struct {
	all      []*target
	next     atomic.Uint32
	replaced chan struct{} // closed when there is another one
}

func newTargetSet(all []*target) *targetSet {
	return &targetSet{all: all, replaced: make(chan struct{})}
}

// pick is the next target that a client's connection to a port can go to, nil when there
// is none.
func (s *targetSet) pick(p Port, client netip.Addr) (t *target, to netip.AddrPort, as Port) {
	turn := s.next.Add(1)
	for i := range s.all {
		t := s.all[(int(turn)+i)%len(s.all)]
		if to, as, ok := t.destination(p, client); ok {
			return t, to, as
		}
	}
	return nil, netip.AddrPort{}, Port{}
}

// has tells whether a target is still one.
func (s *targetSet) has(t *target) bool {
	for _, other := range s.all {
		if other == t {
			return true
		}
	}
	return false
}

// described are the targets as they were given.
func (s *targetSet) described() []Target {
	var all []Target
	for _, t := range s.all {
		all = append(all, t.Target)
	}
	return all
}

// change makes the set that follows this one. Targets that stay are the same as before.
func (s *targetSet) change(wanted []Target) *targetSet {
	var all []*target
	for _, w := range wanted {
		all = append(all, s.find(w))
	}
	return newTargetSet(all)
}

func (s *targetSet) find(wanted Target) *target {
	for _, t := range s.all {
		if t.equal(wanted) {
			return t
		}
	}
	return newTarget(wanted)
}
