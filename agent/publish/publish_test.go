package publish

import (
	"context"
	"errors"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/purserd/purser/runtime/forward"
)

// fake is a forwarder that can be made to fail and to hang.
type fake struct {
	mu      sync.Mutex
	ports   map[string][]forward.Port
	targets map[string][]forward.Target
	fails   error
	taken   forward.Port // somebody else has it
	calls   int
	hang    chan struct{} // calls wait for it to be closed, unless nil
}

func newFake() *fake {
	return &fake{ports: map[string][]forward.Port{}, targets: map[string][]forward.Target{}}
}

func (f *fake) call(ctx context.Context, do func()) error {
	f.mu.Lock()
	hang := f.hang
	f.mu.Unlock()
	if hang != nil {
		select {
		case <-hang:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls++
	if f.fails == nil {
		do()
	}
	return f.fails
}

func (f *fake) Claim(ctx context.Context, owner string, ports []forward.Port) error {
	f.mu.Lock()
	taken := f.taken
	f.mu.Unlock()
	if taken.Host != 0 && Has(ports, taken) {
		return &forward.TakenError{Port: taken, PID: 1}
	}
	return f.call(ctx, func() {
		for other, has := range f.ports {
			for _, p := range ports {
				if other != owner && Has(has, p) {
					panic("a port is claimed that another one has")
				}
			}
		}
		f.ports[owner] = ports
	})
}

func (f *fake) Point(ctx context.Context, owner string, targets []forward.Target) error {
	return f.call(ctx, func() { f.targets[owner] = targets })
}

func (f *fake) Release(ctx context.Context, owner string) error {
	return f.call(ctx, func() { delete(f.ports, owner); delete(f.targets, owner) })
}

func (f *fake) Owners(ctx context.Context) (all []string, err error) {
	err = f.call(ctx, func() { all = slices.Sorted(maps.Keys(f.ports)) })
	return all, err
}

func (f *fake) set(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
}

func (f *fake) has(t *testing.T, owner string, w Wish) {
	t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	if got := (Wish{f.ports[owner], f.targets[owner]}); !got.equal(w) {
		t.Errorf("%s has %+v, want %+v", owner, got, w)
	}
}

func (f *fake) count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.calls
}

// told collects what is told of trouble.
type told struct {
	mu  sync.Mutex
	all []string
}

func (l *told) trouble(owner string, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil {
		l.all = append(l.all, owner+": "+err.Error())
		return
	}
	l.all = append(l.all, owner+": well")
}

func port(host, container uint16) forward.Port {
	return forward.Port{Protocol: "tcp", Host: host, Container: container}
}

func at(instance string, ports ...forward.Port) Wish {
	return Wish{Ports: ports, Targets: []forward.Target{{Instance: instance, Addrs: []netip.Addr{netip.MustParseAddr("10.0.0.1")}}}}
}

// right is what is right for owners.
type right struct {
	mu  sync.Mutex
	all map[string]Wish
}

func (r *right) of(owner string) Wish {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.all[owner]
}

// bubble is a publisher, on a clock of its own, and what is around it.
type bubble struct {
	*testing.T
	*Publisher
	f *fake
	l *told
	r *right
}

// set says what is right for an owner from now on.
func (b bubble) set(owner string, w Wish) {
	b.r.mu.Lock()
	b.r.all[owner] = w
	b.r.mu.Unlock()
	b.Changed(owner, len(w.Ports) > 0)
}

func inBubble(t *testing.T, run func(b bubble)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		f, l, r := newFake(), &told{}, &right{all: map[string]Wish{}}
		p := New(Options{Forwarder: f, Right: r.of, Trouble: l.trouble})
		defer p.Close()
		run(bubble{t, p, f, l, r})
	})
}

func TestWhatIsRightNowCounts(t *testing.T) {
	inBubble(t, func(b bubble) {
		hang := make(chan struct{})
		b.f.set(func() { b.f.hang = hang })
		for _, instance := range []string{"one", "two", "three"} {
			b.set("a", at(instance, port(80, 8080)))
			synctest.Wait()
		}
		close(hang)
		synctest.Wait()
		b.f.has(b.T, "a", at("three", port(80, 8080)))
		if got := b.f.count(); got != 4 { // of the first and of the last
			b.Errorf("%d calls, want 4", got)
		}
		b.Changed("a", true)
		synctest.Wait()
		if got := b.f.count(); got != 4 {
			b.Errorf("what the forwarder does already took calls: %d", got)
		}
		b.set("a", Wish{})
		b.Changed("never had any", false)
		synctest.Wait()
		b.f.has(b.T, "a", Wish{})
		if len(b.owners) > 0 || len(b.l.all) > 0 {
			b.Errorf("left: %v, told: %v", b.owners, b.l.all)
		}
	})
}

func TestTriedAgain(t *testing.T) {
	inBubble(t, func(b bubble) {
		b.f.set(func() { b.f.fails = errors.New("port 80 is taken") })
		b.set("a", at("one", port(80, 8080)))
		<-time.After(time.Minute)
		synctest.Wait()
		if got := b.f.count(); got < 8 || got > 14 {
			b.Errorf("%d tries in a minute", got)
		}
		settled := make(chan error, 1)
		go func() { settled <- b.Settle(b.Context(), "a") }()
		synctest.Wait()
		select {
		case err := <-settled:
			b.Fatalf("settled, with %v, what is not done", err)
		default:
		}
		b.f.set(func() { b.f.fails = nil })
		if err := <-settled; err != nil {
			b.Error(err)
		}
		b.f.has(b.T, "a", at("one", port(80, 8080)))
		synctest.Wait() // it is told after who waits
		if want := []string{"a: port 80 is taken", "a: well"}; !slices.Equal(b.l.all, want) {
			b.Errorf("told %q, want %q", b.l.all, want)
		}
	})
}

// Settle waits for what was right when it was called, and for no longer than it may.
func TestSettle(t *testing.T) {
	inBubble(t, func(b bubble) {
		if err := b.Settle(b.Context(), "unknown"); err != nil {
			b.Errorf("of one that has no ports: %v", err)
		}
		b.f.set(func() { b.f.hang = make(chan struct{}) })
		b.set("a", at("one", port(80, 8080)))
		ctx, cancel := context.WithTimeout(b.Context(), time.Second)
		defer cancel()
		if err := b.Settle(ctx, "a"); !errors.Is(err, context.DeadlineExceeded) {
			b.Errorf("got %v", err)
		}
	})
}

// A forwarder that runs in the place of another one may lack what that had.
func TestRestarted(t *testing.T) {
	inBubble(t, func(b bubble) {
		right := at("one", port(80, 8080))
		b.set("a", right)
		synctest.Wait()
		b.f.set(func() { clear(b.f.ports) })
		b.Restarted()
		synctest.Wait()
		b.f.has(b.T, "a", right)

		// One that died while it was being told.
		hang := make(chan struct{})
		b.f.set(func() { b.f.hang = hang })
		right = at("two", port(80, 8080))
		b.set("a", right)
		synctest.Wait()
		b.Restarted()
		before := b.f.calls
		close(hang)
		synctest.Wait()
		b.f.has(b.T, "a", right)
		if told := b.f.calls - before; told != 4 { // a claim and where it leads, twice
			b.Errorf("told %d things", told)
		}
	})
}

func TestReserve(t *testing.T) {
	inBubble(t, func(b bubble) {
		before := at("one", port(80, 8080), port(81, 8081))
		b.set("a", before)
		synctest.Wait()
		end, err := b.Reserve(b.Context(), []Claim{{"a", []forward.Port{port(80, 9090), port(82, 9092)}}})
		if err != nil {
			b.Fatal(err)
		}
		// What the instance that serves has leads where it did, whatever happens meanwhile.
		during := Wish{append(slices.Clone(before.Ports), port(82, 9092)), before.Targets}
		b.f.has(b.T, "a", during)
		b.Changed("a", true)
		synctest.Wait()
		b.f.has(b.T, "a", during)
		end() // nothing has come of it
		synctest.Wait()
		b.f.has(b.T, "a", before)

		b.f.set(func() { b.f.fails = errors.New("taken") })
		if _, err := b.Reserve(b.Context(), []Claim{{"b", []forward.Port{port(80, 1)}}}); err == nil {
			b.Error("reserved what is taken")
		}
		b.f.set(func() { b.f.fails = nil })
		<-time.After(time.Minute)
		synctest.Wait()
		if len(b.owners) != 1 {
			b.Errorf("left: %v", b.owners)
		}
	})
}

// What is released for a workload that is no more does not take along what is reserved for
// the next of its name.
func TestReserveWhileReleased(t *testing.T) {
	inBubble(t, func(b bubble) {
		b.set("a", at("one", port(80, 8080)))
		synctest.Wait()
		hang := make(chan struct{})
		b.f.set(func() { b.f.hang = hang })
		b.set("a", Wish{})
		synctest.Wait()
		reserved := make(chan func())
		go func() {
			end, err := b.Reserve(b.Context(), []Claim{{"a", []forward.Port{port(80, 8080)}}})
			if err != nil {
				b.Error(err)
			}
			reserved <- end
		}()
		synctest.Wait()
		close(hang)
		end := <-reserved
		synctest.Wait()
		b.f.has(b.T, "a", Wish{Ports: []forward.Port{port(80, 8080)}})
		b.set("a", at("two", port(80, 8080)))
		end()
		synctest.Wait()
		b.f.has(b.T, "a", at("two", port(80, 8080)))
	})
}

// Two workloads can be given each other's ports at once.
func TestReserveSwap(t *testing.T) {
	inBubble(t, func(b bubble) {
		b.set("a", at("one", port(80, 8080)))
		b.set("b", at("two", port(81, 8080)))
		b.set("c", at("three", port(82, 8080)))
		synctest.Wait()
		end, err := b.Reserve(b.Context(), []Claim{{"a", []forward.Port{port(81, 8080)}}, {"b", []forward.Port{port(80, 8080)}}, {"c", nil}})
		if err != nil {
			b.Fatal(err)
		}
		b.f.has(b.T, "a", Wish{[]forward.Port{port(81, 8080)}, at("one").Targets})
		b.f.has(b.T, "b", Wish{[]forward.Port{port(80, 8080)}, at("two").Targets})
		b.f.has(b.T, "c", at("three", port(82, 8080))) // nobody wants it
		b.set("a", at("four", port(81, 8080)))
		b.set("b", at("five", port(80, 8080)))
		end()
		synctest.Wait()
		b.f.has(b.T, "a", at("four", port(81, 8080)))
		b.f.has(b.T, "b", at("five", port(80, 8080)))
	})
}

func TestPrune(t *testing.T) {
	inBubble(t, func(b bubble) {
		b.f.ports["gone"], b.f.ports["a"] = []forward.Port{port(1, 1)}, []forward.Port{port(2, 2)}
		b.r.all["a"] = at("one", port(2, 2))
		if err := b.Prune(b.Context()); err != nil {
			b.Fatal(err)
		}
		synctest.Wait()
		if got := slices.Collect(maps.Keys(b.f.ports)); !slices.Equal(got, []string{"a"}) {
			b.Errorf("%v have ports", got)
		}
	})
}

// A port that somebody else has does not keep the others from being served, nor anybody
// waiting, and is had as soon as it is free.
func TestTakenPortIsDoneWithout(t *testing.T) {
	inBubble(t, func(b bubble) {
		b.f.set(func() { b.f.taken = port(80, 1) })
		b.set("a", at("one", port(80, 8080), port(81, 8081)))
		synctest.Wait()
		b.f.has(b.T, "a", at("one", port(81, 8081)))
		if err := b.Settle(b.Context(), "a"); err != nil {
			b.Error(err)
		}
		// What changes meanwhile is not kept waiting.
		<-time.After(time.Minute)
		began := time.Now()
		b.set("a", at("two", port(80, 8080), port(81, 8081)))
		if err := b.Settle(b.Context(), "a"); err != nil || time.Since(began) > 0 {
			b.Errorf("after %v: %v", time.Since(began), err)
		}
		b.f.has(b.T, "a", at("two", port(81, 8081)))
		b.set("a", at("one", port(80, 8080), port(81, 8081)))
		synctest.Wait()
		// Another port in its place needs nothing of it.
		end, err := b.Reserve(b.Context(), []Claim{{"a", []forward.Port{port(82, 8082)}}})
		if err != nil {
			b.Fatal(err)
		}
		b.f.has(b.T, "a", Wish{[]forward.Port{port(81, 8081), port(82, 8082)}, at("one").Targets})
		end()
		b.f.set(func() { b.f.taken = forward.Port{} })
		<-time.After(time.Minute)
		synctest.Wait()
		b.f.has(b.T, "a", at("one", port(80, 8080), port(81, 8081)))
		if len(b.l.all) != 2 || b.l.all[1] != "a: well" {
			b.Errorf("told %q", b.l.all)
		}
	})
}

// A port that an earlier agent had claimed moves to another workload, although this one has
// not told the forwarder anything yet.
func TestReserveBeforeAnythingIsTold(t *testing.T) {
	inBubble(t, func(b bubble) {
		b.f.ports["a"], b.r.all["a"] = []forward.Port{port(80, 8080)}, at("one", port(80, 8080))
		end, err := b.Reserve(b.Context(), []Claim{{"a", nil}, {"b", []forward.Port{port(80, 8080)}}})
		if err != nil {
			b.Fatal(err)
		}
		b.f.has(b.T, "a", Wish{})
		b.f.has(b.T, "b", Wish{Ports: []forward.Port{port(80, 8080)}})
		b.r.all["a"] = Wish{}
		b.set("b", at("two", port(80, 8080)))
		end()
		synctest.Wait()
		b.f.has(b.T, "b", at("two", port(80, 8080)))
	})
}
