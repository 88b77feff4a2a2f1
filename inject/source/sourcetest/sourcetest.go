// Package sourcetest is what every source of secrets has to keep to: the conformance
// suite of package source. It works on real places, and needs from a source's own tests
// only how secrets get there.
package sourcetest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/purserd/purser/inject"
	"github.com/purserd/purser/inject/source"
)

// Place is where a source has its secrets from.
type Place struct {
	Source source.Source
	// Environment in which secrets can be there.
	Environment string
	// Set makes a secret hold these values and no others, at one moment.
	Set func(t testing.TB, name source.Name, data map[string]string)
	// Remove takes a secret away.
	Remove func(t testing.TB, name source.Name)
}

// patience is for what is to happen.
const patience = 20 * time.Second

// Run tests a source; open makes an empty place for each test.
func Run(t *testing.T, open func(t *testing.T) Place) {
	for _, test := range []struct {
		name string
		run  func(t *testing.T, p Place)
	}{
		{"Get", testGet},
		{"Values", testValues},
		{"Absent", testAbsent},
		{"Conditional", testConditional},
		{"Owned", testOwned},
		{"List", testList},
		{"Canceled", testCanceled},
		{"Watch", testWatch},
		{"WatchEnds", testWatchEnds},
		{"NothingMissed", testNothingMissed},
		{"NothingTorn", testNothingTorn},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			test.run(t, open(t))
		})
	}
}

func (p Place) name(secret string) source.Name {
	return source.Name{Environment: p.Environment, Secret: secret}
}

// holds says whether a secret holds these values now.
func (p Place) holds(ctx context.Context, secret string, data map[string]string) bool {
	got, err := p.Source.Get(ctx, p.name(secret), "")
	return err == nil && same(got.Data, data)
}

func same(got map[string]inject.Value, want map[string]string) bool {
	return maps.EqualFunc(got, want, func(a inject.Value, b string) bool { return a.Equal(inject.NewValue([]byte(b))) })
}

// shape is what can be shown of values.
func shape(data map[string]inject.Value) string {
	var all []string
	for key, value := range data {
		all = append(all, fmt.Sprintf("%s (%d bytes)", key, value.Len()))
	}
	slices.Sort(all)
	return strings.Join(all, ", ")
}

func (p Place) want(t *testing.T, secret string, data map[string]string) source.Revision {
	t.Helper()
	got, err := p.Source.Get(t.Context(), p.name(secret), "")
	if err != nil {
		t.Fatal(err)
	}
	if !same(got.Data, data) {
		t.Errorf("got other values than were set: %s", shape(got.Data))
	}
	if got.Revision == "" {
		t.Error("it has no revision")
	}
	return got.Revision
}

func testGet(t *testing.T, p Place) {
	p.Set(t, p.name("db"), map[string]string{"USER": "app", "PASSWORD": "hunter2"})
	p.Set(t, p.name("api"), map[string]string{"KEY": "k"})
	p.want(t, "db", map[string]string{"USER": "app", "PASSWORD": "hunter2"})
	p.want(t, "api", map[string]string{"KEY": "k"})
	p.Set(t, p.name("db"), map[string]string{"PASSWORD": "hunter3"})
	p.want(t, "db", map[string]string{"PASSWORD": "hunter3"})
}

// Values are bytes, and arrive as they are.
func testValues(t *testing.T, p Place) {
	data := map[string]string{
		"EMPTY": "", "NEWLINE": "x\n", "SPACE": " x ", "BINARY": "\x00\xff\xfe", "DOLLAR": "$HOME ${A}",
		"LINES": "a\nb\n", "QUOTES": `'"\`, "LONG": strings.Repeat("0123456789", 10_000), "_1": "ä",
	}
	p.Set(t, p.name("odd"), data)
	p.want(t, "odd", data)
}

func testAbsent(t *testing.T, p Place) {
	absent := func(name source.Name, unless source.Revision) {
		t.Helper()
		if _, err := p.Source.Get(t.Context(), name, unless); !errors.Is(err, inject.ErrNotFound) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	absent(p.name("db"), "")
	p.Set(t, p.name("db"), map[string]string{"A": "1"})
	p.Set(t, p.name("other"), map[string]string{"A": "1"})
	revision := p.want(t, "db", map[string]string{"A": "1"})
	absent(source.Name{Environment: "elsewhere", Secret: "db"}, "")
	absent(p.name("d"), "")
	p.Remove(t, p.name("db"))
	absent(p.name("db"), "")
	absent(p.name("db"), revision)
	p.want(t, "other", map[string]string{"A": "1"})
}

func testConditional(t *testing.T, p Place) {
	p.Set(t, p.name("db"), map[string]string{"A": "1"})
	p.Set(t, p.name("other"), map[string]string{"A": "1"})
	first := p.want(t, "db", map[string]string{"A": "1"})
	unchanged := func(revision source.Revision) bool {
		_, err := p.Source.Get(t.Context(), p.name("db"), revision)
		if err != nil && !errors.Is(err, source.ErrUnchanged) {
			t.Error(err)
		}
		return err != nil
	}
	p.Set(t, p.name("other"), map[string]string{"A": "2"})
	if !unchanged(first) {
		t.Error("it has changed with another")
	}
	p.Set(t, p.name("db"), map[string]string{"A": "2"}) // of the same length
	if unchanged(first) {
		t.Error("it has not changed when it was set")
	}
	second := p.want(t, "db", map[string]string{"A": "2"})
	if first == second {
		t.Error("two contents have one revision")
	}
	p.Remove(t, p.name("db"))
	p.Set(t, p.name("db"), map[string]string{"A": "3"})
	if unchanged(second) {
		t.Error("it has not changed when it was set anew")
	}
}

// What is got belongs to who got it.
func testOwned(t *testing.T, p Place) {
	p.Set(t, p.name("db"), map[string]string{"A": "1"})
	got, err := p.Source.Get(t.Context(), p.name("db"), "")
	if err != nil {
		t.Fatal(err)
	}
	clear(got.Data)
	p.want(t, "db", map[string]string{"A": "1"})
}

func testList(t *testing.T, p Place) {
	want := func(secrets ...string) {
		t.Helper()
		var names []source.Name
		for _, secret := range secrets {
			names = append(names, p.name(secret))
		}
		if got, err := p.Source.List(t.Context()); err != nil || !slices.Equal(got, names) {
			t.Errorf("got %v, %v; want %v", got, err, names)
		}
	}
	want()
	for _, secret := range []string{"b", "a", "a.b", "a-b", "Z", "0"} {
		p.Set(t, p.name(secret), map[string]string{"A": "1"})
	}
	want("0", "Z", "a", "a-b", "a.b", "b")
	p.Remove(t, p.name("a"))
	want("0", "Z", "a-b", "a.b", "b")
}

// A call that was given up says nothing about the secret.
func testCanceled(t *testing.T, p Place) {
	p.Set(t, p.name("db"), map[string]string{"A": "1"})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, secret := range []string{"db", "none"} {
		if _, err := p.Source.Get(ctx, p.name(secret), ""); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: got %v", secret, err)
		}
	}
	if _, err := p.Source.List(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("list: got %v", err)
	}
}

// watching are the names that a watch has told of.
type watching struct {
	told  chan []source.Name
	ended chan error
	end   context.CancelFunc
}

func (p Place) watch(t *testing.T) *watching {
	ctx, cancel := context.WithCancel(context.Background())
	w := &watching{told: make(chan []source.Name, 10_000), ended: make(chan error, 1), end: cancel}
	go func() {
		w.ended <- p.Source.Watch(ctx, func(names ...source.Name) { w.told <- slices.Clone(names) })
	}()
	t.Cleanup(func() {
		cancel()
		w.finish(t)
	})
	return w
}

func (w *watching) finish(t *testing.T) {
	t.Helper()
	select {
	case err := <-w.ended:
		if !errors.Is(err, context.Canceled) {
			t.Errorf("the watch ended with %v", err)
		}
		w.ended <- err
	case <-time.After(patience):
		t.Error("the watch does not end")
	}
}

// until waits for a name, or for all.
func (w *watching) until(t *testing.T, name source.Name) {
	t.Helper()
	for timeout := time.After(patience); ; {
		select {
		case names := <-w.told:
			if len(names) == 0 || slices.Contains(names, name) {
				return
			}
		case err := <-w.ended:
			t.Fatalf("the watch ended with %v", err)
		case <-timeout:
			t.Fatalf("nothing is told of %s", name)
		}
	}
}

func testWatch(t *testing.T, p Place) {
	p.Set(t, p.name("first"), map[string]string{"A": "1"})
	w := p.watch(t)
	select {
	case names := <-w.told:
		if len(names) > 0 {
			t.Errorf("it begins with %v", names)
		}
	case <-time.After(patience):
		t.Fatal("it does not say that it watches")
	}
	for i := range 5 {
		p.Set(t, p.name("first"), map[string]string{"A": fmt.Sprint(i)})
		w.until(t, p.name("first"))
		p.Set(t, p.name("second"), map[string]string{"A": "1"})
		w.until(t, p.name("second"))
		p.Remove(t, p.name("second"))
		w.until(t, p.name("second"))
	}
}

func testWatchEnds(t *testing.T, p Place) {
	w := p.watch(t)
	w.until(t, p.name("any"))
	w.end()
	w.finish(t)
}

// Whoever reads what it is told of has, in the end, the last content of all secrets.
func testNothingMissed(t *testing.T, p Place) {
	const secrets, rounds = 5, 20
	w := p.watch(t)
	w.until(t, p.name("any"))
	done := make(chan struct{})
	go func() {
		defer close(done)
		for round := range rounds {
			for i := range secrets {
				name := p.name(fmt.Sprint("s", i))
				if round%7 == 6 {
					p.Remove(t, name)
				}
				p.Set(t, name, map[string]string{"A": fmt.Sprint(round)})
			}
		}
	}()
	t.Cleanup(func() { <-done })
	seen := map[string]bool{} // the last content
	for timeout := time.After(patience); ; {
		select {
		case names := <-w.told:
			for i := range secrets {
				if name := p.name(fmt.Sprint("s", i)); len(names) == 0 || slices.Contains(names, name) {
					seen[name.Secret] = p.holds(t.Context(), name.Secret, map[string]string{"A": fmt.Sprint(rounds - 1)})
				}
			}
		case <-timeout:
			t.Fatalf("what it was told of is up to date: %v", seen)
		}
		last := 0
		for _, ok := range seen {
			if ok {
				last++
			}
		}
		if last == secrets {
			return
		}
	}
}

// All keys are of one moment, also when they change while they are read.
func testNothingTorn(t *testing.T, p Place) {
	both := func(i int) map[string]string {
		return map[string]string{"A": fmt.Sprint(i), "B": fmt.Sprint(i)}
	}
	last := 0
	set := func() {
		last++
		p.Set(t, p.name("db"), both(last))
	}
	set()
	for burst := range 20 {
		written := make(chan struct{})
		go func() {
			defer close(written)
			for range burst {
				set()
			}
		}()
		got, err := p.Source.Get(t.Context(), p.name("db"), "")
		<-written
		switch {
		case errors.Is(err, inject.ErrNotFound):
			t.Fatal(err) // it is there all the time
		case err == nil && (!got.Data["A"].Equal(got.Data["B"]) || len(got.Data) != 2):
			t.Fatalf("keys are of different moments, or not all there: %s", shape(got.Data))
		}
		p.want(t, "db", both(last)) // now that it is left alone
	}
}
