package cli

import (
	"errors"
	"io"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
	"golang.org/x/term"

	purserv1 "github.com/purserd/purser/api/purser/v1"
)

// terminal is the user's own, on which a function's is shown.
type terminal struct {
	file *os.File
	// keys leave it.
	keys []byte

	mu     sync.Mutex
	before *term.State // nil unless the function has the keys
	left   bool        // it never gets them again
}

// openTerminal takes the terminal on standard input.
func (s *session) openTerminal(keys []byte) (*terminal, error) {
	file, ok := terminalFile(s.in)
	if !ok {
		return nil, hint(errors.New("-t needs a terminal, and standard input is none"),
			"leave -t out: -i alone passes standard input on")
	}
	return &terminal{file: file, keys: keys}, nil
}

// onTerminal tells whether standard input is a terminal.
func (s *session) onTerminal() bool {
	_, ok := terminalFile(s.in)
	return ok
}

// size is that of the window; nil when unknown.
func (t *terminal) size() *purserv1.TerminalSize {
	columns, rows, err := term.GetSize(int(t.file.Fd()))
	if err != nil || columns <= 0 || rows <= 0 {
		return nil
	}
	return &purserv1.TerminalSize{Rows: uint32(rows), Columns: uint32(columns)}
}

// passSizes hands on the window's size whenever it changes, until stop is called.
func (t *terminal) passSizes(pass func(*purserv1.TerminalSize)) (stop func()) {
	changed := make(chan os.Signal, 1)
	done := make(chan struct{})
	signal.Notify(changed, syscall.SIGWINCH)
	go func() {
		defer t.onPanic()
		for {
			select {
			case <-changed:
				if size := t.size(); size != nil {
					pass(size)
				}
			case <-done:
				return
			}
		}
	}()
	return func() {
		signal.Stop(changed)
		close(done)
	}
}

// hush makes the terminal show what comes as it is, and not what is typed, until
// restore is called. The keys that make signals still do. It may be called on nil.
func (t *terminal) hush() error {
	if t == nil {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.makeRaw(); err != nil || t.left {
		return err
	}
	modes, err := unix.IoctlGetTermios(int(t.file.Fd()), unix.TCGETS)
	if err != nil {
		return err
	}
	modes.Lflag |= unix.ISIG
	return unix.IoctlSetTermios(int(t.file.Fd()), unix.TCSETS, modes)
}

// giveKeys has every key, those too that make signals, be read as it is, until
// restore is called. It may be called again.
func (t *terminal) giveKeys() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.makeRaw()
}

func (t *terminal) makeRaw() error {
	if t.left {
		return nil
	}
	before, err := term.MakeRaw(int(t.file.Fd()))
	if t.before == nil {
		t.before = before
	}
	return err
}

// restore makes the terminal what it was, for good. It may be called again, and
// on nil.
func (t *terminal) restore() {
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.left = true
	if t.before != nil {
		_ = term.Restore(int(t.file.Fd()), t.before)
		t.before = nil
	}
}

// onPanic, deferred in a goroutine, restores the terminal before a panic ends the
// program.
func (t *terminal) onPanic() {
	if p := recover(); p != nil {
		t.restore()
		panic(p)
	}
}

// input is what is typed, up to the keys that leave.
func (t *terminal) input() io.Reader {
	return &detachReader{from: t.file, keys: t.keys}
}
