package audit_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/purserd/purser/inject/audit"
)

// Records are sealed within the interval, together.
func TestFlushInTheBackground(t *testing.T) {
	p := newPlace(t)
	p.options.Interval = time.Second
	synctest.Test(t, func(t *testing.T) {
		l := p.open(t)
		<-time.After(2 * time.Second) // the opening's own
		synctest.Wait()
		before, _ := p.heads.AuditHead()
		appendAll(t, l, 5)
		<-time.After(900 * time.Millisecond)
		synctest.Wait()
		if head, _ := p.heads.AuditHead(); string(head) != string(before) {
			t.Error("it was sealed at once")
		}
		<-time.After(200 * time.Millisecond)
		synctest.Wait()
		if head, _ := p.heads.AuditHead(); string(head) == string(before) {
			t.Error("it was not sealed within the interval")
		}
		must(t, l.Close())
	})
}

// A flush that fails is told of, and tried again.
func TestFlushFails(t *testing.T) {
	p := newPlace(t)
	p.options.Interval = time.Second
	warned := 0
	p.options.Warn = func(error) { warned++ }
	synctest.Test(t, func(t *testing.T) {
		l := p.open(t)
		p.heads.fail(errors.New("no"))
		<-time.After(12 * time.Second)
		synctest.Wait()
		if warned != 3 {
			t.Errorf("told %d times", warned)
		}
		p.heads.fail(nil)
		<-time.After(5 * time.Second)
		synctest.Wait()
		if r := verify(t, p.copied(t).opened(t)); !r.OK() || r.Last != 2 {
			t.Errorf("got %+v", r)
		}
		must(t, l.Close())
	})
}

func refusal(uid uint32, call string) audit.Record {
	return audit.Record{Caller: &audit.Caller{UID: uid}, Call: call, Code: "not_found"}
}

func refuse(t *testing.T, l *audit.Log, r audit.Record) {
	t.Helper()
	must(t, l.Refuse(r))
}

// Of many refusals most are counted.
func TestRefusalsAreCounted(t *testing.T) {
	p := newPlace(t)
	synctest.Test(t, func(t *testing.T) {
		l := p.open(t)
		for range 1000 {
			refuse(t, l, refusal(7, "Secrets/Put"))
		}
		refuse(t, l, refusal(8, "Secrets/Put")) // another user is not lost among them
		refuse(t, l, refusal(7, "Secrets/List"))
		if got := numbers(t, l, audit.Query{Last: -1}); len(got) != 1+10+1 {
			t.Errorf("%d records", len(got))
		}
		<-time.After(11 * time.Minute)
		synctest.Wait()
		refuse(t, l, refusal(7, "Secrets/Put")) // a new window
		must(t, l.Close())
	})
	l := p.opened(t)
	counted := map[string]uint64{}
	singles := 0
	for r, err := range l.Read(t.Context(), audit.Query{Last: -1}) {
		must(t, err)
		if r.Action == audit.Refusal && r.Count > 0 {
			counted[r.Call] = r.Count
		} else if r.Action == audit.Refusal {
			singles++
		}
	}
	if singles != 12 || len(counted) != 2 || counted["Secrets/Put"] != 990 || counted["Secrets/List"] != 1 {
		t.Errorf("%d one by one, and %v", singles, counted)
	}
}

// Nobody makes the trail grow by inventing kinds of calls.
func TestRefusalsAreBounded(t *testing.T) {
	p := newPlace(t)
	synctest.Test(t, func(t *testing.T) {
		l := p.open(t)
		for i := range 100000 {
			refuse(t, l, refusal(uint32(i), time.Duration(i).String()))
		}
		must(t, l.Close())
	})
	l := p.opened(t)
	total, records := uint64(0), 0
	for r, err := range l.Read(t.Context(), audit.Query{Last: -1, Match: func(r audit.Record) bool { return r.Action == audit.Refusal }}) {
		must(t, err)
		total += max(r.Count, 1)
		records++
	}
	if total != 100000 || records > 300 {
		t.Errorf("%d refusals in %d records", total, records)
	}
}
