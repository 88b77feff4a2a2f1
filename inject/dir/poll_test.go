package dir

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fsnotify/fsnotify"
	"golang.org/x/sys/unix"

	"github.com/purserd/purser/inject/source"
)

// scarce gives so many watches and no more.
type scarce struct {
	left   int
	on     map[string]bool
	events chan fsnotify.Event
	errors chan error
}

func (s *scarce) Add(dir string) error {
	if s.on[dir] {
		return nil
	}
	if s.left == 0 {
		return fmt.Errorf("inotify_add_watch: %w", unix.ENOSPC)
	}
	s.left--
	if s.on == nil {
		s.on = map[string]bool{}
	}
	s.on[dir] = true
	return nil
}

func (s *scarce) Remove(dir string) error       { delete(s.on, dir); s.left++; return nil }
func (s *scarce) Events() <-chan fsnotify.Event { return s.events }
func (s *scarce) Errors() <-chan error          { return s.errors }
func (s *scarce) Close() error                  { return nil }

// told are the times at which a watch of an hour said to look at all, and why it polled.
func told(t *testing.T, inotify func() (notifier, error), kinds ...func(string) (string, bool)) (times []time.Duration, why []string, err error) {
	path := t.TempDir()
	for i := range 10 {
		if err := os.Mkdir(filepath.Join(path, fmt.Sprint("s", i)), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	synctest.Test(t, func(t *testing.T) {
		d := New(Options{Path: path, Environment: "prod", Polling: func(err error) { why = append(why, err.Error()) }})
		d.inotify = inotify
		for _, kind := range kinds {
			d.network = kind
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		began := time.Now()
		err = d.Watch(ctx, func(names ...source.Name) {
			if len(names) == 0 {
				times = append(times, time.Since(began))
			}
		})
	})
	return times, why, err
}

// Where there are no watches to be had it is polled, and tried again now and then.
func TestWithoutWatches(t *testing.T) {
	for name, inotify := range map[string]func() (notifier, error){
		"no inotify":       func() (notifier, error) { return nil, unix.EMFILE },
		"no more watches":  func() (notifier, error) { return &scarce{}, nil },
		"too few watches":  func() (notifier, error) { return &scarce{left: 5}, nil },
		"no memory for it": func() (notifier, error) { return nil, unix.ENOMEM },
	} {
		t.Run(name, func(t *testing.T) {
			times, why, err := told(t, inotify)
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("it ended with %v", err)
			}
			for i := 1; i < len(times); i++ {
				if pause := times[i] - times[i-1]; pause > 11*time.Second {
					t.Errorf("a pause of %s", pause)
				}
			}
			if n := len(times); n < 300 || n > 500 {
				t.Errorf("told %d times in an hour", n)
			}
			if n := len(why); n < 5 || n > 7 {
				t.Errorf("said %d times that it polls, such as %q", n, slices.Compact(why))
			}
		})
	}
}

func TestWatchThatWorksIsNotPolled(t *testing.T) {
	times, why, err := told(t, func() (notifier, error) { return &scarce{left: 1000}, nil })
	if !errors.Is(err, context.DeadlineExceeded) || len(why) > 0 {
		t.Errorf("it ended with %v, and polled for %q", err, why)
	}
	if n := len(times); n < 100 || n > 140 { // its upkeep
		t.Errorf("told %d times in an hour", n)
	}
}

// What is mounted later, and others write to unseen, is polled from then on, and that is
// told once.
func TestNetworkFileSystemThatComesLater(t *testing.T) {
	looks := 0
	later := func(string) (string, bool) { looks++; return "NFS", looks > 60 }
	times, why, err := told(t, func() (notifier, error) { return &scarce{left: 1000}, nil }, later)
	if !errors.Is(err, context.DeadlineExceeded) || len(why) != 1 || !strings.Contains(why[0], "NFS") {
		t.Errorf("it ended with %v, and polled for %q", err, why)
	}
	if n := len(times); n < 200 || n > 280 { // half an hour each
		t.Errorf("told %d times in an hour", n)
	}
}

// An error that is no lack of watches ends the watch.
func TestWatchThatBreaks(t *testing.T) {
	for _, breaks := range []func() (notifier, error){
		func() (notifier, error) { return nil, unix.ENOSYS },
		func() (notifier, error) {
			s := &scarce{left: 1000, errors: make(chan error, 1)}
			s.errors <- errors.New("no more")
			return s, nil
		},
	} {
		if _, _, err := told(t, breaks); err == nil || errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("it ended with %v", err)
		}
	}
}

func TestNetworkFileSystems(t *testing.T) {
	for _, path := range []string{"/proc", "/dev/null", "/none"} {
		if kind, ok := network(path); ok {
			t.Errorf("%s is taken for %s", path, kind)
		}
	}
	if _, ok := elsewhere[0x6969]; !ok {
		t.Error("NFS is not known")
	}
}
