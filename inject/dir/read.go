package dir

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

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
	// tries is how often a secret that changes all the time is tried to be read.
	tries = 10
	// maxBundle is the most bytes of a file with all keys: names and escapes take room.
	maxBundle = 4 << 20
)

// errAgain is wrapped by what may be right a moment later.
var errAgain = errors.New("it is read again a moment later")

// try reads the entry once. The error wraps errAgain when it was not left alone.
func (e entry) try(ctx context.Context, unless source.Revision) (source.Content, error) {
	seen, err := e.look()
	if err != nil {
		return source.Content{}, again(err)
	}
	if seen.revision() == unless {
		return source.Content{}, source.ErrUnchanged
	}
	if !seen.settled(time.Now()) {
		if err := sleep(ctx, settle); err != nil {
			return source.Content{}, err
		}
	}
	data, err := e.values(seen)
	// Looked at after the pause and the read: neither has seen a change.
	if now, lost := e.look(); lost != nil || !now.equal(seen) {
		return source.Content{}, fmt.Errorf("%s changes while it is read: %w", e.path, errAgain)
	}
	if err != nil {
		return source.Content{}, err
	}
	return source.Content{Revision: seen.revision(), Data: data}, nil
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

// values reads the files that were seen.
func (e entry) values(seen view) (map[string]inject.Value, error) {
	if e.form == bundle {
		return e.parsed(seen.files[0])
	}
	data := map[string]inject.Value{}
	for _, f := range seen.files {
		key := filepath.Base(f.path)
		if e.form == whole {
			key = keyOf(key)
		}
		if !store.ValidKey(key) {
			return nil, fmt.Errorf("%s: the file's name is no key: %s", f.path, keyRule)
		}
		content, err := readFile(f, store.MaxValue)
		if err != nil {
			return nil, err
		}
		data[key] = inject.NewValue(content)
		clear(content)
	}
	return data, nil
}

var keyRule = fmt.Sprintf("a key has 1 to %d letters, digits and _, and does not begin with a digit", store.MaxKey)

// parsed reads a file with all keys.
func (e entry) parsed(f file) (map[string]inject.Value, error) {
	content, err := readFile(f, maxBundle)
	if err != nil {
		return nil, err
	}
	defer clear(content)
	values, err := parse(f.path, content)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.path, err)
	}
	data := map[string]inject.Value{}
	for key, value := range values {
		data[key] = inject.NewValue(value)
		clear(value)
	}
	return data, f.check(data)
}

// check names the file and the key for what no secret can hold.
func (f file) check(data map[string]inject.Value) error {
	if len(data) == 0 {
		return fmt.Errorf("%s has no key", f.path)
	}
	for key, value := range data {
		if !store.ValidKey(key) {
			return fmt.Errorf("%s: one of its names is no key: %s", f.path, keyRule)
		}
		if value.Len() > store.MaxValue {
			return fmt.Errorf("%s: the value of %s has %d bytes, the limit is %d (1 MiB)", f.path, key, value.Len(), store.MaxValue)
		}
	}
	return nil
}

// readFile returns the bytes of a file that is as it was seen; the caller clears them.
func readFile(f file, limit int64) ([]byte, error) {
	// What is no regular file, a pipe above all, must not be waited for.
	opened, err := os.OpenFile(f.path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, again(err)
	}
	defer opened.Close()
	var stat unix.Stat_t
	if err := unix.Fstat(int(opened.Fd()), &stat); err != nil {
		return nil, fmt.Errorf("looking at %s: %w", f.path, err)
	}
	switch now := identify(&stat); {
	case now != f.id:
		return nil, fmt.Errorf("%s changes while it is read: %w", f.path, errAgain)
	case stat.Mode&unix.S_IFMT != unix.S_IFREG:
		return nil, fmt.Errorf("%s is no regular file", f.path)
	case stat.Size > limit:
		return nil, fmt.Errorf("%s has %d bytes, the limit is %d", f.path, stat.Size, limit)
	case beingWritten(int(opened.Fd())):
		return nil, fmt.Errorf("%s is open in another process that may be writing it: %w", f.path, errAgain)
	}
	// Large enough from the start: growing would leave a copy behind.
	content := bytes.NewBuffer(make([]byte, 0, stat.Size+bytes.MinRead))
	if _, err := content.ReadFrom(io.LimitReader(opened, stat.Size)); err != nil {
		clear(content.Bytes())
		return nil, fmt.Errorf("reading %s: %w", f.path, err)
	}
	return content.Bytes(), nil
}

// beingWritten says whether anybody has a file open to write to it. The kernel grants a
// read lease on no such file; where it grants none at all, that is not known. It is
// given back at once, since who opens the file to write would wait for it.
func beingWritten(fd int) bool {
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_SETLEASE, unix.F_RDLCK); err != nil {
		return errors.Is(err, unix.EAGAIN)
	}
	_, _ = unix.FcntlInt(uintptr(fd), unix.F_SETLEASE, unix.F_UNLCK)
	return false
}
