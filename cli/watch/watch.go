// Package watch tells when a file has been saved.
//
// Editors save in many ways: in place, by a rename over the file, by moving it away
// and writing it anew. What configuration managers do is a link that is swapped,
// somewhere on the way to the file. So it is not the file that is watched but every
// name on its path, links followed, in the directory that has it. All that happens
// to them within a moment is one change. What the change was, the reader of the
// file sees.
package watch

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/fsnotify/fsnotify"
)

const (
	// quiet is how long nothing must have happened for a change to be over.
	quiet = 200 * time.Millisecond
	// longest is how long a change may go on before it is told of all the same.
	longest = 2 * time.Second
	// mostLinks is what Linux follows, too.
	mostLinks = 40
)

// File is a file that is watched.
type File struct {
	path    string // absolute
	watcher *fsnotify.Watcher
	changed chan struct{}
	// names are those on the path, by the directories that have them.
	names map[string][]string
}

// New begins to watch a file. The directory that it is in must be there.
func New(path string) (*File, error) {
	if !filepath.IsAbs(path) {
		here, err := os.Getwd()
		if err != nil {
			return nil, err
		}
		path = here + "/" + path // not joined: a .. after a link is not the link's parent
	}
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		return nil, fmt.Errorf("watching files: %w", err)
	}
	f := &File{path: path, watcher: watcher, changed: make(chan struct{}, 1)}
	if err := f.place(); err != nil {
		return nil, errors.Join(err, watcher.Close())
	}
	return f, nil
}

// Changed has one element when the file may have changed, be it that it is gone or
// is back, since the last one was taken.
func (f *File) Changed() <-chan struct{} { return f.changed }

// Run watches until ctx ends. It is called once.
func (f *File) Run(ctx context.Context) error {
	defer f.watcher.Close()
	change := newDebouncer(quiet, longest)
	defer change.timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case event, ok := <-f.watcher.Events:
			if !ok {
				return errors.New("watching files: it has ended")
			}
			if f.concerns(event.Name) {
				change.touch()
			}
		case _, ok := <-f.watcher.Errors:
			if !ok {
				return errors.New("watching files: it has ended")
			}
			change.touch() // events were lost
		case <-change.timer.C:
			change.over()
			// Before the file is read, so that what happens afterwards is seen. Where
			// it fails, a directory above is watched.
			_ = f.place()
			select {
			case f.changed <- struct{}{}:
			default:
			}
		}
	}
}

// concerns tells whether something that happened to a path may change the file.
func (f *File) concerns(path string) bool {
	dir, name := filepath.Split(path)
	for _, n := range f.names[filepath.Clean(dir)] {
		if n == name {
			return true
		}
	}
	return false
}

// place watches the directories on the way to the file as the way is now. It is an
// error when the last cannot be watched; others may be closed to this user.
func (f *File) place() error {
	for dir := range f.names {
		// Also one that stays: another directory may be in its place.
		_ = f.watcher.Remove(dir)
	}
	var last string
	f.names, last = way(f.path)
	var failed error
	for dir := range f.names {
		if err := f.watcher.Add(dir); err != nil && dir == last {
			failed = watchError(dir, err)
		}
	}
	return failed
}

func watchError(dir string, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("watching %s: there is no such directory", dir)
	}
	return fmt.Errorf("watching %s: %w (where it says no space left, fs.inotify.max_user_watches is too small)", dir, err)
}

// way finds the names on a path, links followed, by the directories that have them,
// and which directory has the last. Of what is not there, it is the way that it
// would have.
func way(path string) (names map[string][]string, last string) {
	names = map[string][]string{}
	dir, links := "/", 0
	pending := strings.Split(path, "/")
	for len(pending) > 0 {
		name := pending[0]
		pending = pending[1:]
		switch name {
		case "", ".":
			continue
		case "..":
			dir = filepath.Dir(dir) // no link: those are followed
			continue
		}
		names[dir], last = append(names[dir], name), dir
		target, err := os.Readlink(filepath.Join(dir, name))
		if err != nil || links == mostLinks {
			dir = filepath.Join(dir, name)
			continue
		}
		links++
		if filepath.IsAbs(target) {
			dir = "/"
		}
		pending = append(strings.Split(target, "/"), pending...)
	}
	return names, last
}

// debouncer makes one of many things that happen within a moment.
type debouncer struct {
	quiet, longest time.Duration
	// timer fires when a change is over.
	timer *time.Timer
	// began is when the change did; zero when there is none.
	began time.Time
}

func newDebouncer(quiet, longest time.Duration) *debouncer {
	d := &debouncer{quiet: quiet, longest: longest, timer: time.NewTimer(longest)}
	d.timer.Stop()
	return d
}

// touch tells that something happened.
func (d *debouncer) touch() {
	now := time.Now()
	if d.began.IsZero() {
		d.began = now
	}
	d.timer.Reset(min(d.quiet, d.longest-now.Sub(d.began)))
}

// over tells that the timer has fired.
func (d *debouncer) over() { d.began = time.Time{} }
