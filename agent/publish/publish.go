// Package publish has the ports of a node lead to the instances that serve them.
//
// A workload's ports are bound, in the forwarder, before its spec is accepted
// ([Publisher.Reserve]), so that a port which somebody else has refuses the launch. From
// then on what is right for them follows from the workload's state: whenever that has
// changed ([Publisher.Changed]) the publisher asks what is right now (its ports, and the
// instances that they lead to) and has the forwarder do it, again and again until it
// succeeds. Before an instance is told to stop, [Publisher.Settle] waits until no new
// connection leads to it any more.
//
// The forwarder is a process that outlives the agent, and so does what it was told: an
// agent that starts finds most of what is right there already, and has the ports of
// workloads that are no more closed ([Publisher.Prune]).
package publish

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/purserd/purser/runtime/forward"
)

// Forwarder is what a publisher needs of the forwarder. An owner is a workload.
type Forwarder interface {
	// Claim binds an owner's ports, in the place of those that it had: all, or none. Those
	// that it goes on having keep their connections.
	Claim(ctx context.Context, owner string, ports []forward.Port) error
	// Point has new connections go to one of the targets, or wait while there is none. When
	// it returns, none goes to an earlier one any more.
	Point(ctx context.Context, owner string, targets []forward.Target) error
	// Release closes an owner's ports.
	Release(ctx context.Context, owner string) error
	// Owners are those that have ports.
	Owners(ctx context.Context) ([]string, error)
}

// Options say what a publisher needs.
type Options struct {
	Forwarder Forwarder
	// Right is what is right for an owner now; nothing for one that is not known. Of the
	// publisher's methods Reserve alone calls it.
	Right func(owner string) Wish
	// Trouble is told of each new reason why an owner's ports are not as is right, and of
	// nil when they are again.
	Trouble func(owner string, err error)
}

// Publisher has the forwarder do what is right. Its methods may be called by many
// goroutines, and do not wait but where they say so.
type Publisher struct {
	o       Options
	ctx     context.Context
	cancel  context.CancelFunc
	working sync.WaitGroup

	mu     sync.Mutex
	owners map[string]*owner
	// restarts of the forwarder: what one did is not known of the next.
	restarts int
}

// owner is one workload's. All but using is guarded by the publisher's mu.
type owner struct {
	// using has room for the one that tells the forwarder.
	using chan struct{}
	// has is what the forwarder does, if that is known.
	has   Wish
	known bool

	// changes counts what may have changed what is right, and settled those of them that
	// the forwarder has been told of.
	changes, settled uint64
	working          bool
	told             chan struct{} // closed and replaced when settled goes up
	wake             chan struct{} // of capacity 1: something may have changed
	trouble          string
	// reserved is nil but while a reservation lasts.
	reserved *reserved
}

// The pauses between tries.
const (
	firstPause = 100 * time.Millisecond
	lastPause  = 10 * time.Second
)

// New makes a publisher.
func New(o Options) *Publisher {
	p := &Publisher{o: o, owners: map[string]*owner{}}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	return p
}

// Close ends what is under way, and leaves the ports as they are.
func (p *Publisher) Close() {
	p.mu.Lock()
	p.cancel()
	p.mu.Unlock()
	p.working.Wait()
}

// Changed has the forwarder told what is right for an owner. With ports false, that is
// nothing, and an owner that has nothing is let alone.
func (p *Publisher) Changed(name string, ports bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if ports || p.owners[name] != nil {
		p.change(name)
	}
}

// change is Changed with mu held.
func (p *Publisher) change(name string) {
	if p.ctx.Err() != nil {
		return
	}
	o := p.of(name)
	o.changes++
	select {
	case o.wake <- struct{}{}:
	default:
	}
	if !o.working {
		o.working = true
		p.working.Go(func() { p.work(name, o) })
	}
}

// Restarted has the forwarder told all that is right once more: another one runs, that may
// not have all that the one before it had.
func (p *Publisher) Restarted() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.restarts++
	for name, o := range p.owners {
		o.known = false
		p.change(name)
	}
}

// Settle waits until the forwarder does what was right for an owner when it was called, or
// later.
func (p *Publisher) Settle(ctx context.Context, name string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	o := p.owners[name]
	if o == nil {
		return nil
	}
	for due := o.changes; o.settled < due; {
		told := o.told
		p.mu.Unlock()
		select {
		case <-told:
		case <-ctx.Done():
		}
		p.mu.Lock()
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	return nil
}

// Prune waits for the forwarder to say who has ports, and has what is not right released.
func (p *Publisher) Prune(ctx context.Context) error {
	all, err := p.o.Forwarder.Owners(ctx)
	if err != nil {
		return err
	}
	for _, name := range all {
		p.Changed(name, true)
	}
	return nil
}

// of finds or makes an owner. The caller holds mu.
func (p *Publisher) of(name string) *owner {
	o := p.owners[name]
	if o == nil {
		o = &owner{using: make(chan struct{}, 1), told: make(chan struct{}), wake: make(chan struct{}, 1)}
		p.owners[name] = o
	}
	return o
}

// work tells the forwarder what is right for an owner until nothing has changed since.
func (p *Publisher) work(name string, o *owner) {
	pause := firstPause
	for {
		number, due := p.next(name, o)
		if !due {
			return
		}
		err := p.tell(p.ctx, name, o)
		if p.ctx.Err() != nil {
			return
		}
		p.note(name, o, number, err)
		if err == nil {
			pause = firstPause
			continue
		}
		select {
		case <-p.ctx.Done():
			return
		case <-o.wake:
		case <-time.After(pause):
		}
		pause = min(2*pause, lastPause)
	}
}

// next is the newest change, if the forwarder has not been told of it or did not do all of
// it. Else the owner is not worked for any more, and forgotten if it has nothing.
func (p *Publisher) next(name string, o *owner) (number uint64, due bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if o.settled < o.changes || o.trouble != "" {
		return o.changes, true
	}
	o.working = false
	if len(o.has.Ports) == 0 && o.reserved == nil {
		delete(p.owners, name)
	}
	return 0, false
}

// tell tells the forwarder what is right for an owner, if it does something else.
func (p *Publisher) tell(ctx context.Context, name string, o *owner) error {
	select {
	case o.using <- struct{}{}:
		defer func() { <-o.using }()
	case <-ctx.Done():
		return ctx.Err()
	}
	right := p.o.Right(name)
	p.mu.Lock()
	reserving := o.reserved != nil
	right = o.reserved.over(right, o.has, o.known)
	same, restarts := o.known && o.has.equal(right), p.restarts
	p.mu.Unlock()
	if same {
		return nil
	}
	has, err := p.command(ctx, name, right, reserving)
	var taken *forward.TakenError
	p.mu.Lock()
	defer p.mu.Unlock()
	if o.known = err == nil || errors.As(err, &taken) && !reserving; o.known {
		o.has = has
	}
	o.known = o.known && restarts == p.restarts
	return err
}

// command has the forwarder do what is right, and returns what it does then. Unless all is
// wanted or nothing, ports that are taken do not keep the others from being served.
func (p *Publisher) command(ctx context.Context, name string, right Wish, all bool) (Wish, error) {
	var lacking error
	for len(right.Ports) > 0 {
		err := p.o.Forwarder.Claim(ctx, name, right.Ports)
		var taken *forward.TakenError
		if err == nil {
			return right, cmp.Or(p.o.Forwarder.Point(ctx, name, right.Targets), lacking)
		}
		if all || !errors.As(err, &taken) {
			return right, err
		}
		lacking = cmp.Or(lacking, err)
		fewer := slices.DeleteFunc(slices.Clone(right.Ports), taken.Port.Conflicts)
		if len(fewer) == len(right.Ports) {
			return right, err
		}
		right.Ports = fewer
	}
	return right, cmp.Or(p.o.Forwarder.Release(ctx, name), lacking)
}

// note notes how it went, and tells of trouble that is new. What is lacking for want of a
// port that is taken is tried again, and not waited for.
func (p *Publisher) note(name string, o *owner, number uint64, err error) {
	text := ""
	if err != nil {
		text = err.Error()
	}
	p.mu.Lock()
	if err == nil || o.known {
		o.settled = max(o.settled, number)
		close(o.told)
		o.told = make(chan struct{})
	}
	news := text != o.trouble
	o.trouble = text
	p.mu.Unlock()
	if news {
		p.o.Trouble(name, err)
	}
}
