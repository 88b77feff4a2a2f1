package cli

import (
	"strings"
	"testing"
	"time"

	purserv1 "github.com/purserd/purser/api/purser/v1"
)

var (
	layerA = "sha256:" + strings.Repeat("a", 64)
	layerB = "sha256:" + strings.Repeat("b", 64)
	layerC = "sha256:" + strings.Repeat("c", 64)
)

func TestLayersInAPipe(t *testing.T) {
	var out strings.Builder
	l := newLayers(&out)
	for _, p := range []*purserv1.LayerProgress{
		{Digest: layerA, Total: 4 << 20, State: "waiting"},
		{Digest: layerA, Offset: 1 << 20, Total: 4 << 20, State: "downloading"},
		{Digest: layerA, Offset: 2 << 20, Total: 4 << 20, State: "downloading"},
		{Digest: layerC, Offset: 3 << 20, Total: 4 << 20, State: "downloading", Resumed: 2 << 20},
		{Digest: layerB, Offset: 5, Total: 5, State: "done\x1b[2J"},
		{Digest: layerA, Offset: 4 << 20, Total: 4 << 20, State: "done"},
	} {
		l.update(p)
	}
	l.finish()
	want := "aaaaaaaaaaaa: waiting\naaaaaaaaaaaa: downloading 4.0 MiB\ncccccccccccc: downloading 4.0 MiB, from 2.0 MiB\nbbbbbbbbbbbb: done [2J\naaaaaaaaaaaa: done\n"
	if out.String() != want {
		t.Errorf("got\n%swant\n%s", out.String(), want)
	}
}

func TestLayersOnATerminal(t *testing.T) {
	var out strings.Builder
	now := time.Now()
	l := &layers{out: &out, now: func() time.Time { return now }, size: func() (int, int, error) { return 80, 3, nil }}
	l.update(&purserv1.LayerProgress{Digest: layerA, Total: 4 << 20, State: "waiting"})
	l.update(&purserv1.LayerProgress{Digest: layerA, Offset: 2 << 20, Total: 4 << 20, State: "downloading"})
	if want := "\x1b[1A\r\x1b[Jaaaaaaaaaaaa [" + strings.Repeat("=", 15) + strings.Repeat(" ", 15) + "] 2.0 MiB of 4.0 MiB\n"; !strings.HasSuffix(out.String(), want) {
		t.Errorf("got %q, want it to end with %q", out.String(), want)
	}
	before := out.Len()
	l.update(&purserv1.LayerProgress{Digest: layerA, Offset: 3 << 20, Total: 4 << 20, State: "downloading"})
	if out.Len() != before {
		t.Error("it was drawn again at once")
	}
	now = now.Add(time.Second)
	l.update(&purserv1.LayerProgress{Digest: layerA, Offset: 3 << 20, Total: 4 << 20, State: "downloading"})
	if out.Len() == before {
		t.Error("it was not drawn again")
	}
	// Of more layers than lines, those that are done go first.
	for _, digest := range []string{layerB, layerC} {
		l.update(&purserv1.LayerProgress{Digest: digest, Offset: 5, Total: 5, State: "done"})
	}
	drawn := out.String()[strings.LastIndex(out.String(), "\x1b[J"):]
	if strings.Count(drawn, "\n") != 2 || strings.Contains(drawn, "bbbb") || !strings.Contains(drawn, "aaaa") {
		t.Errorf("drew %q", drawn)
	}
	// A narrow terminal breaks no line.
	out.Reset()
	l.size = func() (int, int, error) { return 20, 24, nil }
	l.finish()
	for line := range strings.Lines(out.String()[strings.Index(out.String(), "\x1b[J")+3:]) {
		if len(strings.TrimRight(line, "\n")) >= 20 {
			t.Errorf("a line of %d: %q", len(line), line)
		}
	}
}
