package runtime

import (
	"context"
	"sync"
)

// locks are locks by name, which are waited for no longer than a context lasts. The
// zero locks are ready to be used.
type locks struct {
	mu   sync.Mutex
	held map[string]*namedLock
}

type namedLock struct {
	// taken has an element while somebody holds the lock.
	taken chan struct{}
	// users hold it or wait for it; guarded by the locks' mutex.
	users int
}

// lock waits for a name and returns what gives it back. The error is that of ctx, which
// has ended before.
func (l *locks) lock(ctx context.Context, name string) (unlock func(), err error) {
	n := l.join(name)
	select {
	case n.taken <- struct{}{}:
	case <-ctx.Done():
		l.leave(name, n)
		return nil, ctx.Err()
	}
	return func() {
		<-n.taken
		l.leave(name, n)
	}, nil
}

// tryLock takes a name that nobody has or waits for.
func (l *locks) tryLock(name string) (unlock func(), ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.held[name] != nil {
		return nil, false
	}
	n := l.use(name)
	n.taken <- struct{}{}
	return func() {
		<-n.taken
		l.leave(name, n)
	}, true
}

func (l *locks) join(name string) *namedLock {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.use(name)
}

// use returns the lock of a name, with one more user; the mutex is held.
func (l *locks) use(name string) *namedLock {
	n := l.held[name]
	if n == nil {
		n = &namedLock{taken: make(chan struct{}, 1)}
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
