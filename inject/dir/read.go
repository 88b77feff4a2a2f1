package dir

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/purserd/purser/inject"
	"github.com/purserd/purser/inject/source"
	"github.com/purserd/purser/inject/store"
)

const (
	// settle is for how long files must have been as they are before they are read: who
	// writes several, or one in several steps, is given the time. It is also longer than
	// the steps of a file system's clock, so that what is written after a read shows in a
	// file's times.
	settle = 50 * time.Millisecond
	// tries is how often a secret that changes all the time is tried to be read, which
	// takes about a second. Then the last glimpse that was had of it has to do, if any was.
	tries = 10
	// maxBundle is the most bytes of a file with all keys: names and escapes take room.
	maxBundle = 4 << 20
)

// errAgain is wrapped by what may be right a moment later.
var errAgain = errors.New("it is read again a moment later")

// restless is the error for what changes between one look and the next. It is the same
// text whatever it is that was noticed, lest each try is another trouble to tell of.
func (e entry) restless() error {
	do := "write another file and rename it over this one"
	if e.form == directory {
		do = "write another directory and rename it, or lead a link " + dataLink + " to it"
	}
	return fmt.Errorf("%s is written all the time, or is open in a process that may be writing it: %s: %w", e.path, do, errAgain)
}

// glimpse is what a secret held at one moment, and for a moment after that.
type glimpse struct {
	source.Content
	// outdated: others have taken the place of its files meanwhile.
	outdated bool
}

// try reads the entry once. The error wraps errAgain when it was not left alone.
func (e entry) try(ctx context.Context, unless source.Revision) (glimpse, error) {
	seen, err := e.look()
	if err != nil {
		return glimpse{}, again(err)
	}
	if seen.revision() == unless {
		return glimpse{}, source.ErrUnchanged
	}
	if e.form == directory {
		return e.tryDirectory(ctx, seen)
	}
	return e.tryFile(ctx, seen)
}

// again marks the error for a file that is gone: it was there just now.
func again(err error) error {
	if isAbsent(err) {
		return fmt.Errorf("%w; %w", err, errAgain)
	}
	return err
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// pause lets what is seen come to rest, if it has not yet.
func (e entry) pause(ctx context.Context, seen view) error {
	if seen.settled(time.Now()) {
		return nil
	}
	return e.dir.wait(ctx, settle)
}

// tryDirectory reads the files of a directory, which have to belong together: neither the
// pause nor the read has seen a change.
func (e entry) tryDirectory(ctx context.Context, seen view) (glimpse, error) {
	if err := e.pause(ctx, seen); err != nil {
		return glimpse{}, err
	}
	data, err := e.keys(seen)
	if now, lost := e.look(); lost != nil || !now.equal(seen) {
		return glimpse{}, e.restless()
	}
	return glimpse{Content: source.Content{Revision: seen.revision(), Data: data}}, err
}

// keys reads a file for each key.
func (e entry) keys(seen view) (map[string]inject.Value, error) {
	if err := seen.fits(e.path); err != nil {
		return nil, err
	}
	data, files := map[string]inject.Value{}, map[string]string{}
	for _, f := range seen.files {
		key, ok := e.dir.naming.Key(filepath.Base(f.path))
		if !ok {
			return nil, fmt.Errorf("%q: the file's name can be no key: %s", f.path, keyRule)
		}
		if other, twice := files[key]; twice {
			return nil, fmt.Errorf("%s and %s are one key: give one of them another with rename", other, f.path)
		}
		value, err := e.value(f)
		if err != nil {
			return nil, err
		}
		data[key], files[key] = value, f.path
	}
	return data, nil
}

func (e entry) value(f file) (inject.Value, error) {
	h, err := e.hold(f)
	if err != nil {
		return inject.Value{}, err
	}
	defer h.Close()
	content, err := h.read(store.MaxValue)
	defer clear(content)
	return inject.NewValue(content), err
}

// tryFile reads a file that is a whole secret. It is the file that is opened at first that
// has to rest, and not what its name leads to: one that others take the place of all the
// time is whole all the same.
func (e entry) tryFile(ctx context.Context, seen view) (glimpse, error) {
	h, err := e.hold(seen.files[0])
	if err != nil {
		return glimpse{}, err
	}
	defer h.Close()
	if err := e.pause(ctx, seen); err != nil {
		return glimpse{}, err
	}
	data, err := e.contentOf(h)
	now, lost := e.look()
	outdated := lost != nil || !now.equal(seen)
	if err == nil && !h.rested || err != nil && outdated {
		err = e.restless()
	}
	return glimpse{Content: source.Content{Revision: seen.revision(), Data: data}, outdated: outdated}, err
}

// contentOf is what a file with all keys, or the only one, holds.
func (e entry) contentOf(h *held) (map[string]inject.Value, error) {
	if e.form == bundle {
		return e.parsed(h)
	}
	key, ok := e.dir.naming.Key(filepath.Base(h.path))
	if !ok {
		return nil, fmt.Errorf("%q: the file's name can be no key: %s", h.path, keyRule)
	}
	content, err := h.read(store.MaxValue)
	defer clear(content)
	return map[string]inject.Value{key: inject.NewValue(content)}, err
}

// parsed reads a file with all keys.
func (e entry) parsed(h *held) (map[string]inject.Value, error) {
	content, err := h.read(maxBundle)
	if err != nil {
		return nil, err
	}
	defer clear(content)
	values, err := parse(h.path, content, e.dir.naming.Names)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", h.path, err)
	}
	data := map[string]inject.Value{}
	for key, value := range values {
		data[key] = inject.NewValue(value)
		clear(value)
	}
	return data, h.check(data)
}

// check names the file and the key for what no secret can hold.
func (f file) check(data map[string]inject.Value) error {
	if len(data) == 0 {
		return fmt.Errorf("%s has no key", f.path)
	}
	for key, value := range data {
		if value.Len() > store.MaxValue {
			return fmt.Errorf("%s: the value of %s has %d bytes, the limit is %d (1 MiB)", f.path, key, value.Len(), store.MaxValue)
		}
	}
	return nil
}
