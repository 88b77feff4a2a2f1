package audit_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/purserd/purser/inject/audit"
	"github.com/purserd/purser/inject/keyring"
)

// vault keeps a head in memory.
type vault struct {
	mu   sync.Mutex
	head []byte
	err  error
}

func (v *vault) AuditHead() ([]byte, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.head, nil
}

func (v *vault) SetAuditHead(head []byte) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.err != nil {
		return v.err
	}
	v.head = slices.Clone(head)
	return nil
}

func (v *vault) fail(err error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.err = err
}

// place is a trail on disk.
type place struct {
	dir     string
	keys    *keyring.Keyring
	heads   *vault
	options audit.Options
}

var testKeys = sync.OnceValues(func() (*keyring.Keyring, error) {
	dir, err := os.MkdirTemp("", "audit-keys-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	return keyring.Open(filepath.Join(dir, "identity.age"))
})

// newPlace makes one whose trail is flushed on Commit and Close alone, so that a
// test says what is sealed.
func newPlace(t testing.TB) *place {
	t.Helper()
	keys, err := testKeys()
	must(t, err)
	return &place{dir: filepath.Join(t.TempDir(), "audit"), keys: keys, heads: &vault{}, options: audit.Options{Interval: time.Hour}}
}

func (p *place) open(t testing.TB) *audit.Log {
	t.Helper()
	l, err := audit.Open(p.dir, p.keys, p.heads, p.options)
	must(t, err)
	return l
}

// opened is open until the test ends.
func (p *place) opened(t testing.TB) *audit.Log {
	t.Helper()
	l := p.open(t)
	t.Cleanup(func() { must(t, l.Close()) })
	return l
}

// copied is the place as it is now, as a crash leaves it.
func (p *place) copied(t testing.TB) *place {
	t.Helper()
	head, _ := p.heads.AuditHead()
	c := &place{dir: filepath.Join(t.TempDir(), "audit"), keys: p.keys, heads: &vault{head: slices.Clone(head)}, options: p.options}
	must(t, os.CopyFS(c.dir, os.DirFS(p.dir)))
	return c
}

func (p *place) files(t testing.TB) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(p.dir, "*"))
	must(t, err)
	return files
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func read(t testing.TB, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	must(t, err)
	return data
}

func write(t testing.TB, path string, data []byte) {
	t.Helper()
	must(t, os.WriteFile(path, data, 0o600))
}

func set(n int) audit.Record {
	return audit.Record{
		Action: audit.Set, Outcome: audit.Begun, Environment: "dev", Caller: &audit.Caller{UID: 1000, GID: 100, PID: int32(n)},
		Secrets: []audit.Secret{{Name: "db", Version: uint32(n), Keys: []string{"A", "B"}}},
	}
}

func appendAll(t testing.TB, l *audit.Log, n int) {
	t.Helper()
	for i := range n {
		_, err := l.Append(set(i))
		must(t, err)
	}
}

func verify(t testing.TB, l *audit.Log) audit.Report {
	t.Helper()
	report, err := l.Verify(t.Context())
	must(t, err)
	return report
}

// wantWhole opens the trail, which has to be whole, and returns the numbers of its
// records.
func wantWhole(t testing.TB, p *place) []uint64 {
	t.Helper()
	l := p.open(t)
	defer l.Close()
	if r := verify(t, l); !r.OK() {
		t.Fatalf("problems of a whole trail: %s", show(r.Problems))
	}
	return numbers(t, l, audit.Query{Last: -1})
}

func numbers(t testing.TB, l *audit.Log, q audit.Query) []uint64 {
	t.Helper()
	var all []uint64
	for r, err := range l.Read(t.Context(), q) {
		must(t, err)
		all = append(all, r.Seq)
	}
	return all
}

func show(problems []audit.Problem) string {
	var b strings.Builder
	for _, p := range problems {
		fmt.Fprintf(&b, "\n\t%s %s:%d %d-%d %s", p.Kind, p.File, p.Line, p.Seq, p.Last, p.Text)
	}
	return b.String()
}

func TestRecordsComeBack(t *testing.T) {
	p := newPlace(t)
	l := p.open(t)
	seq, err := l.Commit(set(7))
	must(t, err)
	exit := uint32(3)
	_, err = l.Append(audit.Record{Action: audit.Exec, Outcome: audit.Done, Of: seq, Workload: "a/f", Instance: "x1", Command: "sh", Exit: &exit})
	must(t, err)
	must(t, l.Close())
	l = p.opened(t)
	var got []audit.Record
	for r, err := range l.Read(t.Context(), audit.Query{Last: -1}) {
		must(t, err)
		got = append(got, r)
	}
	if len(got) != 4 || got[0].Action != audit.Opened || got[3].Action != audit.Opened {
		t.Fatalf("got %+v", got)
	}
	if s := got[1]; s.Seq != 2 || s.Caller.UID != 1000 || s.Caller.PID != 7 || s.Secrets[0].Keys[1] != "B" || time.Since(s.Time) > time.Minute {
		t.Errorf("got %+v", s)
	}
	if e := got[2]; e.Of != 2 || *e.Exit != 3 || e.Command != "sh" || e.Caller != nil {
		t.Errorf("got %+v", e)
	}
	if r := verify(t, l); !r.OK() || r.Records != 4 || r.Last != 4 || r.Oldest != 1 || r.Files != 1 {
		t.Errorf("got %+v", r)
	}
	if info, err := os.Stat(p.files(t)[0]); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v %v", info.Mode(), err)
	}
}

func TestLongRecordsAreCut(t *testing.T) {
	p := newPlace(t)
	l := p.opened(t)
	long := strings.Repeat("é\x00\"", 1<<20)
	r := audit.Record{Action: audit.Refusal, Why: long, Command: long, Caller: &audit.Caller{Program: long, Unit: long}}
	for range 100 {
		r.Secrets = append(r.Secrets, audit.Secret{Name: long, Keys: slices.Repeat([]string{long}, 1000), Versions: make([]uint32, 1000)})
	}
	_, err := l.Append(r)
	must(t, err)
	for got, err := range l.Read(t.Context(), audit.Query{Last: 1}) {
		must(t, err)
		if len(got.Why) > 256 || len(got.Secrets) != 64 || got.Secrets[0].More == 0 || got.Secrets[0].More+len(got.Secrets[0].Keys)+len(got.Secrets[0].Versions) != 2000 {
			t.Errorf("got %d bytes of a text, %d secrets, %d left out", len(got.Why), len(got.Secrets), got.Secrets[0].More)
		}
	}
	if r := verify(t, l); !r.OK() || r.Records != 2 {
		t.Errorf("got %+v", r)
	}
}

func TestRotation(t *testing.T) {
	p := newPlace(t)
	p.options.FileSize, p.options.Files = 2000, 3
	l := p.open(t)
	for range 10 {
		appendAll(t, l, 5)
		_, err := l.Commit(set(0))
		must(t, err)
		if r := verify(t, l); !r.OK() {
			t.Fatal(show(r.Problems))
		}
	}
	r := verify(t, l)
	if r.Files != 3 || r.Last != 61 || r.Oldest < 40 || uint64(len(numbers(t, l, audit.Query{Last: -1}))) != r.Records {
		t.Errorf("got %+v", r)
	}
	must(t, l.Close())
	if got := wantWhole(t, p); got[0] != r.Oldest || got[len(got)-1] != 62 {
		t.Errorf("after opening it again: %v", got)
	}
	// What is before the oldest record is known to have been removed; what is after not.
	must(t, os.Remove(p.files(t)[0]))
	if r := reopenAndVerify(t, p); r.OK() || r.Problems[0].Kind != audit.Dropped || r.Problems[0].Seq != r.Oldest {
		t.Errorf("the oldest file is gone: %+v", r)
	}
}

func reopenAndVerify(t testing.TB, p *place) audit.Report {
	t.Helper()
	l := p.open(t)
	defer l.Close()
	return verify(t, l)
}

func TestReading(t *testing.T) {
	p := newPlace(t)
	p.options.FileSize = 2000
	l := p.opened(t)
	appendAll(t, l, 29)
	even := func(r audit.Record) bool { return r.Seq%2 == 0 }
	for name, c := range map[string]struct {
		query audit.Query
		want  []uint64
	}{
		"last":              {audit.Query{Last: 2}, []uint64{29, 30}},
		"none":              {audit.Query{Last: 0}, nil},
		"after":             {audit.Query{Last: -1, After: 27}, []uint64{28, 29, 30}},
		"last that match":   {audit.Query{Last: 3, Match: even}, []uint64{26, 28, 30}},
		"across files":      {audit.Query{Last: 12, Match: even, After: 5}, []uint64{8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30}},
		"more than matches": {audit.Query{Last: 100, After: 28}, []uint64{29, 30}},
	} {
		if got := numbers(t, l, c.query); !slices.Equal(got, c.want) {
			t.Errorf("%s: got %v, want %v", name, got, c.want)
		}
	}
}

func TestFollowing(t *testing.T) {
	p := newPlace(t)
	p.options.FileSize = 1000
	l := p.open(t)
	appendAll(t, l, 3)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var got []uint64
	for r, err := range l.Read(ctx, audit.Query{Last: 2, Follow: true}) {
		if err != nil {
			if !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
			break
		}
		got = append(got, r.Seq)
		if r.Seq >= 4 && r.Seq < 20 {
			_, err := l.Append(set(1))
			must(t, err)
		}
		if r.Seq == 20 {
			cancel()
		}
	}
	if want := []uint64{3, 4, 5}; !slices.Equal(got[:3], want) || len(got) != 18 {
		t.Errorf("got %v", got)
	}
	must(t, l.Close())
	for _, err := range l.Read(t.Context(), audit.Query{Follow: true}) {
		if !errors.Is(err, os.ErrClosed) {
			t.Errorf("following a closed trail: %v", err)
		}
	}
}

// Writers, readers and a verifier at once; the race detector watches.
func TestConcurrentUse(t *testing.T) {
	p := newPlace(t)
	p.options.FileSize, p.options.Files, p.options.Interval = 5000, 4, time.Millisecond
	l := p.open(t)
	var writers sync.WaitGroup
	for i := range 4 {
		writers.Go(func() {
			for n := range 50 {
				if n%10 == i {
					_, err := l.Commit(set(n))
					must(t, err)
				} else {
					appendAll(t, l, 1)
				}
			}
		})
	}
	done := make(chan struct{})
	go func() { writers.Wait(); close(done) }()
	for running := true; running; {
		select {
		case <-done:
			running = false
		default:
		}
		if r := verify(t, l); !r.OK() {
			t.Fatal(show(r.Problems))
		}
		numbers(t, l, audit.Query{Last: 20})
	}
	if r := verify(t, l); r.Last != 201 {
		t.Errorf("the last record is %d", r.Last)
	}
	must(t, l.Close())
	wantWhole(t, p)
}

func TestAnotherIdentity(t *testing.T) {
	p := newPlace(t)
	l := p.open(t)
	appendAll(t, l, 3)
	must(t, l.Close())
	other, err := keyring.Open(filepath.Join(t.TempDir(), "identity.age"))
	must(t, err)
	p.keys = other
	var warned []error
	p.options.Warn = func(err error) { warned = append(warned, err) }
	l = p.opened(t)
	appendAll(t, l, 2)
	if r := verify(t, l); r.OK() || len(warned) != 1 {
		t.Errorf("got %+v, warned %v", r, warned)
	}
}

func BenchmarkAppend(b *testing.B) {
	p := newPlace(b)
	p.options.Interval = 0
	l := p.opened(b)
	for b.Loop() {
		appendAll(b, l, 1)
	}
}

func BenchmarkCommit(b *testing.B) {
	l := newPlace(b).opened(b)
	for b.Loop() {
		_, err := l.Commit(set(1))
		must(b, err)
	}
}

func BenchmarkVerify(b *testing.B) {
	l := newPlace(b).opened(b)
	appendAll(b, l, 10000)
	for b.Loop() {
		verify(b, l)
	}
}

// lines are a file's, each with its newline.
func lines(data []byte) [][]byte {
	all := bytes.SplitAfter(data, []byte("\n"))
	return all[:len(all)-1]
}
