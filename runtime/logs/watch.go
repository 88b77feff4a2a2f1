package logs

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/fsnotify/fsnotify"
)

// watcher tells who follows a log that something has changed in its directory. One
// inotify instance serves all; a user may have only so many.
type watcher struct {
	mu       sync.Mutex
	notify   *fsnotify.Watcher // nil until somebody follows
	waiting  map[string][]chan struct{}
	finished chan struct{} // closed when nothing is told any more
	closed   bool
}

// look is how often a follower looks by itself. An event may be lost, of a file
// system that has none, or when too many came.
const look = 500 * time.Millisecond

// errNoDir says that there is nothing to watch.
var errNoDir = errors.New("no such log")

// watch returns a channel that gets something soon after the directory has changed,
// until release is called.
func (w *watcher) watch(dir string) (changed <-chan struct{}, release func(), err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return nil, nil, fs.ErrClosed
	}
	c := make(chan struct{}, 1)
	if err := w.start(); err != nil {
		return c, func() {}, nil // who looks from time to time needs no events
	}
	if len(w.waiting[dir]) == 0 {
		if err := w.notify.Add(dir); errors.Is(err, fs.ErrNotExist) {
			return nil, nil, errNoDir
		}
	}
	w.waiting[dir] = append(w.waiting[dir], c)
	return c, func() { w.release(dir, c) }, nil
}

func (w *watcher) start() error {
	if w.notify != nil {
		return nil
	}
	notify, err := fsnotify.NewWatcher()
	if err != nil {
		return fmt.Errorf("watching logs: %w", err)
	}
	w.notify, w.waiting, w.finished = notify, map[string][]chan struct{}{}, make(chan struct{})
	go w.tell(notify)
	return nil
}

// tell passes events on until the watcher is closed.
func (w *watcher) tell(notify *fsnotify.Watcher) {
	defer close(w.finished)
	for {
		select {
		case e, ok := <-notify.Events:
			if !ok {
				return
			}
			w.wake(filepath.Dir(e.Name))
			w.wake(e.Name) // of a directory that is gone
		case _, ok := <-notify.Errors: // events were lost: followers look by themselves
			if !ok {
				return
			}
		}
	}
}

func (w *watcher) wake(dir string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range w.waiting[dir] {
		select {
		case c <- struct{}{}:
		default:
		}
	}
}

func (w *watcher) release(dir string, c chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	rest := slices.DeleteFunc(w.waiting[dir], func(other chan struct{}) bool { return other == c })
	if len(rest) > 0 {
		w.waiting[dir] = rest
		return
	}
	delete(w.waiting, dir)
	if !w.closed {
		_ = w.notify.Remove(dir) // its error is that the directory is gone
	}
}

func (w *watcher) close() error {
	w.mu.Lock()
	notify := w.notify
	first := !w.closed
	w.closed = true
	w.mu.Unlock()
	if notify == nil || !first {
		return nil
	}
	err := notify.Close()
	<-w.finished
	return err
}
