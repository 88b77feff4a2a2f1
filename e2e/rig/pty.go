package rig

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Terminal is a terminal that a test sits at: what programs on it write is kept.
type Terminal struct {
	// Line is the programs' side.
	Line *os.File

	t     testing.TB
	user  *os.File
	mu    sync.Mutex
	shown strings.Builder
}

// OpenTerminal makes a terminal of a size. It hangs up with the test.
func OpenTerminal(t testing.TB, rows, columns uint16) *Terminal {
	t.Helper()
	fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Fatalf("opening a terminal: %v", err)
	}
	user := os.NewFile(uintptr(fd), "/dev/ptmx") // which knows how to wait
	t.Cleanup(func() { user.Close() })
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatalf("unlocking a terminal: %v", err)
	}
	number, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatalf("asking for a terminal's number: %v", err)
	}
	line, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatalf("opening a terminal's line: %v", err)
	}
	t.Cleanup(func() { line.Close() })
	term := &Terminal{Line: line, t: t, user: user}
	term.Resize(rows, columns)
	go term.read()
	return term
}

func (term *Terminal) read() {
	buffer := make([]byte, 4096)
	for {
		n, err := term.user.Read(buffer)
		term.mu.Lock()
		term.shown.Write(buffer[:n])
		term.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// Shown is all that was written to the terminal.
func (term *Terminal) Shown() string {
	term.mu.Lock()
	defer term.mu.Unlock()
	return term.shown.String()
}

// Type types keys.
func (term *Terminal) Type(keys string) {
	term.t.Helper()
	if _, err := term.user.WriteString(keys); err != nil {
		term.t.Fatalf("typing %q: %v", keys, err)
	}
}

// Await waits until a text is shown, as a whole and as often as it says.
func (term *Terminal) Await(text string, times int) {
	term.t.Helper()
	if !ComesTrue(30*time.Second, func() bool { return strings.Count(term.Shown(), text) >= times }) {
		term.t.Fatalf("%q is not shown %d times: %q", text, times, term.Shown())
	}
}

// Resize changes the size of the window.
func (term *Terminal) Resize(rows, columns uint16) {
	term.t.Helper()
	size := &unix.Winsize{Row: rows, Col: columns}
	if err := unix.IoctlSetWinsize(int(term.Line.Fd()), unix.TIOCSWINSZ, size); err != nil {
		term.t.Fatalf("resizing a terminal: %v", err)
	}
}

// Modes are the terminal's settings.
func (term *Terminal) Modes() unix.Termios {
	term.t.Helper()
	modes, err := unix.IoctlGetTermios(int(term.Line.Fd()), unix.TCGETS)
	if err != nil {
		term.t.Fatalf("asking for a terminal's modes: %v", err)
	}
	return *modes
}

// HangUp closes the window.
func (term *Terminal) HangUp() {
	term.user.Close()
	term.Line.Close()
}
