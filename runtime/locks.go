package runtime

import (
	"context"
	"sync"

	"golang.org/x/sync/semaphore"
)

// locks are locks by name, which are waited for no longer than a context lasts. The
// zero locks are ready to be used.
type locks struct {
	mu   sync.Mutex
	held map[string]*namedLock
}

type namedLock struct {
	*semaphore.Weighted
	// users hold it or wait for it; guarded by the locks' mutex.
	users int
}

// lock waits for a name and returns what gives it back. The error is that of ctx, which
// has ended before.
func (l *locks) lock(ctx context.Context, name string) (unlock func(), err error) {
	n := l.join(name)
	if err := n.Acquire(ctx, 1); err != nil {
		l.leave(name, n)
		return nil, err
	}
	return func() { l.unlock(name, n) }, nil
}

// tryLock takes a name that nobody has or waits for.
func (l *locks) tryLock(name string) (unlock func(), ok bool) {
	n := l.join(name)
	if !n.TryAcquire(1) {
		l.leave(name, n)
		return nil, false
	}
	return func() { l.unlock(name, n) }, true
}

func (l *locks) unlock(name string, n *namedLock) {
	n.Release(1)
	l.leave(name, n)
}

func (l *locks) join(name string) *namedLock {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := l.held[name]
	if n == nil {
		n = &namedLock{Weighted: semaphore.NewWeighted(1)}
		if l.held == nil {
			l.held = map[string]*namedLock{}
		}
		l.held[name] = n
	}
	n.users++
	return n
}

func (l *locks) leave(name string, n *namedLock) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if n.users--; n.users == 0 {
		delete(l.held, name)
	}
}
