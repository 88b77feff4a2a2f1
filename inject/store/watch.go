package store

import (
	"context"
	"fmt"
	"strconv"
	"sync"

	"github.com/purserd/purser/inject/source"
)

// Source is the store as a source of secrets: of the newest version of each.
func (s *Store) Source() source.Source { return newestOf{s} }

type newestOf struct{ store *Store }

// Get implements [source.Source].
func (n newestOf) Get(ctx context.Context, name source.Name, unless source.Revision) (source.Content, error) {
	if unless != "" && n.store.revision(name) == unless {
		return source.Content{}, fmt.Errorf("%s: %w", name, source.ErrUnchanged)
	}
	secret, err := n.store.Get(ctx, name.Environment, name.Secret, 0)
	if err != nil {
		return source.Content{}, err
	}
	return source.Content{Revision: revisionOf(secret.Version), Data: secret.Data}, nil
}

// revision is that of a secret's newest version; empty when there is none.
func (s *Store) revision(name source.Name) source.Revision {
	s.mu.RLock()
	defer s.mu.RUnlock()
	v, ok := s.manifest.record(name.Environment, name.Secret).newest()
	if !ok || s.closed {
		return ""
	}
	return revisionOf(v.Version)
}

// revisionOf a version is its number, which is never used again.
func revisionOf(version uint32) source.Revision {
	return source.Revision(strconv.FormatUint(uint64(version), 10))
}

// List implements [source.Source].
func (n newestOf) List(ctx context.Context) ([]source.Name, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	var names []source.Name
	for _, info := range n.store.List("") {
		if !info.Deleted {
			names = append(names, source.Name{Environment: info.Environment, Secret: info.Name})
		}
	}
	return names, nil
}

// Watch implements [source.Source].
func (n newestOf) Watch(ctx context.Context, changed func(...source.Name)) error {
	w := n.store.watchers.add()
	defer n.store.watchers.remove(w)
	changed()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-w.wake:
			changed(w.take()...)
		}
	}
}

// watchers are told of every change that has been made.
type watchers struct {
	mu  sync.Mutex
	all map[*watcher]bool
}

// watcher collects what has changed until that is taken.
type watcher struct {
	wake chan struct{} // of capacity 1

	mu      sync.Mutex
	pending map[source.Name]bool
}

func (all *watchers) add() *watcher {
	w := &watcher{wake: make(chan struct{}, 1), pending: map[source.Name]bool{}}
	all.mu.Lock()
	defer all.mu.Unlock()
	if all.all == nil {
		all.all = map[*watcher]bool{}
	}
	all.all[w] = true
	return w
}

func (all *watchers) remove(w *watcher) {
	all.mu.Lock()
	defer all.mu.Unlock()
	delete(all.all, w)
}

// tell waits for nobody.
func (all *watchers) tell(name source.Name) {
	all.mu.Lock()
	defer all.mu.Unlock()
	for w := range all.all {
		w.add(name)
	}
}

func (w *watcher) add(name source.Name) {
	w.mu.Lock()
	w.pending[name] = true
	w.mu.Unlock()
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

func (w *watcher) take() []source.Name {
	w.mu.Lock()
	defer w.mu.Unlock()
	names := make([]source.Name, 0, len(w.pending))
	for name := range w.pending {
		names = append(names, name)
	}
	clear(w.pending)
	return names
}
