package audit_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/purserd/purser/inject/audit"
)

// disk fails to sync once, for each time that it is told to, and says then that all is
// well, as Linux does.
type disk struct {
	mu     sync.Mutex
	fails  int
	kept   map[string]int64 // what a power cut leaves of a file
	failed map[string]bool  // what it has forgotten about
}

func failingDisk(p *place) *disk {
	d := &disk{kept: map[string]int64{}, failed: map[string]bool{}}
	p.options = p.options.WithSync(d.sync)
	return d
}

func (d *disk) fail(times int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fails = times
}

func (d *disk) sync(f *os.File) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	name := filepath.Base(f.Name())
	if d.fails > 0 {
		d.fails--
		d.failed[name] = true
		return errors.New("input/output error")
	}
	if info, err := f.Stat(); err == nil && !d.failed[name] {
		d.kept[name] = info.Size()
	}
	return f.Sync()
}

// cutPower is the place after a power cut.
func (d *disk) cutPower(t *testing.T, p *place) *place {
	t.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	c := p.copied(t)
	for _, file := range c.files(t) {
		if size, kept := d.kept[filepath.Base(file)]; kept {
			must(t, os.Truncate(file, size))
		} else {
			must(t, os.Remove(file))
		}
	}
	return c
}

// A record whose sync has failed is not sealed as if it had not: the head names one
// that the disk has, and the trail says which may be missing.
func TestSyncFails(t *testing.T) {
	p := newPlace(t)
	d := failingDisk(p)
	p.options.Interval = time.Second
	var resumed atomic.Int32
	p.options.Warn, p.options.Synced = func(error) {}, func() { resumed.Add(1) }
	synctest.Test(t, func(t *testing.T) {
		l := p.open(t)
		_, err := l.Commit(set(1))
		must(t, err)
		appendAll(t, l, 3) // 3 to 5
		d.fail(1)
		resumed.Store(0)
		<-time.After(2 * time.Second)
		synctest.Wait()
		if resumed.Load() > 0 {
			t.Error("it was sealed without a sync")
		}
		<-time.After(5 * time.Second)
		synctest.Wait()
		if resumed.Load() != 1 {
			t.Errorf("sealed %d times", resumed.Load())
		}
		if r := verify(t, l); !r.OK() || r.Last != 6 {
			t.Errorf("got %+v", r)
		}
		wantAfterPowerCut(t, d.cutPower(t, p))
		must(t, l.Close())
	})
	if got := wantWhole(t, p); len(got) != 7 {
		t.Errorf("got %v", got)
	}
}

// wantAfterPowerCut looks for a trail that its opening finds whole, in which records
// 3 to 5 are missing, and said to be.
func wantAfterPowerCut(t *testing.T, p *place) {
	t.Helper()
	p.options.Warn = func(err error) { t.Errorf("warned: %v", err) }
	l := p.open(t)
	if got := numbers(t, l, audit.Query{Last: -1}); !slices.Equal(got, []uint64{1, 2, 6, 7}) {
		t.Errorf("got %v", got)
	}
	if problems := verify(t, l).Problems; len(problems) != 1 || problems[0].Seq != 3 || problems[0].Last != 5 {
		t.Errorf("got %s", show(problems))
	}
	for r, err := range l.Read(t.Context(), audit.Query{Last: 2}) {
		must(t, err)
		if r.Seq == 6 && (r.Action != audit.Unsynced || r.Of != 3 || r.Count != 3) {
			t.Errorf("got %+v", r)
		}
	}
	must(t, l.Close())
}

// A commit is not taken for durable after a sync that failed.
func TestCommitAfterSyncFails(t *testing.T) {
	p := newPlace(t)
	d := failingDisk(p)
	l := p.open(t)
	d.fail(1)
	if _, err := l.Commit(set(1)); err == nil {
		t.Fatal("a commit without a sync")
	}
	seq, err := l.Commit(set(2))
	must(t, err)
	if seq != 4 {
		t.Errorf("record %d", seq)
	}
	c := d.cutPower(t, p)
	got := numbers(t, c.opened(t), audit.Query{Last: -1})
	if !slices.Equal(got, []uint64{3, 4, 5}) {
		t.Errorf("got %v", got)
	}
	must(t, l.Close())
}

// The last records are not left for the next start to seal.
func TestSyncFailsAtClose(t *testing.T) {
	p := newPlace(t)
	d := failingDisk(p)
	l := p.open(t)
	d.fail(1)
	must(t, l.Close())
	if got := wantWhole(t, p); !slices.Equal(got, []uint64{1, 2, 3}) {
		t.Errorf("got %v", got)
	}
}

// A disk that fails to sync for long makes many files, which push no record out.
func TestSyncFailsForLong(t *testing.T) {
	p := newPlace(t)
	d := failingDisk(p)
	p.options.Files = 3
	l := p.open(t)
	for range 20 {
		d.fail(1)
		_, err := l.Commit(set(1))
		if err == nil {
			t.Fatal("a commit without a sync")
		}
	}
	_, err := l.Commit(set(1))
	must(t, err)
	if r := verify(t, l); !r.OK() || r.Oldest != 1 {
		t.Errorf("got %+v", r)
	}
	must(t, l.Close())
}
