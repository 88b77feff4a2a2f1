package audit_test

import (
	"errors"
	"io/fs"
	"testing"
	"testing/synctest"
	"time"

	"github.com/purserd/purser/inject/audit"
)

// frozen opens a trail on a disk that does not respond until thaw is called.
func frozen(t *testing.T, p *place) (l *audit.Log, thaw func()) {
	t.Helper()
	freeze, frozen := false, make(chan struct{})
	p.options.Written = func(audit.Action) {
		if freeze {
			<-frozen
		}
	}
	l = p.open(t)
	p.options.Written = nil
	synctest.Wait()
	freeze = true
	_, err := l.Note(audit.Record{Action: audit.Launch}) // record 2, which is in the write
	must(t, err)
	synctest.Wait()
	return l, func() { close(frozen) }
}

// all reads the trail.
func all(t *testing.T, l *audit.Log) []audit.Record {
	t.Helper()
	var records []audit.Record
	for r, err := range l.Read(t.Context(), audit.Query{Last: -1}) {
		must(t, err)
		records = append(records, r)
	}
	return records
}

// Notes and refusals do not wait for a disk that does not respond; what has to be on
// disk does, and all is written in its order.
func TestNotesDoNotWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, thaw := frozen(t, newPlace(t))
		begun, err := l.Note(audit.Record{Action: audit.Exec, Outcome: audit.Begun}) // 3
		must(t, err)
		noted := time.Now()
		must(t, l.Refuse(refusal(7, "Secrets/Put"))) // 4
		committed := make(chan uint64)
		go func() {
			seq, err := l.Commit(set(1)) // 5
			if err != nil {
				t.Error(err)
			}
			committed <- seq
		}()
		synctest.Wait()
		_, err = l.Note(audit.Record{Action: audit.Exec, Outcome: audit.Done, Begun: begun}) // 6
		must(t, err)
		select {
		case <-committed:
			t.Error("a commit did not wait")
		case <-time.After(time.Minute):
		}
		thaw()
		if seq := <-committed; seq != 5 {
			t.Errorf("committed record %d", seq)
		}
		got := all(t, l)
		for i, action := range []audit.Action{audit.Opened, audit.Launch, audit.Exec, audit.Refusal, audit.Set, audit.Exec} {
			if len(got) != 6 || got[i].Action != action {
				t.Fatalf("got %+v", got)
			}
		}
		if got[5].Of != 3 || !got[2].Time.Equal(noted) {
			t.Errorf("got %+v and %+v", got[2], got[5])
		}
		must(t, l.Close())
	})
}

// What finds no room to wait is told of, and counted where it would have been.
func TestNotesAreBounded(t *testing.T) {
	p := newPlace(t)
	synctest.Test(t, func(t *testing.T) {
		l, thaw := frozen(t, p)
		kept, lost := 0, uint64(0)
		for range 5000 {
			if _, err := l.Note(audit.Record{Action: audit.Resolve}); err != nil {
				lost++
			} else if kept++; lost > 0 {
				t.Fatal("there was room again")
			}
		}
		if kept == 0 || kept > 2000 {
			t.Errorf("%d wait", kept)
		}
		thaw()
		synctest.Wait()
		_, err := l.Append(set(1))
		must(t, err)
		got := all(t, l)
		if n := len(got); n != 2+kept+2 || got[n-2].Action != audit.Lost || got[n-2].Count != lost {
			t.Errorf("%d records, the last ones %+v", len(got), got[len(got)-2:])
		}
		must(t, l.Close())
	})
	wantWhole(t, p)
}

// Close waits for what was handed over, and takes no more.
func TestCloseWritesNotes(t *testing.T) {
	p := newPlace(t)
	l := p.open(t)
	for range 500 {
		_, err := l.Note(audit.Record{Action: audit.Resolve})
		must(t, err)
	}
	must(t, l.Close())
	if _, err := l.Note(audit.Record{Action: audit.Resolve}); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("a note behind the end: %v", err)
	}
	if got := wantWhole(t, p); len(got) != 502 {
		t.Errorf("%d records", len(got))
	}
}
