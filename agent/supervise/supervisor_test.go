package supervise

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// node is a container runtime in memory, for timelines under synctest: what
// containers do there is decided by the test, when they do it by the fake clock.
// The real one is tested in package runtime and end to end.
type node struct {
	mu          sync.Mutex
	down        bool          // nothing can be reached
	startErr    error         // of every start
	lifetime    time.Duration // containers exit by themselves after it; 0: never
	code        uint32
	stubborn    bool          // the stop signal is ignored
	hangs       bool          // sending it never returns
	preStop     time.Duration // how long the command before it takes
	preStops    int
	probes      map[string]func(Probed) // of instances that are being probed
	probings    int
	startedUp   bool            // what the latest probing was told
	creating    func(id string) // unless nil, is told of every instance before it is started
	boot        string
	surely      bool // a start is completed although it is called off
	slowStart   time.Duration
	slowPull    time.Duration          // 0: the image is there
	exits       map[string]chan uint32 // of running containers
	started     []string
	beside      bool  // two instances may run at once
	promoteErr  error // of every Promote
	slowPromote time.Duration
	promotes    []string
	signals     []string
	kills       int
	deleted     []string
}

func newNode() *node {
	return &node{exits: map[string]chan uint32{}, probes: map[string]func(Probed){}, boot: "first"}
}

var errDown = errors.New("containerd is unavailable")

func (n *node) Start(ctx context.Context, id string, _ *Revision, enter func(State, string)) (Started, error) {
	n.mu.Lock()
	down, err, slow, pull, creating := n.down, n.startErr, n.slowStart, n.slowPull, n.creating
	n.mu.Unlock()
	if creating != nil {
		creating(id)
	}
	if down {
		return Started{}, errDown
	}
	if pull > 0 {
		enter(Pulling, "image x")
		select {
		case <-time.After(pull):
		case <-ctx.Done():
			return Started{}, ctx.Err()
		}
		enter(Creating, "")
	}
	select {
	case <-time.After(slow):
	case <-ctx.Done():
		if !n.surely {
			return Started{}, ctx.Err()
		}
		<-time.After(time.Second)
	}
	if err != nil {
		return Started{}, err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.exits) > 1 || len(n.exits) > 0 && !n.beside {
		panic("a second instance was started beside the first")
	}
	exit := make(chan uint32, 1)
	n.exits[id] = exit
	n.started = append(n.started, id)
	if n.lifetime > 0 {
		code := n.code
		time.AfterFunc(n.lifetime, func() { n.end(id, code) })
	}
	return Started{PID: 7, ImageDigest: "sha256:x", Boot: n.boot}, nil
}

// end makes a running container exit.
func (n *node) end(id string, code uint32) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if exit, ok := n.exits[id]; ok {
		delete(n.exits, id)
		exit <- code
		close(exit)
	}
}

func (n *node) Wait(ctx context.Context, id string) (Exit, error) {
	n.mu.Lock()
	exit, ok := n.exits[id]
	down := n.down
	n.mu.Unlock()
	if down {
		return Exit{}, errDown
	}
	if !ok {
		return Exit{}, ErrGone
	}
	select {
	case code := <-exit:
		return Exit{Code: code, Cause: Exited, Reason: ExitReason(code), FinishedAt: time.Now()}, nil
	case <-ctx.Done():
		return Exit{}, ctx.Err()
	}
}

func (n *node) Probe(ctx context.Context, id string, _ *Revision, startedUp bool, report func(Probed)) {
	n.set(func(n *node) { n.probes[id], n.startedUp = report, startedUp; n.probings++ })
	<-ctx.Done()
	n.set(func(n *node) { delete(n.probes, id) })
}

// probe reports what a probe of the only instance has found out.
func (n *node) probe(p Probed) {
	n.mu.Lock()
	var report func(Probed)
	for _, report = range n.probes {
	}
	n.mu.Unlock()
	report(p)
}

// probed is how many instances are being probed.
func (n *node) probed() int {
	synctest.Wait()
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.probes)
}

func (n *node) Promote(ctx context.Context, id string) error {
	n.mu.Lock()
	slow, err := n.slowPromote, n.promoteErr
	n.promotes = append(n.promotes, id)
	n.mu.Unlock()
	select {
	case <-time.After(slow):
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (n *node) PreStop(ctx context.Context, _ string, _ *Revision) error {
	n.set(func(n *node) { n.preStops++ })
	select {
	case <-time.After(n.preStop):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (n *node) Stop(ctx context.Context, id string, _ *Revision) error {
	n.mu.Lock()
	stubborn, hangs := n.stubborn, n.hangs
	n.signals = append(n.signals, id)
	n.mu.Unlock()
	if hangs {
		<-ctx.Done()
		return ctx.Err()
	}
	if !stubborn {
		n.end(id, 143)
	}
	return nil
}

func (n *node) Kill(_ context.Context, id string) error {
	n.mu.Lock()
	n.kills++
	n.mu.Unlock()
	n.end(id, 137)
	return nil
}

func (n *node) Delete(_ context.Context, id string) error {
	n.end(id, 137)
	n.mu.Lock()
	defer n.mu.Unlock()
	n.deleted = append(n.deleted, id)
	return nil
}

func (n *node) Inspect(_ context.Context, id string) (Found, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.down {
		return Found{}, errDown
	}
	if _, ok := n.exits[id]; ok {
		return Found{Running: true, PID: 7, Boot: n.boot}, nil
	}
	return Found{Boot: n.boot}, ErrGone
}

func (n *node) set(change func(*node)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	change(n)
}

func (n *node) starts() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.started)
}

// memory is a journal.
type memory struct {
	mu     sync.Mutex
	status Status
	gone   bool
	err    error // of every SaveStatus
	// superseded happens while the record is being forgotten.
	superseded func()
}

func (m *memory) SaveStatus(s Status) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err != nil {
		return m.err
	}
	m.status = s
	return nil
}

// instance is the one on record; empty for none.
func (m *memory) instance() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.status.Instance == nil {
		return ""
	}
	return m.status.Instance.ID
}

func (m *memory) fail(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.err = err
}

func (m *memory) Forget(Desired) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.superseded != nil {
		m.superseded()
		m.superseded = nil
		return ErrSuperseded
	}
	m.gone = true
	return nil
}

// rig is a supervisor at work on a node.
type rig struct {
	*Supervisor
	t      *testing.T
	node   *node
	memory *memory
	cancel func()
	done   chan struct{}
}

func begin(t *testing.T, n *node, d Desired, s Status) *rig {
	ctx, cancel := context.WithCancel(context.Background())
	m := &memory{status: s}
	r := &rig{t: t, node: n, memory: m, cancel: cancel, done: make(chan struct{})}
	r.Supervisor = New(d, s, n, m, func(View, View) {}, slog.New(slog.DiscardHandler))
	go func() { defer close(r.done); r.Run(ctx) }()
	synctest.Wait()
	return r
}

// end stops the supervisor, as an agent that ends does.
func (r *rig) end() {
	r.cancel()
	<-r.done
}

func (r *rig) is(want State) {
	r.t.Helper()
	synctest.Wait()
	if v, _ := r.View(); v.Status.State != want {
		r.t.Fatalf("state %s (%s), want %s", v.Status.State, v.Status.Reason, want)
	}
}

func (r *rig) goal(g Goal) {
	v, _ := r.View()
	v.Desired.Goal = g
	r.Want(v.Desired)
	synctest.Wait()
}

func TestServiceComesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode()
		n.lifetime, n.code = 10*time.Second, 1
		r := begin(t, n, service(), Begin(service()))
		r.is(Running)
		<-time.After(10 * time.Second)
		r.is(BackingOff)
		<-time.After(time.Second)
		r.is(Running)
		v, _ := r.View()
		if v.Status.Restarts != 1 || v.Status.LastExit.Code != 1 || v.Status.Previous == "" {
			t.Errorf("unexpected %+v", v.Status)
		}
		r.end()
	})
}

func TestStopKillsAfterGrace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode()
		n.stubborn = true
		r := begin(t, n, service(), Begin(service()))
		r.goal(Stop)
		<-time.After(9 * time.Second)
		r.is(Stopping)
		<-time.After(time.Second)
		r.is(Stopped)
		if n.kills != 1 || len(n.deleted) != 1 {
			t.Errorf("%d kills, %d deletes", n.kills, len(n.deleted))
		}
		r.end()
	})
}

func TestRemoveForgets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := begin(t, newNode(), service(), Begin(service()))
		r.goal(Remove)
		<-r.done
		if v, _ := r.View(); !v.Gone || !r.memory.gone {
			t.Error("not forgotten")
		}
	})
}

func TestNewestWishWins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode()
		n.slowStart = time.Second // none is over before all have been wished for
		r := begin(t, n, service(), Begin(service()))
		d := service()
		for run := uint64(2); run <= 50; run++ {
			d.Run = run
			r.Want(d)
		}
		<-time.After(time.Minute)
		r.is(Running)
		if v, _ := r.View(); v.Status.Run != 50 {
			t.Errorf("run %d", v.Status.Run)
		}
		if got := n.starts(); got > 1 {
			t.Errorf("50 wishes at once started %d instances", got)
		}
		r.end()
	})
}

func TestStopCancelsASlowStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode()
		n.slowStart = time.Hour
		r := begin(t, n, service(), Begin(service()))
		r.goal(Stop)
		r.is(Stopped)
		if n.starts() != 0 {
			t.Error("it was started all the same")
		}
		r.end()
	})
}

// A pull is part of a start: seen while it lasts, and called off with it.
func TestPullIsPartOfAStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode()
		n.slowPull, n.slowStart = time.Minute, time.Second
		r := begin(t, n, service(), Begin(service()))
		r.is(Pulling)
		if v, _ := r.View(); v.Status.Reason != "image x" || v.Status.Instance == nil {
			t.Errorf("unexpected %+v", v.Status)
		}
		<-time.After(time.Minute)
		r.is(Creating)
		<-time.After(time.Second)
		r.is(Running)
		r.end()

		n = newNode()
		n.slowPull = time.Hour
		r = begin(t, n, service(), Begin(service()))
		r.is(Pulling)
		r.goal(Stop)
		r.is(Stopped)
		if v, _ := r.View(); v.Status.Reason != "stopped on request: before it had started" || n.starts() != 0 {
			t.Errorf("unexpected %+v", v.Status)
		}
		d := service()
		d.Run = 2
		r.Want(d)
		r.is(Pulling)
		d.Run = 3
		r.Want(d)
		r.is(Pulling)
		if v, _ := r.View(); v.Status.Run != 3 {
			t.Errorf("unexpected %+v", v.Status)
		}
		r.end()
	})
}

func TestContainerdAbsentThenThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode()
		n.down = true
		d := job()
		r := begin(t, n, d, Begin(d))
		r.is(BackingOff)
		<-time.After(time.Hour)
		r.is(BackingOff)
		n.set(func(n *node) { n.down = false })
		<-time.After(time.Minute)
		r.is(Running)
		if v, _ := r.View(); v.Status.Attempts != 1 {
			t.Errorf("being unable to start cost %d attempts", v.Status.Attempts)
		}
		r.end()
	})
}

func TestAgentRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode()
		r := begin(t, n, service(), Begin(service()))
		r.is(Running)
		r.end()
		r = begin(t, n, service(), FromRecord(r.memory.status.Record()))
		r.is(Running)
		if n.starts() != 1 || len(n.deleted) != 0 {
			t.Errorf("what ran was touched: %d starts, %d deletes", n.starts(), len(n.deleted))
		}
		n.end(n.started[0], 3)
		r.is(BackingOff)
		if v, _ := r.View(); v.Status.LastExit.Code != 3 {
			t.Errorf("exit %+v", v.Status.LastExit)
		}
		r.end()
	})
}

func TestAgentRestartWhileContainerdIsAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode()
		r := begin(t, n, service(), Begin(service()))
		r.end()
		n.set(func(n *node) { n.down = true })
		r = begin(t, n, service(), FromRecord(r.memory.status.Record()))
		<-time.After(time.Minute)
		r.is(Running)
		n.set(func(n *node) { n.down = false })
		<-time.After(5 * time.Second)
		r.is(Running)
		if n.starts() != 1 {
			t.Errorf("%d starts", n.starts())
		}
		r.end()
	})
}

func TestVanishedWhileTheAgentWasAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode()
		r := begin(t, n, service(), Begin(service()))
		r.end()
		n.end(n.started[0], 0)
		<-time.After(time.Second)
		r = begin(t, n, service(), FromRecord(r.memory.status.Record()))
		r.is(BackingOff)
		if v, _ := r.View(); v.Status.LastExit.Code != Unknown {
			t.Errorf("exit %+v", v.Status.LastExit)
		}
		<-time.After(time.Second)
		r.is(Running)
		r.end()
	})
}

func TestPauseKeepsWhatIsWanted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode()
		r := begin(t, n, service(), Begin(service()))
		r.goal(Pause)
		r.is(Pending)
		r.end()
		r = begin(t, n, service(), FromRecord(r.memory.status.Record()))
		r.is(Running)
		r.end()
	})
}

func TestJobRetriesThenFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode()
		n.lifetime, n.code = time.Second, 9
		d := job()
		d.Policy.Retries = 2
		r := begin(t, n, d, Begin(d))
		v, err := r.WaitFor(t.Context(), func(v View) bool { return v.Status.State == Failed })
		if err != nil || n.starts() != 3 || v.Status.Reason != "exited with status 9; 3 attempts failed" {
			t.Errorf("%v, %d starts, %q", err, n.starts(), v.Status.Reason)
		}
		r.end()
	})
}

// A stop signal that hangs does not keep SIGKILL from being sent.
func TestHungSignalIsFollowedByKill(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode()
		n.hangs = true
		r := begin(t, n, service(), Begin(service()))
		r.goal(Stop)
		<-time.After(10 * time.Second)
		r.is(Stopped)
		if n.kills != 1 {
			t.Errorf("%d kills", n.kills)
		}
		r.end()
	})
}

// A start that cannot be called off any more is waited for, then stopped: until
// then nobody is told that the workload has ended.
func TestStartThatSucceedsAlthoughItIsCalledOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode()
		n.slowStart, n.surely = time.Hour, true
		r := begin(t, n, service(), Begin(service()))
		r.goal(Stop)
		r.is(Stopping)
		if v, _ := r.View(); v.Status.Instance == nil || v.Status.Instance.Ended {
			t.Error("it counts as ended while it is being started")
		}
		<-time.After(time.Second)
		r.is(Stopped)
		if len(n.deleted) != 1 || len(n.exits) != 0 {
			t.Errorf("deleted %v, still running %v", n.deleted, n.exits)
		}
		r.end()
	})
}

// What is wanted again while it is being forgotten is started, not lost.
func TestWantedWhileBeingForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode()
		n.lifetime = time.Second
		d := job()
		d.Policy.TTL = time.Minute
		r := begin(t, n, d, Begin(d))
		again := d
		again.Run++
		r.memory.mu.Lock()
		r.memory.superseded = func() { r.Want(again) }
		r.memory.mu.Unlock()
		<-time.After(time.Minute + 2*time.Second)
		if _, err := r.WaitFor(t.Context(), func(v View) bool { return v.Status.Run == 2 && v.Status.State == Completed }); err != nil || n.starts() != 2 {
			t.Errorf("%v, %d starts", err, n.starts())
		}
		r.end()
	})
}

// Being unable to start counts neither as a restart nor as an attempt.
func TestDeferredStartsAreNoRestarts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode()
		n.lifetime, n.code = time.Second, 1
		r := begin(t, n, service(), Begin(service()))
		<-time.After(time.Second)
		n.set(func(n *node) { n.down = true })
		<-time.After(10 * time.Minute)
		n.set(func(n *node) { n.down, n.lifetime = false, 0 })
		<-time.After(2 * time.Minute)
		r.is(Running)
		if v, _ := r.View(); v.Status.Restarts != 1 || v.Status.Previous != n.started[0] {
			t.Errorf("%d restarts, previous %q of %v", v.Status.Restarts, v.Status.Previous, n.started)
		}
		r.end()
	})
}
