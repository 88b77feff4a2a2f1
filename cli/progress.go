package cli

import (
	"fmt"
	"io"
	"os"
	"time"
)

// redrawPause is what is between two drawings at least.
const redrawPause = 100 * time.Millisecond

// progress counts bytes and draws a bar, on a terminal alone: elsewhere it
// stays silent.
type progress struct {
	out   io.Writer // nil when not drawing
	total int64
	now   func() time.Time

	done  int64
	drawn time.Time
}

func newProgress(w io.Writer, total int64, now func() time.Time) *progress {
	p := &progress{total: total, now: now}
	if _, ok := terminalFile(w); ok && os.Getenv("TERM") != "dumb" {
		p.out = w
	}
	return p
}

func (p *progress) Write(data []byte) (int, error) {
	p.done += int64(len(data))
	if now := p.now(); p.out != nil && now.Sub(p.drawn) >= redrawPause {
		p.drawn = now
		fmt.Fprintf(p.out, "\r%s\x1b[K", p.text())
	}
	return len(data), nil
}

// finish wipes the bar.
func (p *progress) finish() {
	if p.out != nil {
		fmt.Fprint(p.out, "\r\x1b[K")
	}
}

func (p *progress) text() string {
	if p.total <= 0 {
		return bytesText(uint64(p.done))
	}
	return fmt.Sprintf("%s %s of %s", bar(uint64(p.done), uint64(p.total)), bytesText(uint64(p.done)), bytesText(uint64(p.total)))
}
