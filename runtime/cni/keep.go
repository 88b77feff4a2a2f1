package cni

import (
	"context"
	"errors"
	"time"
)

const (
	// leastPause and mostPause are between tries of what fails, and mostPause between looks.
	leastPause = time.Second
	mostPause  = time.Minute
)

// look has the keeper look.
func (n *Network) look() {
	select {
	case n.due <- struct{}{}:
	default:
	}
}

// keep disconnects what is dead, keeps attachments ready, and the bridge and its rules as
// they should be, until the network is closed.
func (n *Network) keep() {
	pause := leastPause
	for {
		err := errors.Join(n.disconnectDead(n.ctx), n.fill(), n.keepBridge(), n.keepRules())
		next := mostPause
		if err == nil || n.ctx.Err() != nil {
			pause = leastPause
		} else {
			n.complain(err, pause)
			next, pause = pause, min(2*pause, mostPause)
		}
		select {
		case <-n.ctx.Done():
			return
		case <-n.due:
		case <-time.After(next):
		}
	}
}

// complain logs what is tried again, loudly the first time. That addresses are exhausted is
// for those to know who claim one.
func (n *Network) complain(err error, pause time.Duration) {
	log := n.cfg.Log.Debug
	if pause == leastPause && !errors.Is(err, ErrExhausted) {
		log = n.cfg.Log.Warn
	}
	log("the container network is not as it should be; trying again", "error", err)
}

// disconnectDead disconnects what nobody uses any more.
func (n *Network) disconnectDead(ctx context.Context) (err error) {
	n.mu.Lock()
	dead := n.dead
	n.dead = nil
	n.mu.Unlock()
	for i, a := range dead {
		if ctx.Err() != nil {
			n.mu.Lock()
			n.dead = append(n.dead, dead[i:]...)
			n.mu.Unlock()
			return ctx.Err()
		}
		if failed := n.disconnect(context.WithoutCancel(ctx), a); failed != nil {
			err = errors.Join(err, failed)
			n.mu.Lock()
			n.dead = append(n.dead, a)
			n.mu.Unlock()
		}
	}
	return err
}

// fill makes attachments ready, one after the other, and lets go of those that are too many.
func (n *Network) fill() error {
	for n.ctx.Err() == nil {
		n.mu.Lock()
		wanted, ready := n.wanted, len(n.ready)
		if ready > n.cfg.Pool {
			n.dead = append(n.dead, n.ready[n.cfg.Pool:]...)
			n.ready = n.ready[:n.cfg.Pool]
			n.look()
		}
		n.mu.Unlock()
		if !wanted || ready >= n.cfg.Pool {
			return nil
		}
		a, err := n.make(n.ctx)
		if err != nil {
			return err
		}
		n.mu.Lock()
		n.ready = append(n.ready, a)
		n.mu.Unlock()
	}
	return nil
}

// keepRules makes the bridge's rules anew as long as it is used: another program may have
// flushed them.
func (n *Network) keepRules() error {
	n.mu.Lock()
	used, subnets := len(n.claimed) > 0, n.subnets
	n.mu.Unlock()
	if !used || len(subnets) == 0 {
		return nil
	}
	return n.cfg.masquerade(subnets)
}

// Disband disconnects what nobody has claimed and, when nobody has claimed anything,
// removes the bridge: the node has come to its end. Nothing is made ready any more.
func (n *Network) Disband(ctx context.Context) error {
	n.cancel()
	n.keeping.Wait()
	n.mu.Lock()
	n.dead, n.ready = append(n.dead, n.ready...), nil
	idle, subnets := len(n.claimed) == 0, n.subnets
	n.mu.Unlock()
	if err := n.disconnectDead(ctx); err != nil || !idle {
		return err
	}
	if len(subnets) > 0 {
		if err := n.cfg.removeTables(); err != nil {
			return err
		}
	}
	return n.cfg.removeOwn()
}
