package agent

import (
	"errors"
	"io"
	"strings"
	"sync"
	"unicode"

	"github.com/purserd/purser/inject/redact"
	"github.com/purserd/purser/runtime/loghelper"
)

const (
	// maxAnswer bounds what is shown of what a command or a server said.
	maxAnswer = 4 << 10
	// maxHeard bounds what is kept of it until it is known what must not be shown: of more
	// than that there may be nothing left that could be.
	maxHeard = 64 << 10
)

// answer keeps the beginning of what is said, for an event or an error, in which the values
// of secrets are replaced. What they are is asked at the end: while a command runs, its
// container may be given others.
type answer struct {
	mu    sync.Mutex
	parts []part
	size  int
	more  bool
}

// part is what came out of one stream before something came out of the other.
type part struct {
	stderr bool
	text   []byte
}

// stdout and stderr are what takes the two streams of output.
func (s *answer) stdout() io.Writer { return speaker{s, false} }
func (s *answer) stderr() io.Writer { return speaker{s, true} }

// speaker adds one stream to an answer.
type speaker struct {
	*answer
	isStderr bool
}

func (w speaker) Write(data []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	take := min(len(data), maxHeard-w.size)
	w.more = w.more || take < len(data)
	if take == 0 {
		return len(data), nil
	}
	if n := len(w.parts); n == 0 || w.parts[n-1].stderr != w.isStderr {
		w.parts = append(w.parts, part{stderr: w.isStderr})
	}
	last := &w.parts[len(w.parts)-1]
	last.text = append(last.text, data[:take]...)
	w.size += take
	return len(data), nil
}

// with ends the answer and makes an error of it and of what has happened, on one line, in
// which the matcher has replaced what it finds; count is told of that.
func (s *answer) with(happened string, m *redact.Matcher, count func(uint64)) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	kept := &head{more: s.more}
	stdout, stderr := redact.NewWriter(kept, m, loghelper.Silence, count), redact.NewWriter(kept, m, loghelper.Silence, count)
	for _, p := range s.parts {
		to := stdout
		if p.stderr {
			to = stderr
		}
		_, _ = to.Write(p.text)
		clear(p.text)
	}
	stdout.Close()
	stderr.Close()
	happened = m.Text(happened)
	if said := kept.line(); said != "" {
		happened += ": " + said
	}
	return errors.New(happened)
}

// head keeps the beginning of what is written to it.
type head struct {
	mu   sync.Mutex
	text []byte
	more bool
}

func (h *head) Write(data []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	take := min(len(data), maxAnswer-len(h.text))
	h.text = append(h.text, data[:take]...)
	h.more = h.more || take < len(data)
	return len(data), nil
}

// line is what was kept, on one line and without what a terminal would obey.
func (h *head) line() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	printable := func(c rune) rune {
		if !unicode.IsPrint(c) {
			return ' '
		}
		return c
	}
	text := strings.TrimSpace(strings.Map(printable, strings.ToValidUTF8(string(h.text), "\uFFFD")))
	if h.more {
		text += "…"
	}
	return text
}
