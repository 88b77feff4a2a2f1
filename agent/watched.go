package agent

import "sync"

// watched is a value that can be waited for to become another. Its zero value has T's.
type watched[T any] struct {
	mu    sync.Mutex
	value T
	// changed is closed and replaced with every change; nil until somebody looks.
	changed chan struct{}
}

func (w *watched[T]) get() T {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.value
}

// view is the value, and a channel that is closed when it is no longer that.
func (w *watched[T]) view() (T, <-chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.changed == nil {
		w.changed = make(chan struct{})
	}
	return w.value, w.changed
}

func (w *watched[T]) set(value T) { w.change(func(v *T) { *v = value }) }

func (w *watched[T]) change(f func(*T)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f(&w.value)
	if w.changed != nil {
		close(w.changed)
		w.changed = nil
	}
}
