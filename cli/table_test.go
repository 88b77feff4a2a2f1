package cli

import (
	"bytes"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/types/known/timestamppb"

	purserv1 "github.com/purserd/purser/api/purser/v1"
)

func TestAge(t *testing.T) {
	now := time.Date(2026, 1, 10, 12, 0, 0, 0, time.UTC)
	for ago, want := range map[time.Duration]string{
		-time.Minute: "0s", 0: "0s", 119 * time.Second: "119s", 2 * time.Minute: "2m",
		119 * time.Minute: "119m", 2 * time.Hour: "2h", 47 * time.Hour: "47h", 48 * time.Hour: "2d", 900 * time.Hour: "37d",
	} {
		if got := age(timestamppb.New(now.Add(-ago)), now); got != want {
			t.Errorf("%s ago: %s, want %s", ago, got, want)
		}
	}
	if got := age(nil, now); got != "-" {
		t.Errorf("never: %s", got)
	}
}

func TestBytesText(t *testing.T) {
	for n, want := range map[uint64]string{0: "0 B", 1023: "1023 B", 1024: "1.0 KiB", 1536: "1.5 KiB", 5 << 30: "5.0 GiB", 1<<64 - 1: "16.0 EiB"} {
		if got := bytesText(n); got != want {
			t.Errorf("%d: %s, want %s", n, got, want)
		}
	}
}

func TestTable(t *testing.T) {
	var out bytes.Buffer
	table := newTable(&out, "ID", "REASON")
	table.row("a/b", "two\nlines\x1b[31m\tred")
	table.row("longer/name", "")
	table.flush()
	want := "ID           REASON\na/b          two lines [31m red\nlonger/name\n"
	if out.String() != want {
		t.Errorf("got\n%s", out.String())
	}
}

func TestProgress(t *testing.T) {
	p := &progress{total: 4096, now: time.Now}
	_, _ = p.Write(make([]byte, 1024))
	if got, want := p.text(), "[=======                       ] 1.0 KiB of 4.0 KiB"; got != want {
		t.Errorf("got %q", got)
	}
	// A layout's tar is larger than its files.
	_, _ = p.Write(make([]byte, 8192))
	if got, want := p.text(), "[==============================] 9.0 KiB of 4.0 KiB"; got != want {
		t.Errorf("got %q", got)
	}
	unknown := &progress{now: time.Now}
	_, _ = unknown.Write(make([]byte, 10))
	if unknown.text() != "10 B" {
		t.Errorf("got %q", unknown.text())
	}
}

func TestProgressIsSilentInAPipe(t *testing.T) {
	var out bytes.Buffer
	p := newProgress(&out, 10, time.Now)
	_, _ = p.Write(make([]byte, 10))
	p.finish()
	if out.Len() > 0 {
		t.Errorf("wrote %q", out.String())
	}
}

func TestStem(t *testing.T) {
	for path, want := range map[string]string{
		"/a/rag.tar": "rag", "rag.tar.gz": "rag", "rag.tgz": "rag", "rag": "rag", "/x/layout": "layout", "rag-1.4.tar": "rag-1.4",
	} {
		if got := stem(path); got != want {
			t.Errorf("%s: %s, want %s", path, got, want)
		}
	}
}

func TestParseSince(t *testing.T) {
	now := time.Date(2026, 1, 10, 12, 0, 0, 0, time.UTC)
	for text, want := range map[string]time.Time{
		"10m":                  now.Add(-10 * time.Minute),
		"2026-01-10T11:00:00Z": now.Add(-time.Hour),
	} {
		got, err := parseSince(text, now)
		if err != nil || !got.AsTime().Equal(want) {
			t.Errorf("%s: %v, %v", text, got, err)
		}
	}
	for _, text := range []string{"-5m", "yesterday", "10"} {
		if got, err := parseSince(text, now); err == nil {
			t.Errorf("%s: taken as %v", text, got)
		}
	}
	if got, err := parseSince("", now); got != nil || err != nil {
		t.Errorf("nothing: %v, %v", got, err)
	}
}

func TestLineMerger(t *testing.T) {
	m := newLineMerger(func(id string) string { return id + " | " })
	var got []byte
	for _, piece := range []struct{ id, stream, data string }{
		{"a", "stdout", "one "}, {"b", "stdout", "other\n"}, {"a", "stderr", "err\n"}, {"a", "stdout", "line\nand"}, {"b", "stdout", ""},
	} {
		got = append(got, m.add(piece.id, piece.stream, []byte(piece.data))...)
	}
	got = append(got, m.rest()...)
	if want := "b | other\na | err\na | one line\na | and\n"; string(got) != want {
		t.Errorf("got\n%s", got)
	}
}

// On a terminal the widest columns give way, never the first; colours take no room.
func TestTableOnATerminal(t *testing.T) {
	var out bytes.Buffer
	table := newTable(&out, "ID", "STATE", "IMAGE", "REASON")
	table.screen = screen{width: 60, colour: true}
	table.style("STATE", stateStyle)
	table.row("a-name/that-is-long", "running", "registry.example/team/image:1.4.2", "")
	table.row("b", "backing_off", "localhost/b:1", "exited with status 1 after it had run for a while")
	table.flush()
	visible := regexp.MustCompile("\x1b\\[[0-9]*m").ReplaceAllString(out.String(), "")
	for line := range strings.Lines(visible) {
		if n := utf8.RuneCountInString(strings.TrimRight(line, "\n")); n > 60 {
			t.Errorf("%d columns: %s", n, line)
		}
	}
	for _, want := range []string{"a-name/that-is-long  ", "\x1b[32mrunning", "\x1b[31mbacking_", "…", "\x1b[2mID"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%q", want, out.String())
		}
	}
	if first, _, _ := strings.Cut(visible, "\n"); !strings.HasPrefix(first, "ID                   STATE") {
		t.Errorf("heading %q", first)
	}
}

// What cannot be made narrow enough is printed all the same, cut as far as that tells
// anything.
func TestTableOnAVeryNarrowTerminal(t *testing.T) {
	var out bytes.Buffer
	table := newTable(&out, "ID", "A", "B")
	table.screen = screen{width: 5}
	table.row("long-identity", "a-long-cell-of-text", "short")
	table.flush()
	if want := "ID    A     B\nlo…y  a-l…  sho…\n"; out.String() != want {
		t.Errorf("got\n%s", out.String())
	}
}

// No list is wider than the terminal, however long its names.
func TestEveryListFits(t *testing.T) {
	digest := "registry.example/box@sha256:" + strings.Repeat("0123456789abcdef", 4)
	long := strings.Repeat("a-long-name", 5)
	for name, of := range map[string]func(*session) *table{
		"ps": (*session).newWorkloadTable, "image list": (*session).newImageTable, "app list": (*session).newAppTable,
		"app history": (*session).newHistoryTable, "secret show": (*session).newSecretUserTable,
		"secret list":                func(s *session) *table { return s.newSecretTable(false) },
		"secret list, withheld":      func(s *session) *table { return s.newSecretTable(true) },
		"secret versions":            func(s *session) *table { return s.newVersionTable(false) },
		"secret versions, some held": func(s *session) *table { return s.newVersionTable(true) },
		"volume list":                (*session).newVolumeTable, "environment list": (*session).newEnvironmentTable, "deploy": (*session).newChangeTable,
		"events": (*session).newEventTable, "audit tail": (*session).newAuditTable, "audit verify": (*session).newProblemTable,
	} {
		for _, width := range []int{40, 60, 80, 120} {
			var out bytes.Buffer
			list := of(&session{out: &out, everywhere: true})
			list.screen = screen{width: width}
			for _, cell := range []string{digest, long, "2026-01-10 12:00:00", "4"} {
				list.row(slices.Repeat([]string{cell}, len(list.headings))...)
			}
			list.flush()
			for line := range strings.Lines(out.String()) {
				if n := utf8.RuneCountInString(strings.TrimRight(line, "\n")); n > width {
					t.Errorf("%s at %d: %d columns: %s", name, width, n, line)
				}
			}
		}
	}
}

// Of events the message is what is wanted: everything else gives way to it.
func TestEventsOnNarrowTerminals(t *testing.T) {
	for width, want := range map[int]string{
		80: "TIME      S  TYPE                SUBJECT        MESSAGE\n" +
			"12:00:00  !  BackingOff          dev rag-qna/…  exited with status 1 after it\n" +
			"                                                had run for 3 s; next try in 10\n" +
			"                                                s\n" +
			"12:00:00     Started             dev a/b        started\n",
		60: "TIME      S  SUBJECT        MESSAGE\n" +
			"12:00:00  !  dev rag-qna/…  exited with status 1 after it\n" +
			"                            had run for 3 s; next try in 10\n" +
			"                            s\n" +
			"12:00:00     dev a/b        started\n",
	} {
		var out bytes.Buffer
		list := (&session{out: &out}).newEventTable()
		list.screen = screen{width: width}
		list.row("2026-01-10 12:00:00", "warning", "BackingOff", "dev rag-qna/answer-question", "exited with status 1 after it had run for 3 s; next try in 10 s")
		list.row("2026-01-10 12:00:00", "info", "Started", "dev a/b", "started")
		list.flush()
		if out.String() != want {
			t.Errorf("%d columns:\n%swant\n%s", width, out.String(), want)
		}
	}
}

func TestWrap(t *testing.T) {
	for text, want := range map[string][]string{
		"": {""}, "a bb ccc": {"a bb", "ccc"}, "abcdefghijklm n": {"abcde", "fghij", "klm n"},
	} {
		if got := wrap(text, 5); !slices.Equal(got, want) {
			t.Errorf("%q: %q", text, got)
		}
	}
}

// Lists fit narrow terminals: columns that can be done without are left out, names and
// states never cut.
func TestListsOnNarrowTerminals(t *testing.T) {
	images := func(t *table) {
		t.row("registry.example.com/team/rag:1.4", "117.7 MiB", "sha256:6457d53fb065d6f250e1504b9bc42d5b6c65941d57532c072d929dd0628977d0")
		t.row("localhost/box:1", "1.2 MiB", "sha256:fcc6e8bc15a62986f4040ba3f9a19a557b568e208db12db5ea85136ec50ed158")
	}
	workloads := func(t *table) {
		t.row("rag-qna/answer-question", "service", "running", "3m", "0", "registry.example.com/team/rag:1.4", "")
		t.row("rag-qna/reindex", "job", "backing_off", "3m", "7", "localhost/box:1", "no such host: image registry.invalid/box:1")
	}
	for _, c := range []struct {
		of    func(*session) *table
		fill  func(*table)
		width int
		want  string
	}{
		{(*session).newImageTable, images, 40, "IMAGE\nregistry.example.com/team/rag:1.4\nlocalhost/box:1\n"},
		{(*session).newImageTable, images, 60, "IMAGE                              SIZE       DIGEST\n" +
			"registry.example.com/team/rag:1.4  117.7 MiB  sha256:6457d5…\n" +
			"localhost/box:1                    1.2 MiB    sha256:fcc6e8…\n"},
		{(*session).newWorkloadTable, workloads, 40, "ID                       STATE\nrag-qna/answer-question  running\nrag-qna/reindex          backing_off\n"},
		{(*session).newWorkloadTable, workloads, 60, "ID                       STATE        REASON\n" +
			"rag-qna/answer-question  running\n" +
			"rag-qna/reindex          backing_off  no such host: image\n" +
			"                                      registry.invalid/box:1\n"},
		{(*session).newWorkloadTable, workloads, 80, "ID                       STATE        SINCE  RESTARTS  REASON\n" +
			"rag-qna/answer-question  running      3m     0\n" +
			"rag-qna/reindex          backing_off  3m     7         no such host: image\n" +
			"                                                       registry.invalid/box:1\n"},
	} {
		var out bytes.Buffer
		list := c.of(&session{out: &out})
		list.screen = screen{width: c.width}
		c.fill(list)
		list.flush()
		if out.String() != c.want {
			t.Errorf("%d columns:\n%swant\n%s", c.width, out.String(), c.want)
		}
	}
}

// Addresses are shown where somebody has one, and the first to go when there is no room.
func TestAddressesInLists(t *testing.T) {
	addressed := &purserv1.Workload{
		Id: "a/f", State: "running",
		Instances: []*purserv1.Instance{{Id: "i", Addresses: []string{"10.0.0.2", "fd00::2"}}},
	}
	other := &purserv1.Workload{Id: "a/g", State: "stopped"}
	for _, c := range []struct {
		width     int
		workloads []*purserv1.Workload
		want      bool
	}{
		{0, []*purserv1.Workload{addressed, other}, true},
		{120, []*purserv1.Workload{addressed, other}, true},
		{60, []*purserv1.Workload{addressed, other}, false},
		{0, []*purserv1.Workload{other}, false},
	} {
		var out bytes.Buffer
		s := &session{out: &out}
		list := s.workloadsIn(c.workloads, time.Now())
		list.screen = screen{width: c.width}
		list.flush()
		if shown := strings.Contains(out.String(), "ADDRESS") && strings.Contains(out.String(), "10.0.0.2"); shown != c.want {
			t.Errorf("%d columns:\n%s", c.width, out.String())
		}
	}
	if text := instanceText(addressed.GetInstances()[0], time.Now()); text != "i, at 10.0.0.2 and fd00::2" {
		t.Errorf("the instance: %s", text)
	}
}

func TestScreenOfAFile(t *testing.T) {
	if got := screenOf(&bytes.Buffer{}); got != (screen{}) {
		t.Errorf("%+v", got)
	}
}
