package audit_test

import (
	"bytes"
	"errors"
	"os"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/purserd/purser/inject/audit"
)

// A crash in the middle of a write, at any byte, with the head anywhere before it,
// costs what was not written and raises no alarm.
func TestCrashAtEveryByte(t *testing.T) {
	p := newPlace(t)
	l := p.opened(t)
	appendAll(t, l, 2)
	_, err := l.Commit(set(1)) // record 4
	must(t, err)
	sealed := p.copied(t)
	appendAll(t, l, 1) // behind the head
	file := p.files(t)[0]
	data, start := read(t, file), len(read(t, sealed.files(t)[0]))
	ends := 0
	for cut := start; cut <= len(data); cut++ {
		if cut > start && data[cut-1] == '\n' {
			ends++
		}
		c := sealed.copied(t)
		write(t, c.files(t)[0], data[:cut])
		got := wantWhole(t, c)
		if len(got) != 4+ends+1 || got[len(got)-1] != uint64(4+ends+1) {
			t.Fatalf("cut at %d of %d: records %v", cut, len(data), got)
		}
		if cut > start && data[cut-1] != '\n' {
			wantNote(t, c)
		}
	}
	// What the head has is not cut off in silence.
	for cut := start - 300; cut < start; cut += 7 {
		c := sealed.copied(t)
		write(t, c.files(t)[0], data[:cut])
		if reopenAndVerify(t, c).OK() {
			t.Fatalf("cut at %d of %d, which the head has: nothing was found", cut, start)
		}
	}
}

// wantNote looks for the note of a cut in the record of an opening, and for the bytes
// to be gone.
func wantNote(t *testing.T, p *place) {
	t.Helper()
	data := read(t, p.files(t)[0])
	if !bytes.Contains(data, []byte(`"action":"open","outcome":"done","why":"cut off `)) {
		t.Fatalf("no note of the cut in %s", data)
	}
}

// A power cut leaves zeros where a file had grown.
func TestZerosAtTheEnd(t *testing.T) {
	p := whole(t, 5)
	file := p.files(t)[0]
	write(t, file, append(read(t, file), make([]byte, 100000)...))
	wantWhole(t, p)
	wantNote(t, p)
}

// A crash between any two steps of rotations and flushes raises no alarm, and loses
// nothing that was sealed.
func TestCrashBetweenSteps(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		p := newPlace(t)
		p.options.FileSize = int64(rapid.IntRange(300, 2000).Draw(rt, "file size"))
		p.options.Files = rapid.IntRange(1, 5).Draw(rt, "files")
		l := p.open(t)
		written, sealed := uint64(1), uint64(0)
		for range rapid.IntRange(1, 40).Draw(rt, "steps") {
			switch rapid.IntRange(0, 3).Draw(rt, "step") {
			case 0:
				_, err := l.Commit(set(1))
				must(t, err)
				written++
				sealed = written
			case 1: // the head cannot be sealed, as if the crash came before it
				p.heads.fail(errors.New("no"))
				if _, err := l.Commit(set(1)); err == nil {
					rt.Fatal("a commit without a head")
				}
				written++
				p.heads.fail(nil)
			default:
				appendAll(t, l, 1)
				written++
			}
		}
		crashed := p.copied(t)
		if files := crashed.files(t); rapid.Bool().Draw(rt, "torn") {
			last := files[len(files)-1]
			write(t, last, append(read(t, last), `{"seq":`...))
		}
		if rapid.Bool().Draw(rt, "made a file") {
			write(t, crashed.dir+"/audit-000000009999.jsonl", nil)
		}
		got := wantWhole(t, crashed)
		if newest := got[len(got)-1]; newest != written+1 {
			rt.Fatalf("records up to %d, %d of them sealed, and after the crash %v", written, sealed, got)
		}
		must(t, l.Close())
	})
}

// A power cut may lose what was not synced, in any file behind the head.
func TestLosingWhatIsNotSealed(t *testing.T) {
	p := newPlace(t)
	p.options.FileSize = 1000
	l := p.open(t)
	_, err := l.Commit(set(1))
	must(t, err)
	crashed := p.copied(t)
	must(t, l.Close())
	if got := wantWhole(t, crashed); !slices.Equal(got, []uint64{1, 2, 3}) {
		t.Errorf("got %v", got)
	}
}

// An older head, as of a database that was put back, finds the newer records.
func TestOlderHead(t *testing.T) {
	p := newPlace(t)
	p.options.FileSize = 1000
	l := p.open(t)
	_, err := l.Commit(set(1))
	must(t, err)
	old, _ := p.heads.AuditHead()
	appendAll(t, l, 10)
	must(t, l.Close())
	must(t, p.heads.SetAuditHead(old))
	if got := wantWhole(t, p); len(got) != 13 {
		t.Errorf("got %v", got)
	}
}

func TestNoDirectory(t *testing.T) {
	p := newPlace(t)
	write(t, p.dir, nil)
	if _, err := audit.Open(p.dir, p.keys, p.heads, p.options); err == nil {
		t.Error("a file was taken for the directory")
	}
	p.dir += "/deeper"
	if _, err := audit.Open(p.dir, p.keys, p.heads, p.options); !errors.Is(err, os.ErrNotExist) && err == nil {
		t.Error("a directory without its parent was made")
	}
}
