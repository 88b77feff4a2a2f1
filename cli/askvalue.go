package cli

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

// maxTyped is how long a line a terminal takes; it drops what is typed beyond.
const maxTyped = 4095

// typed is what was read from a terminal.
type typed struct {
	line []byte
	err  error
}

// readInput reads the value of a key from standard input: all of it, or a line
// that is asked for on a terminal and not shown.
func (s *session) readInput(key string) ([]byte, error) {
	if file, ok := terminalFile(s.in); ok {
		return s.askValue(file, key)
	}
	return readStdinValue(s.in)
}

func (s *session) askValue(file *os.File, key string) ([]byte, error) {
	before, err := hideKeys(int(file.Fd()))
	if err != nil {
		return nil, fmt.Errorf("hiding what is typed: %w", err)
	}
	defer fmt.Fprintln(s.err)
	defer func() { _ = term.Restore(int(file.Fd()), before) }()
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, passed...)
	defer signal.Stop(signals)
	fmt.Fprintf(s.err, "value of %s: ", key)
	read := async(func() typed {
		line := make([]byte, maxTyped+1) // a terminal gives one line at a time
		n, err := file.Read(line)
		return typed{line[:n], err}
	})
	select {
	case got := <-signals:
		return nil, &exitError{code: exitSignalled + int(got.(syscall.Signal))}
	case got := <-read:
		return got.value()
	}
}

func (t typed) value() ([]byte, error) {
	value := bytes.TrimSuffix(t.line, []byte("\n"))
	switch {
	case t.err != nil && !errors.Is(t.err, io.EOF):
		return nil, t.err
	case len(value) == 0:
		return nil, errors.New("nothing was typed")
	case len(value) >= maxTyped:
		return nil, errors.New("too long to be typed; give it by a pipe, or as K=@FILE")
	}
	return value, nil
}

// hideKeys has a terminal not show what is typed, and returns what it was.
func hideKeys(fd int) (before *term.State, err error) {
	if before, err = term.GetState(fd); err != nil {
		return nil, err
	}
	modes, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return nil, err
	}
	modes.Lflag &^= unix.ECHO
	modes.Lflag |= unix.ICANON | unix.ISIG
	modes.Iflag |= unix.ICRNL
	return before, unix.IoctlSetTermios(fd, unix.TCSETS, modes)
}
