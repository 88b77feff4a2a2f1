package mirror_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/purserd/purser/inject"
	"github.com/purserd/purser/inject/mirror"
	"github.com/purserd/purser/inject/source"
)

func db(name string) source.Name { return source.Name{Environment: "prod", Secret: name} }

// fake is a source and a target whose secrets have one value each.
type fake struct {
	mu      sync.Mutex
	has     map[source.Name]string // in the source
	kept    map[source.Name]string // in the target
	failing map[source.Name]error  // of Get
	refused map[source.Name]error  // of Put and Gone
	down    error
	deaf    bool // the watch tells nothing
	broken  int  // how often the watch fails at once
	gets    int
	puts    int
	lists   []time.Duration
	log     []string
	changed func(...source.Name)
	began   time.Time
}

func newFake() *fake {
	return &fake{has: map[source.Name]string{}, kept: map[source.Name]string{}, failing: map[source.Name]error{}, refused: map[source.Name]error{}, began: time.Now()}
}

func (f *fake) Get(_ context.Context, name source.Name, unless source.Revision) (source.Content, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.gets++
	value, ok := f.has[name]
	switch {
	case f.down != nil:
		return source.Content{}, f.down
	case f.failing[name] != nil:
		return source.Content{}, f.failing[name]
	case !ok:
		return source.Content{}, inject.ErrNotFound
	case source.Revision(value) == unless:
		return source.Content{}, source.ErrUnchanged
	}
	return source.Content{Revision: source.Revision(value), Data: map[string]inject.Value{"A": inject.NewValue([]byte(value))}}, nil
}

func (f *fake) List(context.Context) ([]source.Name, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.lists = append(f.lists, time.Since(f.began))
	var names []source.Name
	for name := range f.has {
		names = append(names, name)
	}
	return names, f.down
}

func (f *fake) Watch(ctx context.Context, changed func(...source.Name)) error {
	f.mu.Lock()
	if f.broken > 0 {
		f.broken--
		f.mu.Unlock()
		return errors.New("no watches")
	}
	f.changed = changed
	f.mu.Unlock()
	changed()
	<-ctx.Done()
	return ctx.Err()
}

func (f *fake) Known() (names []source.Name) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for name := range f.kept {
		names = append(names, name)
	}
	return names
}

func (f *fake) Put(_ context.Context, name source.Name, data map[string]inject.Value) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.refused[name]; err != nil {
		return err
	}
	value := string(data["A"].Reveal())
	f.puts++
	if f.kept[name] != value {
		f.note("put %s %s", name.Secret, value)
	}
	f.kept[name] = value
	return nil
}

func (f *fake) Gone(_ context.Context, name source.Name) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.refused[name]; err != nil {
		return err
	}
	f.note("gone %s", name.Secret)
	delete(f.kept, name)
	return nil
}

func (f *fake) Up()              { f.report("up") }
func (f *fake) Down(why error)   { f.report("down: %v", why) }
func (f *fake) Looked(time.Time) {}
func (f *fake) Trouble(name source.Name, why error) {
	f.report("trouble %s: %v", name.Secret, why)
}

func (f *fake) report(format string, args ...any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.note(format, args...)
}

// note wants mu.
func (f *fake) note(format string, args ...any) {
	f.log = append(f.log, fmt.Sprintf("%gs ", time.Since(f.began).Round(time.Second).Seconds())+fmt.Sprintf(format, args...))
}

// set changes what the source has and tells of it.
func (f *fake) set(change func()) {
	f.mu.Lock()
	change()
	changed, deaf := f.changed, f.deaf
	f.mu.Unlock()
	if changed != nil && !deaf {
		changed(db("db"))
	}
	synctest.Wait()
}

// want compares what was told since the last time.
func (f *fake) want(t *testing.T, log ...string) {
	t.Helper()
	synctest.Wait()
	f.mu.Lock()
	defer f.mu.Unlock()
	if !slices.Equal(f.log, log) {
		t.Errorf("got\n\t%s\nwant\n\t%s", strings.Join(f.log, "\n\t"), strings.Join(log, "\n\t"))
	}
	f.log = nil
}

// running runs a mirror in a bubble of time.
func running(t *testing.T, prepare func(f *fake), test func(t *testing.T, f *fake)) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		prepare(f)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		m := mirror.New(mirror.Options{Source: f, Target: f, Poll: time.Minute})
		go func() {
			defer close(done)
			m.Run(ctx)
		}()
		synctest.Wait()
		test(t, f)
		cancel()
		<-done
	})
}

func TestWhatIsThereIsTaken(t *testing.T) {
	running(t, func(f *fake) { f.has[db("db")], f.has[db("api")] = "1", "a" }, func(t *testing.T, f *fake) {
		f.want(t, "0s put api a", "0s put db 1", "0s up")
		f.set(func() { f.has[db("db")] = "2" })
		f.want(t, "0s put db 2")
		f.set(func() {})
		f.want(t)
	})
}

// What an earlier agent took and the source has no more is found out at the start.
func TestWhatWasChangedMeanwhile(t *testing.T) {
	running(t, func(f *fake) {
		f.kept[db("db")], f.kept[db("old")], f.kept[db("same")] = "1", "1", "1"
		f.has[db("db")], f.has[db("same")] = "2", "1"
	}, func(t *testing.T, f *fake) {
		f.want(t, "0s put db 2", "0s up")
		<-time.After(2 * time.Second)
		f.want(t, "1s gone old")
	})
}

func TestWhatNobodyToldOfIsFoundByThePoll(t *testing.T) {
	running(t, func(f *fake) { f.has[db("db")], f.deaf = "1", true }, func(t *testing.T, f *fake) {
		f.want(t, "0s put db 1", "0s up")
		f.set(func() { f.has[db("db")] = "2" })
		<-time.After(50 * time.Second)
		f.want(t)
		<-time.After(20 * time.Second)
		f.mu.Lock()
		defer f.mu.Unlock()
		if f.kept[db("db")] != "2" {
			t.Error("the change was not found")
		}
	})
}

// What has not changed is not read again.
func TestUnchangedIsNotPut(t *testing.T) {
	running(t, func(f *fake) { f.has[db("db")] = "1" }, func(t *testing.T, f *fake) {
		<-time.After(time.Hour)
		f.mu.Lock()
		defer f.mu.Unlock()
		if f.puts != 1 || f.gets < 50 {
			t.Errorf("put %d times, looked %d times", f.puts, f.gets)
		}
	})
}

// Polls of many nodes do not come at one moment.
func TestPollsAreJittered(t *testing.T) {
	running(t, func(f *fake) { f.has[db("db")] = "1" }, func(t *testing.T, f *fake) {
		<-time.After(time.Hour)
		f.mu.Lock()
		defer f.mu.Unlock()
		pauses := map[time.Duration]bool{}
		for i := 2; i < len(f.lists); i++ {
			p := f.lists[i] - f.lists[i-1]
			if p < 54*time.Second || p > 66*time.Second {
				t.Errorf("a pause of %s", p)
			}
			pauses[p] = true
		}
		if len(pauses) < 40 {
			t.Errorf("%d different pauses in an hour", len(pauses))
		}
	})
}

func TestSourceThatIsDownChangesNothing(t *testing.T) {
	down := fmt.Errorf("%w: no such directory", source.ErrUnavailable)
	running(t, func(f *fake) { f.has[db("db")] = "1" }, func(t *testing.T, f *fake) {
		f.want(t, "0s put db 1", "0s up")
		f.set(func() { f.down = down })
		f.want(t, "0s down: "+down.Error())
		<-time.After(time.Hour)
		f.want(t) // told once, and nothing is taken away
		f.mu.Lock()
		if n := len(f.lists); n < 100 || n > 150 {
			t.Errorf("looked %d times in an hour", n)
		}
		f.mu.Unlock()
		f.set(func() { f.down, f.has[db("db")] = nil, "2" })
		f.want(t, "3600s put db 2", "3600s up")
	})
}

func TestSourceThatIsDownAtFirst(t *testing.T) {
	running(t, func(f *fake) { f.kept[db("db")], f.down = "1", errors.New("not there") }, func(t *testing.T, f *fake) {
		f.want(t, "0s down: not there")
		<-time.After(5 * time.Second)
		f.set(func() { f.down, f.has[db("db")] = nil, "1" })
		<-time.After(10 * time.Second)
		f.want(t, "5s up")
	})
}

// A directory on which something was to be mounted is empty, and so is one from which all
// was removed: they are told apart by what was seen before.
func TestEmptySource(t *testing.T) {
	running(t, func(f *fake) { f.kept[db("db")] = "1" }, func(t *testing.T, f *fake) {
		f.want(t, "0s down: the source cannot be read: it has nothing, where 1 secrets are known of it, such as secret db in environment prod")
		<-time.After(time.Hour)
		f.set(func() { f.has[db("db")] = "1" })
		f.want(t, "3600s up")
		f.set(func() { delete(f.has, db("db")) })
		<-time.After(2 * time.Second)
		f.want(t, "3601s gone db")
	})
	running(t, func(*fake) {}, func(t *testing.T, f *fake) { f.want(t, "0s up") })
}

// Some tools remove a secret and make it anew.
func TestSecretThatIsAbsentForAMoment(t *testing.T) {
	running(t, func(f *fake) { f.has[db("db")], f.has[db("x")] = "1", "1" }, func(t *testing.T, f *fake) {
		f.want(t, "0s put db 1", "0s put x 1", "0s up")
		f.set(func() { delete(f.has, db("db")) })
		<-time.After(900 * time.Millisecond)
		f.set(func() { f.has[db("db")] = "1" })
		<-time.After(10 * time.Second)
		f.want(t)
		f.set(func() { delete(f.has, db("db")) })
		<-time.After(900 * time.Millisecond)
		f.set(func() {}) // looked at again, and still waited
		f.want(t)
		<-time.After(time.Second)
		f.want(t, "12s gone db")
	})
}

// An error is no absence, and ends one.
func TestSecretThatCannotBeRead(t *testing.T) {
	running(t, func(f *fake) { f.has[db("db")], f.has[db("x")] = "1", "1" }, func(t *testing.T, f *fake) {
		f.want(t, "0s put db 1", "0s put x 1", "0s up")
		f.set(func() { f.failing[db("db")] = errors.New("half written"); f.has[db("x")] = "2" })
		f.want(t, "0s trouble db: half written")
		<-time.After(2 * time.Minute)
		f.mu.Lock()
		if f.kept[db("x")] != "2" || f.kept[db("db")] != "1" { // by the poll, as nothing told of it
			t.Errorf("kept are %v", f.kept)
		}
		f.log = nil
		f.mu.Unlock()
		f.set(func() { delete(f.failing, db("db")); f.has[db("db")] = "2" })
		f.want(t, "120s put db 2", "120s trouble db: <nil>")
	})
}

func TestWhatTheTargetRefusesIsTriedAgain(t *testing.T) {
	running(t, func(f *fake) { f.has[db("db")] = "1"; f.refused[db("db")] = errors.New("conflict") }, func(t *testing.T, f *fake) {
		f.want(t, "0s trouble db: conflict", "0s up")
		<-time.After(20 * time.Second)
		f.want(t)
		f.set(func() { delete(f.refused, db("db")) })
		f.want(t, "20s put db 1", "20s trouble db: <nil>")
		f.set(func() { f.refused[db("db")] = errors.New("no disk"); delete(f.has, db("db")); f.deaf = true })
		<-time.After(2 * time.Minute)
		f.set(func() { delete(f.refused, db("db")) })
		<-time.After(time.Minute)
		f.mu.Lock()
		defer f.mu.Unlock()
		if len(f.kept) > 0 {
			t.Error("it is kept for ever")
		}
	})
}

// A conflict ends when the source does not have the secret any more.
func TestConflictEnds(t *testing.T) {
	running(t, func(f *fake) {
		f.has[db("db")], f.has[db("x")] = "1", "1"
		f.refused[db("db")] = errors.New("conflict")
	}, func(t *testing.T, f *fake) {
		f.want(t, "0s trouble db: conflict", "0s put x 1", "0s up")
		f.set(func() { delete(f.has, db("db")); delete(f.refused, db("db")) })
		<-time.After(5 * time.Second)
		f.want(t, "1s gone db", "1s trouble db: <nil>")
	})
}

func TestWatchThatFails(t *testing.T) {
	running(t, func(f *fake) { f.has[db("db")], f.broken = "1", 3 }, func(t *testing.T, f *fake) {
		f.want(t, "0s put db 1", "0s up")
		<-time.After(20 * time.Second)
		f.set(func() { f.has[db("db")] = "2" })
		f.want(t, "20s put db 2")
	})
}

// A burst of changes is not as many looks.
func TestBurst(t *testing.T) {
	running(t, func(f *fake) { f.has[db("db")] = "1" }, func(t *testing.T, f *fake) {
		f.mu.Lock()
		before, changed := f.gets, f.changed
		f.has[db("db")] = "2"
		for range 1000 {
			changed(db("db"))
		}
		f.mu.Unlock()
		synctest.Wait()
		f.mu.Lock()
		defer f.mu.Unlock()
		if f.gets-before > 3 || f.kept[db("db")] != "2" {
			t.Errorf("looked %d times", f.gets-before)
		}
	})
}
