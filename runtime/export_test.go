package runtime

import (
	"context"
	"time"
)

// Impatient has a sweeper wait for no more than the second sweep.
func (s *Sweeper) Impatient() *Sweeper {
	s.settling, s.temporary = 0, 0
	return s
}

// Temporary is for how long what is no container's is let alone.
func (s *Sweeper) Temporary(t time.Duration) { s.temporary = t }

// HoldShim does what Create does before it makes a container, and after one that it could
// not make.
func (r *Runtime) HoldShim(ctx context.Context, in Instance) (letGo func() error, err error) {
	a, err := r.shims.assign(r.ctx(ctx), in)
	if err != nil {
		return nil, err
	}
	return func() error { return a.settle(r.ctx(ctx), false) }, nil
}
