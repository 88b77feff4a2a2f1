package audit_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/purserd/purser/e2e/rig"
	"github.com/purserd/purser/inject/audit"
)

// A full disk costs records, which are counted, and never the trail.
func TestFullDisk(t *testing.T) {
	dir := rig.SmallDisk(t, "64k")
	p := newPlace(t)
	p.dir, p.options.FileSize = filepath.Join(dir, "audit"), 12<<10
	l := p.open(t)
	written, failed := uint64(1), uint64(0)
	fill := func() {
		for range 300 {
			seq, err := l.Append(set(1))
			switch {
			case err == nil:
				written = seq
			case errors.Is(err, unix.ENOSPC):
				failed++
			default:
				t.Fatal(err)
			}
		}
	}
	fill()
	if failed == 0 {
		t.Fatal("the disk is not full")
	}
	if _, err := l.Commit(set(1)); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("a commit on a full disk: %v", err)
	}
	failed++
	if r := verify(t, l); !r.OK() || r.Last != written {
		t.Errorf("got %+v", r)
	}
	// An agent that starts on it does so, too.
	must(t, l.Close())
	p.options.Warn = func(error) {}
	l = p.open(t)
	fill()
	// The oldest files make room.
	must(t, l.Close())
	p.options.Files = 2
	must(t, os.Remove(p.files(t)[0]))
	l = p.open(t)
	_, err := l.Commit(set(1))
	must(t, err)
	must(t, l.Close())
}

// What was lost on a full disk is counted in the trail once there is room.
func TestLostRecordsAreCounted(t *testing.T) {
	p := newPlace(t)
	l := p.open(t)
	appendAll(t, l, 2)
	must(t, unix.Setrlimit(unix.RLIMIT_FSIZE, limit(t, 700)))
	_, first := l.Append(set(1))
	_, second := l.Append(set(1))
	must(t, unix.Setrlimit(unix.RLIMIT_FSIZE, limit(t, unix.RLIM_INFINITY)))
	if !errors.Is(first, unix.EFBIG) || !errors.Is(second, unix.EFBIG) {
		t.Fatalf("got %v and %v", first, second)
	}
	_, err := l.Commit(set(1))
	must(t, err)
	var got []audit.Record
	for r, err := range l.Read(t.Context(), audit.Query{Last: 2}) {
		must(t, err)
		got = append(got, r)
	}
	if got[0].Action != audit.Lost || got[0].Count != 2 || got[1].Seq != 5 {
		t.Errorf("got %+v", got)
	}
	must(t, l.Close())
	wantWhole(t, p)
}

// What is lost is not forgotten by syncing the rest.
func TestSyncedWithLostRecords(t *testing.T) {
	p := newPlace(t)
	synced := 0
	p.options.Synced = func() { synced++ }
	l := p.open(t)
	must(t, unix.Setrlimit(unix.RLIMIT_FSIZE, limit(t, 100)))
	_, err := l.Append(set(1))
	must(t, unix.Setrlimit(unix.RLIMIT_FSIZE, limit(t, unix.RLIM_INFINITY)))
	if !errors.Is(err, unix.EFBIG) {
		t.Fatal(err)
	}
	must(t, l.Close())
	if synced != 0 {
		t.Error("all is said to be well")
	}
}

// A note that cannot be written is told of, and counted.
func TestNoteOnAFullDisk(t *testing.T) {
	p := newPlace(t)
	var warned []error
	p.options.Warn = func(err error) { warned = append(warned, err) }
	l := p.open(t)
	must(t, unix.Setrlimit(unix.RLIMIT_FSIZE, limit(t, 100)))
	begun, err := l.Note(audit.Record{Action: audit.Exec, Outcome: audit.Begun})
	_, waited := l.Append(set(1))
	must(t, unix.Setrlimit(unix.RLIMIT_FSIZE, limit(t, unix.RLIM_INFINITY)))
	must(t, err)
	if !errors.Is(waited, unix.EFBIG) || len(warned) != 1 || !errors.Is(warned[0], unix.EFBIG) {
		t.Errorf("got %v, told of %v", waited, warned)
	}
	_, err = l.Note(audit.Record{Action: audit.Exec, Outcome: audit.Done, Begun: begun})
	must(t, err)
	got := all(t, l)
	if len(got) != 3 || got[1].Action != audit.Lost || got[1].Count != 2 || got[2].Of != 0 {
		t.Errorf("got %+v", got)
	}
	must(t, l.Close())
}

// limit is the process's limit of the size of files, with another soft one. What is
// written beyond it is cut short, as on a full disk.
func limit(t *testing.T, size uint64) *unix.Rlimit {
	t.Helper()
	var old unix.Rlimit
	must(t, unix.Getrlimit(unix.RLIMIT_FSIZE, &old))
	return &unix.Rlimit{Cur: min(size, old.Max), Max: old.Max}
}
