package logs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"github.com/purserd/purser/e2e/rig"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func open(t *testing.T) *Store {
	t.Helper()
	s, err := Open(filepath.Join(t.TempDir(), "logs"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func writer(t *testing.T, s *Store, instance string) *Writer {
	t.Helper()
	w, err := s.Writer(instance, About{}, Limits{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close() })
	return w
}

func write(t *testing.T, w *Writer, stream Stream, data string) {
	t.Helper()
	if err := w.Write(time.Now(), stream, []byte(data)); err != nil {
		t.Fatal(err)
	}
}

// read returns the data of all entries, joined.
func read(t *testing.T, s *Store, instance string, o ReadOptions) string {
	t.Helper()
	var all strings.Builder
	for e, err := range s.Read(t.Context(), instance, o) {
		if err != nil {
			t.Fatal(err)
		}
		all.Write(e.Data)
	}
	return all.String()
}

func TestFormat(t *testing.T) {
	at := time.Date(2016, 10, 6, 0, 17, 9, 669794202, time.UTC)
	got := string(appendRecords(nil, at, Stdout, []byte("one\n\ntwo\r\nthree")))
	want := `2016-10-06T00:17:09.669794202Z stdout F one
2016-10-06T00:17:09.669794202Z stdout F 
2016-10-06T00:17:09.669794202Z stdout F two` + "\r" + `
2016-10-06T00:17:09.669794202Z stdout P three
`
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestEveryByteComesBack(t *testing.T) {
	s := open(t)
	n := 0
	rapid.Check(t, func(t *rapid.T) {
		n++
		instance := fmt.Sprint("i", n)
		w, err := s.Writer(instance, About{}, Limits{})
		if err != nil {
			t.Fatal(err)
		}
		want := map[Stream][]byte{}
		for range rapid.IntRange(0, 20).Draw(t, "writes") {
			stream := rapid.SampledFrom([]Stream{Stdout, Stderr}).Draw(t, "stream")
			data := []byte(rapid.StringMatching(`(?s)[\x00\n a-cFP]{0,40}`).Draw(t, "data"))
			if rapid.IntRange(0, 19).Draw(t, "long") == 0 {
				data = bytes.Repeat([]byte("x"), maxData+17)
			}
			want[stream] = append(want[stream], data...)
			if err := w.Write(time.Now(), stream, data); err != nil {
				t.Fatal(err)
			}
		}
		w.Close()
		got := map[Stream][]byte{}
		for e, err := range s.Read(context.Background(), instance, ReadOptions{Tail: -1}) {
			if err != nil {
				t.Fatal(err)
			}
			got[e.Stream] = append(got[e.Stream], e.Data...)
		}
		for _, stream := range []Stream{Stdout, Stderr} {
			if !bytes.Equal(got[stream], want[stream]) {
				t.Errorf("%s: got %q, want %q", stream, got[stream], want[stream])
			}
		}
	})
}

func TestTail(t *testing.T) {
	s := open(t)
	w := writer(t, s, "a")
	for i := range 1000 {
		write(t, w, Stdout, fmt.Sprintf("line %d, in ", i))
		write(t, w, Stdout, "two pieces\n")
	}
	write(t, w, Stdout, "prompt> ")
	for _, c := range []struct {
		tail int
		want string
	}{
		{0, ""},
		{1, "prompt> "},
		{2, "line 999, in two pieces\nprompt> "},
		{3, "line 998, in two pieces\nline 999, in two pieces\nprompt> "},
	} {
		if got := read(t, s, "a", ReadOptions{Tail: c.tail}); got != c.want {
			t.Errorf("tail %d: %q", c.tail, got)
		}
	}
	all := read(t, s, "a", ReadOptions{Tail: -1})
	if got := read(t, s, "a", ReadOptions{Tail: 5000}); got != all || !strings.HasPrefix(all, "line 0,") {
		t.Errorf("a tail longer than the log is %d bytes, the log %d", len(got), len(all))
	}
}

func TestSince(t *testing.T) {
	s := open(t)
	synctest.Test(t, func(t *testing.T) {
		w, err := s.Writer("a", About{}, Limits{})
		if err != nil {
			t.Fatal(err)
		}
		defer w.Close()
		write(t, w, Stdout, "before\n")
		now := time.Now()
		<-time.After(time.Nanosecond)
		write(t, w, Stdout, "after\n")
		if got := read(t, s, "a", ReadOptions{Tail: -1, Since: now}); got != "after\n" {
			t.Errorf("got %q", got)
		}
	})
}

func TestFollow(t *testing.T) {
	s := open(t)
	w := writer(t, s, "a")
	write(t, w, Stdout, "early\n")
	pieces := make(chan string)
	go func() {
		defer close(pieces)
		for e, err := range s.Read(t.Context(), "a", ReadOptions{Tail: -1, Follow: true}) {
			if err != nil {
				t.Error(err)
			}
			pieces <- string(e.Data)
		}
	}()
	want := func(piece string) {
		t.Helper()
		if got := <-pieces; got != piece {
			t.Errorf("got %q, want %q", got, piece)
		}
	}
	want("early\n")
	write(t, w, Stderr, "prompt> ")
	want("prompt> ")
	write(t, w, Stdout, "last")
	w.Close()
	want("last")
	if more, ok := <-pieces; ok {
		t.Errorf("%q after the end", more)
	}
}

func TestFollowFromNow(t *testing.T) {
	s := open(t)
	w := writer(t, s, "a")
	write(t, w, Stdout, "early\n")
	// A reader's position is taken when it is asked for the first entry.
	followed := make(chan string)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		defer close(followed)
		for e, err := range s.Read(ctx, "a", ReadOptions{Follow: true}) {
			if err != nil {
				if !errors.Is(err, context.Canceled) {
					t.Error(err)
				}
				return
			}
			followed <- string(e.Data)
		}
	}()
	for got := ""; got == ""; {
		write(t, w, Stdout, "late\n")
		select {
		case got = <-followed:
		default:
			continue
		}
		if got != "late\n" {
			t.Errorf("got %q", got)
		}
	}
	cancel()
	for range followed {
	}
}

func TestFollowWithoutWriterEnds(t *testing.T) {
	s := open(t)
	if got := read(t, s, "never", ReadOptions{Tail: -1, Follow: true}); got != "" {
		t.Errorf("got %q", got)
	}
}

func TestDamage(t *testing.T) {
	const stamp = "2016-10-06T00:17:09.669794202Z "
	whole := stamp + "stdout F whole\n"
	for name, c := range map[string]struct{ file, want string }{
		"cut off record":       {whole + stamp + "stdout F cut", "whole\n"},
		"no stream":            {whole + stamp + "stdin F x\n" + whole, "whole\nwhole\n"},
		"no tag":               {whole + stamp + "stdout \n" + whole, "whole\nwhole\n"},
		"bad time":             {"yesterday stdout F x\n" + whole, "whole\n"},
		"zeros after a crash":  {whole + strings.Repeat("\x00", 5000) + "\n" + whole, "whole\nwhole\n"},
		"far too long":         {strings.Repeat("x", 3*maxRecord) + "\n" + whole, "whole\n"},
		"far too long, no end": {whole + strings.Repeat("x", 3*maxRecord), "whole\n"},
		"empty lines":          {"\n\n" + whole, "whole\n"},
	} {
		t.Run(name, func(t *testing.T) {
			s := open(t)
			if err := os.Mkdir(filepath.Join(s.dir, "a"), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(segmentPath(filepath.Join(s.dir, "a"), 1), []byte(c.file), 0o600); err != nil {
				t.Fatal(err)
			}
			if got := read(t, s, "a", ReadOptions{Tail: -1}); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
			w := writer(t, s, "a")
			write(t, w, Stdout, "more\n")
			if got := read(t, s, "a", ReadOptions{Tail: -1}); got != c.want+"more\n" {
				t.Errorf("after more was written: %q", got)
			}
		})
	}
}

func TestWriteToFullDisk(t *testing.T) {
	s := open(t)
	w := writer(t, s, "a")
	write(t, w, Stdout, "before\n")
	good := w.file
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer full.Close()
	w.file = full
	for range 2 {
		if err := w.Write(time.Now(), Stdout, []byte("lost\n")); err == nil {
			t.Error("no error")
		}
	}
	w.file = good
	write(t, w, Stderr, "another stream\n")
	write(t, w, Stdout, "after\n")
	write(t, w, Stdout, "told once\n")
	want := "before\nanother stream\n[purser: 10 bytes of output are lost here: no space left on device]\nafter\ntold once\n"
	if got := read(t, s, "a", ReadOptions{Tail: -1}); got != want {
		t.Errorf("got %q", got)
	}
}

// Of what found room in part nothing is there, as it is told of as lost.
func TestWriteThatFindsRoomInPart(t *testing.T) {
	s, err := Open(rig.SmallDisk(t, "64k"))
	if err != nil {
		t.Fatal(err)
	}
	w := writer(t, s, "a")
	write(t, w, Stdout, "before\n")
	many := strings.Repeat("lost\n", 10<<10)
	if err := w.Write(time.Now(), Stdout, []byte(many)); !errors.Is(err, unix.ENOSPC) {
		t.Fatalf("the disk is not full: %v", err)
	}
	if got := read(t, s, "a", ReadOptions{Tail: -1}); got != "before\n" {
		t.Errorf("there are %d bytes: %.60q", len(got), got)
	}
	write(t, w, Stdout, "after\n")
	want := fmt.Sprintf("before\n[purser: %d bytes of output are lost here: no space left on device]\nafter\n", len(many))
	if got := read(t, s, "a", ReadOptions{Tail: -1}); got != want {
		t.Errorf("got %.200q", got)
	}
}

// A loss that no later write tells of is told at the end.
func TestLossAtTheEnd(t *testing.T) {
	s := open(t)
	w := writer(t, s, "a")
	w.Lose(Stderr, 7, errors.New("the disk does not answer"))
	w.Close()
	want := "[purser: 7 bytes of output are lost here: the disk does not answer]\n"
	if got := read(t, s, "a", ReadOptions{Tail: -1}); got != want {
		t.Errorf("got %q", got)
	}
}

// A writer that could not even begin does when it can.
func TestLogThatCannotBeMade(t *testing.T) {
	s := open(t)
	if err := os.Remove(s.dir); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(s.dir, nil, 0o600); err != nil { // where a directory is to be
		t.Fatal(err)
	}
	w := writer(t, s, "a")
	if err := w.Write(time.Now(), Stdout, []byte("lost\n")); err == nil {
		t.Error("no error")
	}
	if err := os.Remove(s.dir); err != nil {
		t.Fatal(err)
	}
	write(t, w, Stdout, "after\n")
	if got := read(t, s, "a", ReadOptions{Tail: -1}); !strings.HasSuffix(got, "]\nafter\n") {
		t.Errorf("got %q", got)
	}
}

func TestSegments(t *testing.T) {
	s := open(t)
	w, err := s.Writer("a", About{}, Limits{Size: 200, Segments: 3})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 100 {
		write(t, w, Stdout, fmt.Sprintf("line %02d\n", i))
	}
	all, err := segments(filepath.Join(s.dir, "a"))
	if err != nil || len(all) != 3 {
		t.Fatalf("segments %v, %v", all, err)
	}
	for _, n := range all {
		info, err := os.Stat(segmentPath(filepath.Join(s.dir, "a"), n))
		if err != nil || info.Size() > 200 {
			t.Errorf("segment %d: %v, %v", n, info.Size(), err)
		}
	}
	whole := read(t, s, "a", ReadOptions{Tail: -1})
	if !strings.HasSuffix(whole, "line 98\nline 99\n") || strings.Count(whole, "\n") < 8 {
		t.Errorf("kept %q", whole)
	}
	for n := range strings.Count(whole, "\n") + 2 {
		lines := strings.SplitAfter(whole, "\n")
		lines = lines[:len(lines)-1]
		want := strings.Join(lines[max(0, len(lines)-n):], "")
		if got := read(t, s, "a", ReadOptions{Tail: n}); got != want {
			t.Errorf("tail %d: got %q, want %q", n, got, want)
		}
	}
}

// A reader goes from segment to segment while they are written, and is told of
// those that were removed before it came to them.
func TestFollowOverSegments(t *testing.T) {
	s := open(t)
	w, err := s.Writer("a", About{}, Limits{Size: 200, Segments: 3})
	if err != nil {
		t.Fatal(err)
	}
	write(t, w, Stdout, "first\n")
	r, err := s.Reader("a", ReadOptions{Tail: -1, Follow: true})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var got strings.Builder
	n := 0
	for e, err := range r.Entries(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		got.Write(e.Data)
		switch n++; {
		case n <= 20:
			write(t, w, Stdout, fmt.Sprintf("line %d\n", n))
		case n == 21:
			for i := range 50 {
				write(t, w, Stdout, fmt.Sprintf("many %d\n", i))
			}
			w.Close()
		}
	}
	text := got.String()
	if !strings.HasPrefix(text, "first\nline 1\nline 2\n") || !strings.Contains(text, "line 20\nmany 0\n") {
		t.Errorf("lines are missing: %q", text)
	}
	if !strings.Contains(text, "[purser: ") || !strings.HasSuffix(text, "many 48\nmany 49\n") {
		t.Errorf("the gap is not told of: %q", text)
	}
}

// What is added to a segment once a reader was at its end, and before it saw the next
// one, is not passed by.
func TestFollowToTheVeryEndOfASegment(t *testing.T) {
	s := open(t)
	w, err := s.Writer("a", About{}, Limits{Size: 200, Segments: 9})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	write(t, w, Stdout, "first\n")
	r, err := s.Reader("a", ReadOptions{Tail: -1})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for err = nil; err == nil; _, err = r.next() {
	}
	for i := 0; w.Position().Segment == 1; i++ {
		write(t, w, Stdout, fmt.Sprintf("line %d\n", i))
	}
	if _, err := r.advance(); err != nil {
		t.Fatal(err)
	}
	var got strings.Builder
	if _, err := r.rest(t.Context(), func(e Entry, err error) bool {
		got.Write(e.Data)
		return err == nil
	}); err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(got.String(), "line 0\nline 1\n") {
		t.Errorf("got %q", got.String())
	}
}

// What a process that died was about to write can be written again.
func TestRewind(t *testing.T) {
	s := open(t)
	w := writer(t, s, "a")
	write(t, w, Stdout, "kept\n")
	at := w.Position()
	write(t, w, Stdout, "half\n")
	w.Leave()
	w = writer(t, s, "a")
	if err := w.Rewind(at); err != nil {
		t.Fatal(err)
	}
	write(t, w, Stdout, "whole\n")
	w.Close()
	if got := read(t, s, "a", ReadOptions{Tail: -1, Follow: true}); got != "kept\nwhole\n" {
		t.Errorf("got %q", got)
	}
	for _, other := range []Position{{Segment: 1, Offset: 1 << 20}, {Segment: 7}, {}} {
		if err := w.Rewind(other); err != nil {
			t.Error(err)
		}
	}
	if got := read(t, s, "a", ReadOptions{Tail: -1}); got != "kept\nwhole\n" {
		t.Errorf("rewound to where nothing was: %q", got)
	}
}

// So can what it had to begin another segment for.
func TestRewindOverTheEndOfASegment(t *testing.T) {
	s := open(t)
	limits := Limits{Size: 100, Segments: 9}
	w, err := s.Writer("a", About{}, limits)
	if err != nil {
		t.Fatal(err)
	}
	write(t, w, Stdout, "kept\n")
	at := w.Position()
	write(t, w, Stdout, "once\ntwice\n")
	if w.Position().Segment != at.Segment+1 {
		t.Fatalf("at %+v", w.Position())
	}
	w.Leave()
	if w, err = s.Writer("a", About{}, limits); err != nil {
		t.Fatal(err)
	}
	if err := w.Rewind(at); err != nil {
		t.Fatal(err)
	}
	write(t, w, Stdout, "once\ntwice\n")
	w.Close()
	if got := read(t, s, "a", ReadOptions{Tail: -1}); got != "kept\nonce\ntwice\n" {
		t.Errorf("got %q", got)
	}
}

// A log whose writer died ends for its readers when somebody says so.
func TestEndWithoutWriter(t *testing.T) {
	s := open(t)
	w := writer(t, s, "a")
	write(t, w, Stdout, "last\n")
	w.Leave()
	if over, err := ended(filepath.Join(s.dir, "a")); over || err != nil {
		t.Fatalf("ended: %v, %v", over, err)
	}
	for _, instance := range []string{"a", "a", "never"} {
		if err := s.End(instance); err != nil {
			t.Error(err)
		}
	}
	if got := read(t, s, "a", ReadOptions{Tail: -1, Follow: true}); got != "last\n" {
		t.Errorf("got %q", got)
	}
}

func TestStore(t *testing.T) {
	s := open(t)
	created := time.Now().Round(0)
	w, err := s.Writer("a", About{Environment: "dev", Workload: "app/f", Created: created}, Limits{})
	if err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{"", "../a", "a/b", ".hidden", "a\x00"} {
		if _, err := s.Writer(bad, About{}, Limits{}); err == nil {
			t.Errorf("opened %q", bad)
		}
	}
	w.Close()
	if about, err := s.About("a"); err != nil || about.Workload != "app/f" || !about.Created.Equal(created) {
		t.Errorf("about %+v, %v", about, err)
	}
	if names, err := s.Instances(); err != nil || len(names) != 1 || names[0] != "a" {
		t.Errorf("instances %v, %v", names, err)
	}
	for range 2 {
		if err := s.Remove("a"); err != nil {
			t.Error(err)
		}
	}
	if names, _ := s.Instances(); len(names) != 0 {
		t.Errorf("left: %v", names)
	}
}

func FuzzParseRecord(f *testing.F) {
	for _, seed := range []string{
		"2016-10-06T00:17:09.669794202Z stdout F log content 1",
		"2016-10-06T00:17:09.669794202Z stderr P ",
		"2016-10-06T00:17:09Z stdout F:tag x",
		"2016-10-06T00:17:09+02:00 stdout P a b",
		"  ", "", "stdout F", "\x00\xff",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, record []byte) {
		e, err := parseRecord(record)
		if err != nil {
			if !errors.Is(err, errDamaged) {
				t.Fatalf("unexpected kind of error: %v", err)
			}
			return
		}
		if len(e.Data) > maxData || bytes.ContainsRune(bytes.TrimSuffix(e.Data, []byte("\n")), '\n') {
			return // no record that a file could hold
		}
		if e.Time.Year() < 0 || e.Time.Year() > 9999 || len(e.Data) == 0 {
			return
		}
		again, err := parseRecord(bytes.TrimSuffix(appendRecords(nil, e.Time, e.Stream, e.Data), []byte("\n")))
		if err != nil || !again.Time.Equal(e.Time) || again.Stream != e.Stream || !bytes.Equal(again.Data, e.Data) {
			t.Fatalf("%+v became %+v, %v", e, again, err)
		}
	})
}

// What is written once the reader is there is read, however late its entries
// are asked for.
func TestReaderBeginsWhereItWasMade(t *testing.T) {
	s := open(t)
	w := writer(t, s, "a")
	write(t, w, Stdout, "before\n")
	r, err := s.Reader("a", ReadOptions{Tail: 0, Follow: true})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	write(t, w, Stdout, "after\n")
	w.Close()
	var got strings.Builder
	for e, err := range r.Entries(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		got.Write(e.Data)
	}
	if got.String() != "after\n" {
		t.Errorf("read %q", got.String())
	}
}
