package dir

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"

	"github.com/fsnotify/fsnotify"
	"golang.org/x/sys/unix"

	"github.com/purserd/purser/inject/source"
)

// notifier tells of changes in directories, as [fsnotify.Watcher] does.
type notifier interface {
	Add(dir string) error
	Remove(dir string) error
	Events() <-chan fsnotify.Event
	Errors() <-chan error
	Close() error
}

type inotify struct{ *fsnotify.Watcher }

func newInotify() (notifier, error) {
	w, err := fsnotify.NewWatcher()
	if err != nil {
		return nil, err
	}
	return inotify{w}, nil
}

func (i inotify) Events() <-chan fsnotify.Event { return i.Watcher.Events }
func (i inotify) Errors() <-chan error          { return i.Watcher.Errors }

// watches are the directories that are watched, and why.
type watches struct {
	dir      *Dir
	notifier notifier
	on       map[string]*watched // by path
	trails   map[source.Name][]step
}

// watched is one directory.
type watched struct {
	dev, ino uint64
	// reasons to watch it.
	reasons map[reason]bool
}

// reason is what a change in a directory may change.
type reason struct {
	// base is the entry that it is about; of all when empty.
	base string
	// name is the secret that may have changed; any may when it is empty.
	name source.Name
	// entries: the secret is the entry, in the environment of name.
	entries bool
}

// heeds says whether an entry of the directory matters to who watches it for that reason.
func (why reason) heeds(base string) bool {
	switch {
	case why.base != "":
		return why.base == base
	case why.name.Secret != "": // any file may be a key
		return !strings.HasPrefix(base, "..")
	default:
		return !leftAlone(base)
	}
}

func newWatches(d *Dir, n notifier) *watches {
	return &watches{dir: d, notifier: n, on: map[string]*watched{}, trails: map[source.Name][]step{}}
}

// plan is what to watch, and why.
type plan map[string]map[reason]bool

func (p plan) add(steps []step, why reason) {
	for _, s := range steps {
		if p[s.dir] == nil {
			p[s.dir] = map[reason]bool{}
		}
		why.base = s.base
		p[s.dir][why] = true
	}
}

func (p plan) equal(other plan) bool { return maps.EqualFunc(p, other, maps.Equal) }

// maxRounds is how often watches are looked at that change while they are added.
const maxRounds = 10

// all brings every watch up to date. What has changed before it returns is seen by who
// looks then, and an event comes of what changes later.
func (w *watches) all() error {
	for wanted, round := w.wanted(), 0; round < maxRounds; round++ {
		if err := w.become(wanted); err != nil {
			return err
		}
		again := w.wanted()
		if wanted.equal(again) {
			break
		}
		wanted = again
	}
	return nil // what goes on changing makes events
}

// wanted is what to watch as things are.
func (w *watches) wanted() plan {
	p, d := plan{}, w.dir
	w.trails = map[source.Name][]step{}
	there := d.readable() == nil
	if !there || d.Secret != "" || d.Environment == AllEnvironments {
		p.add(trail(d.Path), reason{})
	}
	if there && d.Secret == "" {
		environments, _ := d.environments()
		for _, environment := range environments {
			p.add(d.entries(environment))
			p.add(d.way(environment), reason{})
		}
	}
	names, _ := d.List(context.Background())
	for _, name := range names {
		w.trails[name] = d.trailOf(name)
		p.add(w.trails[name], reason{name: name})
	}
	return p
}

// entries is the directory of an environment, each entry of which is a secret.
func (d *Dir) entries(environment string) ([]step, reason) {
	steps := trail(d.environmentDir(environment))
	return steps[len(steps)-1:], reason{name: source.Name{Environment: environment}, entries: true}
}

// way are the steps to the directory of an environment.
func (d *Dir) way(environment string) []step {
	steps := trail(d.environmentDir(environment))
	return steps[:len(steps)-1]
}

// trailOf are the steps to the files of a secret.
func (d *Dir) trailOf(name source.Name) []step {
	var steps []step
	for _, c := range d.candidates(name) {
		if ok, err := c.there(); ok || err != nil {
			steps = append(steps, c.trail()...)
		}
	}
	return sorted(steps)
}

// become watches what is planned and nothing else.
func (w *watches) become(p plan) error {
	for dir := range w.on {
		if p[dir] == nil {
			w.drop(dir)
		}
	}
	for dir, reasons := range p {
		if err := w.add(dir, reasons); err != nil {
			return err
		}
	}
	return nil
}

func (w *watches) drop(dir string) {
	_ = w.notifier.Remove(dir) // the kernel may have done so
	delete(w.on, dir)
}

// add watches a directory, anew if another is in its place; also if it seems to be the
// same, as the kernel watches none any more that was unmounted in between.
func (w *watches) add(dir string, reasons map[reason]bool) error {
	var s unix.Stat_t
	if err := unix.Stat(dir, &s); err != nil {
		w.drop(dir)
		return nil // gone, which the next look at what is wanted will see
	}
	now := &watched{dev: uint64(s.Dev), ino: s.Ino, reasons: reasons}
	if have, ok := w.on[dir]; ok && (have.dev != now.dev || have.ino != now.ino) {
		w.drop(dir)
	}
	err := w.notifier.Add(dir)
	switch {
	case err == nil:
		w.on[dir] = now
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, fs.ErrPermission):
		err = nil // who may not look cannot read either
	case !outOfWatches(err):
		err = fmt.Errorf("watching %s: %w", dir, err)
	}
	return err
}

// secret brings the watches of one secret up to date, as all does.
func (w *watches) secret(name source.Name) error {
	for range maxRounds {
		steps := w.dir.trailOf(name)
		if err := w.follow(name, steps); err != nil {
			return err
		}
		if slices.Equal(steps, w.dir.trailOf(name)) {
			break
		}
	}
	return nil
}

// follow watches these steps for a secret, and no others.
func (w *watches) follow(name source.Name, steps []step) error {
	for _, s := range w.trails[name] {
		if on := w.on[s.dir]; on != nil {
			delete(on.reasons, reason{base: s.base, name: name})
		}
	}
	w.trails[name] = steps
	for _, s := range steps {
		reasons := map[reason]bool{}
		if on := w.on[s.dir]; on != nil {
			reasons = on.reasons
		}
		reasons[reason{base: s.base, name: name}] = true
		if err := w.add(s.dir, reasons); err != nil {
			return err
		}
	}
	for dir, on := range w.on {
		if len(on.reasons) == 0 {
			w.drop(dir)
		}
	}
	return nil
}
