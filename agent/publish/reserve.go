package publish

import (
	"context"
	"slices"

	"github.com/purserd/purser/runtime/forward"
)

// Claim is what an owner is to have from now on.
type Claim struct {
	Owner string
	Ports []forward.Port
}

// reserved is what holds for an owner as long as a reservation lasts.
type reserved struct {
	// ports it has beside those that are right, but yields.
	ports, yields []forward.Port
}

// over is what is right while a reservation lasts, for an owner of which it is known or not
// what it has; r may be nil. What it should have and has not got is not waited for.
func (r *reserved) over(right, has Wish, known bool) Wish {
	if r == nil {
		return right
	}
	kept := slices.DeleteFunc(slices.Clone(right.Ports), func(p forward.Port) bool {
		return Has(r.yields, p) || known && !slices.ContainsFunc(has.Ports, func(h forward.Port) bool { return h.Conflicts(p) })
	})
	right.Ports = Union(kept, r.ports)
	return right
}

// Reserve binds what owners are to have, beside what they have: all, or nothing. Ports
// that one of them gives up are there for the others. It waits for the forwarder, whose
// error it returns. The reservation lasts until end is called, which is to be done when
// what is right says the same, or nothing has come of it.
func (p *Publisher) Reserve(ctx context.Context, claims []Claim) (end func(), err error) {
	end = func() { p.endReservation(claims) }
	// First what is given up: two may have each other's.
	for _, claimed := range []bool{false, true} {
		p.reserve(claims, claimed)
		for _, c := range claims {
			if err := p.tellReserved(ctx, c, claimed); err != nil {
				end()
				return nil, err
			}
		}
	}
	return end, nil
}

// reserve notes what owners yield to each other and, with claimed, what they are to have.
func (p *Publisher) reserve(claims []Claim, claimed bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range claims {
		r := &reserved{}
		for _, other := range claims {
			for _, port := range other.Ports {
				if !Has(c.Ports, port) {
					r.yields = append(r.yields, port)
				}
			}
		}
		if claimed {
			r.ports = c.Ports
		}
		p.of(c.Owner).reserved = r
	}
}

// tellReserved has the forwarder told of an owner's reservation, unless the owner has
// nothing to do with ports yet.
func (p *Publisher) tellReserved(ctx context.Context, c Claim, claimed bool) error {
	p.mu.Lock()
	o := p.of(c.Owner)
	affected := claimed && len(c.Ports) > 0 || o.mayHave(o.reserved.yields)
	p.mu.Unlock()
	if !affected {
		return nil
	}
	return p.tell(ctx, c.Owner, o)
}

// mayHave says whether an owner has one of some ports, as far as is known: an earlier agent
// may have claimed them for it. The caller holds the publisher's mu.
func (o *owner) mayHave(ports []forward.Port) bool {
	if !o.known {
		return len(ports) > 0
	}
	return slices.ContainsFunc(o.has.Ports, func(port forward.Port) bool { return Has(ports, port) })
}

func (p *Publisher) endReservation(claims []Claim) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range claims {
		p.of(c.Owner).reserved = nil
		p.change(c.Owner)
	}
}
