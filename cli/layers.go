package cli

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"golang.org/x/term"

	purserv1 "github.com/purserd/purser/api/purser/v1"
)

// layers shows how far the layers of an image have come: a bar for each on a
// terminal, a line for each step anywhere else.
type layers struct {
	out io.Writer
	// size is that of the terminal; nil when it is none.
	size  func() (width, height int, err error)
	now   func() time.Time
	all   []*purserv1.LayerProgress
	drawn time.Time
	// lines are those of the last drawing.
	lines int
}

func newLayers(w io.Writer) *layers {
	l := &layers{out: w, now: time.Now}
	if file, ok := terminalFile(w); ok {
		l.size = func() (int, int, error) { return term.GetSize(int(file.Fd())) }
	}
	return l
}

// update takes in a layer that has come further.
func (l *layers) update(layer *purserv1.LayerProgress) {
	i := slices.IndexFunc(l.all, func(k *purserv1.LayerProgress) bool { return k.GetDigest() == layer.GetDigest() })
	known := i >= 0
	stepped := !known || l.all[i].GetState() != layer.GetState()
	if known {
		l.all[i] = layer
	} else {
		l.all = append(l.all, layer)
	}
	switch {
	case l.size == nil && stepped:
		fmt.Fprintln(l.out, l.line(layer))
	case l.size != nil && (stepped || l.now().Sub(l.drawn) >= redrawPause):
		l.draw()
	}
}

// line tells of a step.
func (l *layers) line(p *purserv1.LayerProgress) string {
	text := fmt.Sprintf("%s: %s", shortDigest(p.GetDigest()), printable(p.GetState()))
	if p.GetState() == "downloading" {
		text += " " + bytesText(p.GetTotal())
	}
	if p.GetState() == "downloading" && p.GetResumed() > 0 {
		text += ", from " + bytesText(p.GetResumed())
	}
	return text
}

// draw draws all bars over those that were drawn last. Of more layers than the
// terminal has lines, those that are done are left out, and then the first.
func (l *layers) draw() {
	width, height, err := l.size()
	if err != nil || width <= 0 {
		width, height = 80, 24
	}
	shown := slices.Clone(l.all)
	for len(shown) > max(1, height-1) {
		i := slices.IndexFunc(shown, func(p *purserv1.LayerProgress) bool { return p.GetState() == "done" })
		shown = slices.Delete(shown, max(0, i), max(0, i)+1)
	}
	var text strings.Builder
	if l.lines > 0 {
		fmt.Fprintf(&text, "\x1b[%dA", l.lines)
	}
	text.WriteString("\r\x1b[J")
	for _, p := range shown {
		line := l.bar(p)
		fmt.Fprintln(&text, line[:min(len(line), width-1)])
	}
	io.WriteString(l.out, text.String())
	l.drawn, l.lines = l.now(), len(shown)
}

// bar is a layer in one line of plain ASCII.
func (l *layers) bar(p *purserv1.LayerProgress) string {
	done := p.GetState()
	if done == "downloading" {
		done = fmt.Sprintf("%s of %s", bytesText(p.GetOffset()), bytesText(p.GetTotal()))
	}
	return fmt.Sprintf("%s %s %s", shortDigest(p.GetDigest()), bar(p.GetOffset(), p.GetTotal()), printable(done))
}

// finish draws the last state, which stays.
func (l *layers) finish() {
	if l.size != nil && len(l.all) > 0 {
		l.draw()
	}
}

// shortDigest is what tells one layer from another.
func shortDigest(digest string) string {
	_, hex, ok := strings.Cut(digest, ":")
	if !ok {
		hex = digest
	}
	return printable(hex[:min(len(hex), 12)])
}
