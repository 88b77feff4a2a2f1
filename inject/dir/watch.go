package dir

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"time"

	"github.com/fsnotify/fsnotify"
	"golang.org/x/sys/unix"

	"github.com/purserd/purser/inject/source"
)

const (
	// gather is how long changes are collected before they are told: a directory that
	// is written is many of them.
	gather = 10 * time.Millisecond
	// pollEvery is how often anything may have changed where the kernel does not tell.
	pollEvery = 10 * time.Second
	// lookEvery is how often it may have where the kernel tells.
	lookEvery = 30 * time.Second
	// retryAfter is after how long it is tried again to have watches.
	retryAfter = 10 * time.Minute
)

// Watch implements [source.Source].
func (d *Dir) Watch(ctx context.Context, changed func(...source.Name)) error {
	for {
		err := d.watch(ctx, changed)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if !outOfWatches(err) {
			return fmt.Errorf("watching %s: %w", d.Path, err)
		}
		d.degraded(fmt.Errorf("%w (see fs.inotify in sysctl)", err))
		if err := poll(ctx, changed); err != nil {
			return err
		}
	}
}

func (d *Dir) degraded(why error) {
	if d.Polling != nil {
		d.Polling(why)
	}
}

// outOfWatches says whether there are no more instances of inotify, or watches, to be had.
func outOfWatches(err error) bool {
	return errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENFILE) || errors.Is(err, unix.ENOMEM)
}

// poll does without watches for a while.
func poll(ctx context.Context, changed func(...source.Name)) error {
	for end := time.Now().Add(retryAfter); time.Now().Before(end); {
		changed()
		if err := sleep(ctx, jittered(pollEvery)); err != nil {
			return err
		}
	}
	return nil
}

// jittered is up to a tenth more or less than d.
func jittered(d time.Duration) time.Duration {
	return d - d/10 + rand.N(d/5)
}

// watch tells of changes until ctx ends or the kernel does not tell them any more.
func (d *Dir) watch(ctx context.Context, changed func(...source.Name)) error {
	n, err := d.inotify()
	if err != nil {
		return err
	}
	defer n.Close()
	w := newWatches(d, n)
	if err := w.all(); err != nil {
		return err
	}
	changed()
	every, on := d.upkeep("")
	timer := time.NewTimer(jittered(every))
	defer timer.Stop()
	for {
		var names []source.Name
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-timer.C:
			err = w.all()
			every, on = d.upkeep(on)
			timer.Reset(jittered(every))
		case e := <-n.Events():
			names, err = w.gather(ctx, e)
			if err == nil && names != nil && len(names) == 0 { // nothing of ours
				continue
			}
		case problem := <-n.Errors():
			if problem == nil || !errors.Is(problem, fsnotify.ErrEventOverflow) {
				return fmt.Errorf("the kernel tells no changes any more: %w", problem)
			}
			err = w.all()
		}
		if err != nil {
			return err
		}
		changed(names...)
	}
}

// upkeep is how often it is looked whether the right directories are watched: no event
// tells that something is mounted on one. Where others may change files without the
// kernel seeing it, it is to find their changes; what that is on is told unless it was.
func (d *Dir) upkeep(told string) (every time.Duration, on string) {
	on, elsewhere := d.network(d.Path)
	if !elsewhere {
		return lookEvery, ""
	}
	if on != told {
		d.degraded(fmt.Errorf("%s is on %s, which others may write to unseen", d.Path, on))
	}
	return pollEvery, on
}

// gather returns the secrets that an event, and those that follow it closely, are about;
// nil for all. It has brought the watches up to date.
func (w *watches) gather(ctx context.Context, first fsnotify.Event) ([]source.Name, error) {
	found := &touched{names: map[source.Name]bool{}}
	w.touch(found, first)
	if found.none() {
		return []source.Name{}, nil
	}
	timer := time.NewTimer(gather)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case e := <-w.notifier.Events():
			w.touch(found, e)
		case <-timer.C:
			return w.update(found)
		}
	}
}

// touched is what events are about.
type touched struct {
	all   bool
	names map[source.Name]bool
	// moved: not only content has changed, but what is where.
	moved bool
}

func (t *touched) none() bool { return !t.all && len(t.names) == 0 }

// touch adds what an event is about.
func (w *watches) touch(t *touched, e fsnotify.Event) {
	moved := e.Has(fsnotify.Create) || e.Has(fsnotify.Remove) || e.Has(fsnotify.Rename)
	if on := w.on[e.Name]; on != nil && moved { // the directory itself: another may come
		w.drop(e.Name)
		for why := range on.reasons {
			t.add(w.dir, why, "")
		}
	}
	if on := w.on[filepath.Dir(e.Name)]; on != nil {
		base := filepath.Base(e.Name)
		for why := range on.reasons {
			if why.heeds(base) {
				t.add(w.dir, why, base)
			}
		}
	}
	t.moved = t.moved || moved
}

// add adds what a reason is about, of an entry of the directory or of all of them.
func (t *touched) add(d *Dir, why reason, base string) {
	switch {
	case why.name == source.Name{}, why.entries && base == "":
		t.all = true
	case !why.entries:
		t.names[why.name] = true
	default:
		for _, secret := range []string{base, stem(base)} {
			if name := (source.Name{Environment: why.name.Environment, Secret: secret}); d.has(name) {
				t.names[name] = true
			}
		}
	}
}

// update brings the watches up to date with what has moved, and returns the names.
func (w *watches) update(t *touched) ([]source.Name, error) {
	if t.all {
		return nil, w.all()
	}
	names := make([]source.Name, 0, len(t.names))
	for name := range t.names {
		names = append(names, name)
		if t.moved {
			if err := w.secret(name); err != nil {
				return nil, err
			}
		}
	}
	return names, nil
}
