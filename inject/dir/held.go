package dir

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// held is a file that is open to be read, whatever its name leads to meanwhile.
type held struct {
	file
	*os.File
	restless func() error
	opened   unix.Stat_t
	// rested: it was the same when it was read as when it was opened.
	rested bool
}

// hold opens a file that is as it was seen.
func (e entry) hold(f file) (*held, error) {
	// To open a device can do something, and a socket cannot be opened.
	if f.mode&unix.S_IFMT != unix.S_IFREG {
		return nil, fmt.Errorf("%s is no regular file", f.path)
	}
	// What has become a pipe meanwhile must not be waited for.
	opened, err := os.OpenFile(f.path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, again(err)
	}
	h := &held{file: f, File: opened, restless: e.restless}
	h.opened, err = h.stat()
	if err == nil && identify(&h.opened) != f.id {
		err = e.restless()
	}
	if err != nil {
		opened.Close()
		return nil, err
	}
	return h, nil
}

func (h *held) stat() (s unix.Stat_t, err error) {
	if err = unix.Fstat(int(h.Fd()), &s); err != nil {
		err = fmt.Errorf("looking at %s: %w", h.path, err)
	}
	return s, err
}

// read returns what the file holds at one moment; the caller clears it.
func (h *held) read(limit int64) ([]byte, error) {
	before, err := h.stat()
	h.rested = untouched(h.opened, before)
	switch {
	case err != nil:
		return nil, err
	case before.Size > limit:
		return nil, fmt.Errorf("%s has %d bytes, the limit is %d", h.path, before.Size, limit)
	case beingWritten(int(h.Fd())):
		return nil, h.restless()
	}
	// Large enough from the start: growing would leave a copy behind.
	content := bytes.NewBuffer(make([]byte, 0, before.Size+bytes.MinRead))
	_, err = content.ReadFrom(io.LimitReader(h.File, before.Size))
	if err != nil {
		err = fmt.Errorf("reading %s: %w", h.path, err)
	} else if after, lost := h.stat(); lost != nil || !untouched(before, after) {
		err = h.restless()
	}
	if err != nil {
		clear(content.Bytes())
		return nil, err
	}
	return content.Bytes(), nil
}

// untouched says whether nobody has written to a file in between. Its ctime changes, too,
// when another takes its place, which leaves it with fewer names.
func untouched(before, after unix.Stat_t) bool {
	return before.Size == after.Size && before.Mtim == after.Mtim && (before.Ctim == after.Ctim || after.Nlink < before.Nlink)
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
