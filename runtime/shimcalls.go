package runtime

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"
)

// A shim hears of the ends of all its processes, the runtimes that it executes included,
// from one queue of 32. While a call has a container, what follows from that one's end waits
// for it, and with it the queue; when that is full each end takes a second to be heard of,
// that of the runtime which the call is waiting for as well, and may be lost
// (containerd#13544). A hundred containers of a shared shim that are stopped at the same
// time bring it to that, so only some calls are made of one shim at a time.

// shimCalls is how many: each has two processes end at most, and those of calls just
// answered may still do so.
const shimCalls = 8

// turns has the calls of each shared shim, by its anchor, wait for each other. The zero
// turns are ready to be used.
type turns struct {
	mu    sync.Mutex
	shims map[string]*turn
}

type turn struct {
	*semaphore.Weighted
	// What follows is guarded by the turns' mutex: who has one or waits for one, and when a
	// call ended last.
	users int
	ended time.Time
}

// take waits until few enough calls of a shim are under way; done is to be called when
// another one has ended. If none ends for signalTime the shim hangs, which is for each
// caller to find out for itself. The error is that of ctx.
func (t *turns) take(ctx context.Context, anchor string) (done func(), err error) {
	if anchor == "" {
		return func() {}, nil // nobody else calls it
	}
	n := t.join(anchor)
	switch err := t.acquire(ctx, n); {
	case err == nil:
		return func() { t.end(anchor, n) }, nil
	case ctx.Err() != nil:
		t.leave(anchor, n)
		return nil, ctx.Err()
	}
	return func() { t.leave(anchor, n) }, nil // it hangs
}

// acquire waits for a turn, in the order of those who do, until the shim hangs.
func (t *turns) acquire(ctx context.Context, n *turn) error {
	if n.TryAcquire(1) {
		return nil
	}
	ctx, giveUp := context.WithCancel(ctx)
	defer giveUp()
	go func() {
		for looks := time.Tick(signalTime); ; {
			select {
			case <-looks:
				if t.stands(n) {
					giveUp()
				}
			case <-ctx.Done():
				return
			}
		}
	}()
	return n.Acquire(ctx, 1)
}

func (t *turns) join(anchor string) *turn {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := t.shims[anchor]
	if n == nil {
		n = &turn{Weighted: semaphore.NewWeighted(shimCalls)}
		if t.shims == nil {
			t.shims = map[string]*turn{}
		}
		t.shims[anchor] = n
	}
	n.users++
	return n
}

func (t *turns) stands(n *turn) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return time.Since(n.ended) >= signalTime
}

func (t *turns) end(anchor string, n *turn) {
	n.Release(1)
	t.mu.Lock()
	n.ended = time.Now()
	t.mu.Unlock()
	t.leave(anchor, n)
}

func (t *turns) leave(anchor string, n *turn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if n.users--; n.users == 0 {
		delete(t.shims, anchor)
	}
}

// ErrNoTurn says that a call has not been made, as others of the same shim came first until
// there was no time left.
var ErrNoTurn = errors.New("its shim is busy with other calls")

// callShim makes a call that has the shim of a container execute a runtime, when it is its
// turn.
func (r *Runtime) callShim(ctx context.Context, id string, call func() error) error {
	anchor, err := r.anchorOf(ctx, id)
	if err != nil {
		return err
	}
	done, err := r.turns.take(ctx, anchor)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrNoTurn, err)
	}
	defer done()
	return call()
}

// anchorOf is the anchor of a container's shim; empty when it has one of its own, or there
// is no such container.
func (r *Runtime) anchorOf(ctx context.Context, id string) (string, error) {
	if anchor := r.anchors.of(id); anchor != "" {
		return anchor, nil
	}
	ctx, cancel := context.WithTimeout(ctx, signalTime)
	defer cancel()
	record, err := r.client.ContainerService().Get(ctx, id)
	if isNotFound(err) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	r.anchors.note(id, record.Labels[labelShim])
	return record.Labels[labelShim], nil
}
