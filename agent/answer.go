package agent

import (
	"errors"
	"strings"
	"sync"
	"unicode"

	"github.com/purserd/purser/inject/redact"
)

// maxAnswer bounds what is shown of what a command or a server said.
const maxAnswer = 4 << 10

// answer keeps the beginning of what is said, with the values of secrets replaced, for
// an event or an error.
type answer struct {
	stdout, stderr *redact.Writer
	matcher        *redact.Matcher
	kept           head
}

func (a *Agent) newAnswer(m *redact.Matcher) *answer {
	s := &answer{matcher: m}
	s.stdout, s.stderr = a.redacted(&s.kept, m), a.redacted(&s.kept, m)
	return s
}

// with ends the answer and makes an error of it and of what has happened, on one line.
func (s *answer) with(happened string) error {
	s.stdout.Close()
	s.stderr.Close()
	happened = s.matcher.Text(happened)
	if said := s.kept.line(); said != "" {
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
