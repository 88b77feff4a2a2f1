package loghelper

import (
	"bytes"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"github.com/purserd/purser/runtime/logs"
)

func TestStateIsOneWord(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		draw := func(label string, most int) int { return rapid.IntRange(0, most).Draw(t, label) }
		s := state{phase: phase(draw("phase", 2)), stream: draw("stream", streams-1), n: draw("n", areaSize)}
		for i := range s.held {
			s.held[i] = held{slot: draw("slot", 1), n: draw("held", slotSize), shown: rapid.Bool().Draw(t, "shown")}
		}
		if got := unpack(s.pack()); got != s {
			t.Errorf("%+v became %+v", s, got)
		}
	})
}

func open(t *testing.T, path string) *journal {
	t.Helper()
	j, err := openJournal(path, false)
	if err != nil {
		t.Fatal(err)
	}
	return j
}

// Wherever a helper is killed, the next one knows what has not been stored.
func TestJournalAfterEachStep(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal")
	j := open(t, path)
	// killed is what the next one finds.
	killed := func(want string, again *rewind, pending string, shown bool) {
		t.Helper()
		other := open(t, path)
		defer other.close()
		stream, data, at := other.unfinished()
		if string(data) != want || len(data) > 0 && stream != 1 {
			t.Errorf("unfinished is %q of %d, want %q", data, stream, want)
		}
		if (at == nil) != (again == nil) || at != nil && (at.to != again.to || !at.when.Equal(again.when)) {
			t.Errorf("rewinds to %v, want %v", at, again)
		}
		if got, is := other.pending(1); string(got) != pending || is != shown {
			t.Errorf("held back is %q, shown %v", got, is)
		}
	}
	killed("", nil, "", false)
	data, err := j.read(1, 9, func(to []byte) (int, error) {
		killed("", nil, "", false) // about to read
		n := copy(to, "some data")
		killed("some data", nil, "", false) // read, and nobody has been told how much
		return n, nil
	})
	if err != nil || string(data) != "some data" {
		t.Fatalf("%q, %v", data, err)
	}
	killed("some data", nil, "", false)
	staged := j.stage(1, []byte("data"), true)
	killed("some data", nil, "", false)
	again := rewind{to: logs.Position{Segment: 3, Offset: 1 << 33}, when: time.Now()}
	j.store(1, len(data), again.to, again.when)
	killed("some data", &again, "", false)
	j.commit(1, staged)
	killed("", nil, "data", true)
	for _, end := range []error{nil, unix.EAGAIN} {
		if data, got := j.read(0, 0, func([]byte) (int, error) { return 0, end }); len(data) != 0 || got != end {
			t.Errorf("%q, %v", data, got)
		}
		killed("", nil, "data", true)
	}
	j.commit(1, j.stage(1, bytes.Repeat([]byte("x"), slotSize+1), false))
	killed("", nil, "", false) // what has no room
	j.close()
}

// A journal of another layout is begun anew.
func TestJournalOfAnotherLayout(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal")
	j := open(t, path)
	j.commit(0, j.stage(0, []byte("old"), false))
	j.setWord(magicAt, magic+1)
	j.close()
	j = open(t, path)
	defer j.close()
	if data, _ := j.pending(0); len(data) != 0 || !j.gap(0) || !j.gap(1) {
		t.Errorf("held back is %q, gaps %v %v", data, j.gap(0), j.gap(1))
	}
}

// What has been read before is not known of a stream that is taken up in its middle.
func TestJournalOfAStreamsMiddle(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal")
	j, err := openJournal(path, true)
	if err != nil {
		t.Fatal(err)
	}
	if !j.gap(0) || !j.gap(1) {
		t.Error("there is no gap")
	}
	j.setGap(1, false)
	j.close()
	if j, err = openJournal(path, true); err != nil {
		t.Fatal(err)
	}
	defer j.close()
	if !j.gap(0) || j.gap(1) {
		t.Error("the next helper does not know what the one before did")
	}
}
