package supervise

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/purserd/purser/api/launchspec"
)

// world is a workload to which anything may happen that can: what does is picked.
type world struct {
	d    Desired
	s    Status
	now  time.Time
	ids  int
	pick func(n int) int // of 0 to n-1
	// entered is told of each change of state.
	entered func(from, to State)
	fail    func(format string, args ...any)
	// made are the containers that there are; promoting is the instance that is to take
	// over by an action that is under way.
	made      map[string]bool
	promoting string
	// base is what is wanted when no trial is, runs the newest run that was wanted.
	base Desired
	runs uint64
	// back is the instance that was healthy when a trial beside it was withdrawn, for as
	// long as nothing else is wanted.
	back string
	// abandoned is the instance of a withdrawn trial that is ended whatever it comes to.
	abandoned string
}

func newWorld(pick func(n int) int) *world {
	w := &world{d: service(), now: t0, pick: pick, entered: func(State, State) {}, s: Status{State: Pending}, made: map[string]bool{}}
	if w.chance() {
		w.d = job()
		w.d.Policy.Retries = uint32(pick(3))
		w.d.Policy.Timeout = time.Duration(pick(2)) * time.Minute
	}
	w.d.Policy.Restart = one(w, "always", "on_failure", "never")
	w.d.Policy.Startup, w.d.Policy.Ready, w.d.Policy.PreStop = w.chance(), w.chance(), w.chance()
	w.d.Policy.Rolling = !w.d.Policy.Job && w.pick(4) != 0
	w.d.Policy.MinReady = time.Duration(w.pick(2)) * 30 * time.Second
	w.d.Policy.HealthTimeout = w.d.Policy.MinReady + 20*time.Second
	w.base, w.runs = w.d, w.d.Run
	return w
}

func (w *world) chance() bool { return w.pick(2) == 0 }

func one[T any](w *world, of ...T) T { return of[w.pick(len(of))] }

func (w *world) set(s Status) {
	if before := w.s.State; before != s.State {
		w.entered(before, s.State)
	}
	w.s = s
}

// step does what is decided for each instance, well or badly.
func (w *world) step(well func() bool) {
	w.ids++
	before := w.s
	s, action, _ := Step(w.d, w.s, w.now, Chance{ID: fmt.Sprint(w.ids)})
	if had := before.Instance; had != nil && s.Instance != nil && had.ID != s.Instance.ID && !s.keeps(had) {
		w.fail("planned %s while %s exists", s.Instance.ID, had.ID)
	}
	s, keptAction, _ := keptStep(w.d, s, w.now)
	w.set(s)
	if k := s.Kept; k != nil && before.keeps(s.Instance) && s.Instance.Promoted {
		w.abandoned = k.Instance.ID
	}
	w.judge(before)
	w.judgeTrial(before)
	if action == Promote && !s.serves() {
		w.fail("an instance takes over in state %s", s.State)
	}
	if k := s.Kept; k != nil {
		w.perform(k.Instance.ID, keptAction, well)
	}
	if s.Instance != nil {
		w.perform(s.Instance.ID, action, well)
	}
}

// judge holds a decision against what a rolling change promises.
func (w *world) judge(before Status) {
	d, s := w.d, w.s
	over := d.Goal != Run || !d.Policy.Rolling || s.State == Completed
	if k := s.Kept; k != nil && !k.Instance.StopSince.IsZero() && before.keeps(k.Instance) && before.Kept.Instance.StopSince.IsZero() &&
		!over && k.Instance.Ending == nil && !s.Instance.Promoted {
		w.fail("the kept one is ended with none in its place: %+v", s.Instance)
	}
	served := before.serves() || before.ofKept().serves()
	if b := before.Instance; b != nil && !b.Revision.Policy.Rolling && before.Kept == nil {
		over = true // it may not run beside another
	}
	if i := s.Instance; i != nil && i.Ending != nil && i.Ending.Cause == Unhealthy {
		over = true // the trial fails, be the kept one there or not
	}
	if k := s.Kept; k != nil && k.Instance.ID == w.abandoned {
		over = true
	}
	if served && !over && !s.serves() && !s.ofKept().serves() {
		w.fail("of %+v and %+v, one of which served, neither does any more", before, before.ofKept())
	}
}

// fold has an outcome folded in, as the supervisor does.
func (w *world) fold(id string, action Action, apply func(d Desired, s Status) Status) {
	o := outcome{instance: id, action: action, apply: func(d Desired, s Status, _ time.Time) Status { return apply(d, s) }}
	before := w.s
	s, _ := o.into(w.d, w.s, w.now)
	w.set(s)
	w.judgeExit(before)
}

// of is the status of an instance.
func (w *world) of(id string) Status {
	if k := w.s.Kept; k != nil && k.Instance.ID == id {
		return *k
	}
	return w.s
}

func (w *world) perform(id string, action Action, well func() bool) {
	fold := func(apply func(d Desired, s Status) Status) { w.fold(id, action, apply) }
	switch action {
	case Start:
		if w.made[id] = true; len(w.made) > 2 || len(w.made) > 1 && !w.d.Policy.Rolling {
			w.fail("there are %v", w.made)
		}
		w.start(well)
	case Inspect:
		w.inspect(id)
	case Abort:
		fold(func(d Desired, s Status) Status { return aborted(d, s, w.now) })
	case Promote:
		w.promote(id, well)
	case PreStop:
		fold(func(_ Desired, s Status) Status { return preStopped(s) })
	case Signal:
		fold(func(_ Desired, s Status) Status { return signalled(s) })
		if well() {
			w.exit(id, 143)
		}
	case Kill:
		fold(func(_ Desired, s Status) Status { return killed(s, w.now) })
		if well() {
			w.exit(id, 137)
		}
	case Delete:
		delete(w.made, id)
		fold(func(_ Desired, s Status) Status { return deleted(s) })
	}
}

func (w *world) start(well func() bool) {
	if w.s.State == Pulling {
		w.set(entered(w.s, Creating, "", w.now))
	} else if w.chance() {
		w.set(entered(w.s, Pulling, "image x", w.now))
		switch w.pick(3) {
		case 0:
			w.set(startFailed(w.d, w.s, errors.New("no registry"), w.now, 0))
			return
		case 1:
			return // it takes longer
		}
		w.set(entered(w.s, Creating, "", w.now))
	}
	switch {
	case w.pick(4) == 0: // it takes longer
	case well():
		w.set(started(w.s, Started{PID: 1, Boot: "first"}, w.now))
	case w.chance():
		w.set(startFailed(w.d, w.s, &ExitError{Code: 127}, w.now, 0))
	default:
		w.set(startFailed(w.d, w.s, ErrGone, w.now, 0))
	}
}

// promote has an instance take over: in a while, or not.
func (w *world) promote(id string, well func() bool) {
	switch {
	case w.promoting != "":
	case well():
		w.promoting = id
	default:
		w.fold(id, Promote, func(_ Desired, s Status) Status { return held(s, w.now) })
	}
}

// takenOver completes that.
func (w *world) takenOver() {
	if id := w.promoting; id != "" {
		w.promoting = ""
		w.fold(id, Promote, func(_ Desired, s Status) Status { return promoted(s) })
	}
}

// running are the instances that run, as far as is known.
func (w *world) running() (ids []string) {
	for _, s := range []Status{w.s, w.s.ofKept()} {
		if i := s.Instance; i != nil && !i.Ended && !i.Unverified && !i.StartedAt.IsZero() {
			ids = append(ids, i.ID)
		}
	}
	return ids
}

func (w *world) exit(id string, code uint32) {
	w.fold(id, Wait, func(d Desired, s Status) Status {
		return exited(d, s, Exit{Code: code, Cause: Exited, StartedAt: s.Instance.StartedAt, FinishedAt: w.now, Instance: id}, w.now, 0)
	})
}

func (w *world) inspect(id string) {
	boot := w.of(id).Instance.Boot
	fold := func(apply func(d Desired, s Status) Status) { w.fold(id, Inspect, apply) }
	switch w.pick(5) {
	case 0:
		fold(func(d Desired, s Status) Status { return vanished(d, s, boot, w.now, 0) })
	case 1:
		fold(func(d Desired, s Status) Status { return vanished(d, s, "second", w.now, 0) })
	case 2:
		fold(func(_ Desired, s Status) Status { return held(s, w.now) })
	case 3:
		w.exit(id, one[uint32](w, 0, 1))
	default:
		fold(func(_ Desired, s Status) Status {
			return adopted(s, Found{Running: true, PID: 1, Boot: "first"}, w.now)
		})
	}
}

// probe has a probe of an instance find out something.
func (w *world) probe(id string) {
	p := Probed{Probe: one(w, launchspec.ProbeStartup, launchspec.ProbeReady, launchspec.ProbeReady, launchspec.ProbeLive), OK: w.chance()}
	// Package probe does not look whether what has not started up is ready.
	if s := w.of(id); s.State == Starting && p.Probe != launchspec.ProbeStartup || s.State != Starting && p.Probe == launchspec.ProbeStartup {
		return
	}
	w.fold(id, Wait, func(_ Desired, s Status) Status { return probed(s, p, w.now) })
}

// restart has the agent start anew. It has the policies of the specs, of which there are
// none here.
func (w *world) restart() {
	was := w.s
	w.promoting = ""
	w.set(FromRecord(w.s.Record()))
	if i := w.s.Instance; i != nil {
		i.Revision = was.Instance.Revision
	}
	if k := w.s.Kept; k != nil {
		k.Instance.Revision = was.Kept.Instance.Revision
	}
}

// wish asks for another run, mostly of another revision.
func (w *world) wish() {
	w.runs++
	w.d.Run, w.d.Trial, w.back = w.runs, false, ""
	r := *w.base.Revision
	r.Generation++
	if !r.Policy.Job && w.pick(4) == 0 {
		r.Policy.Rolling = !r.Policy.Rolling
	}
	w.d.Revision = &r
	w.base = w.d
}

// happen has one thing happen. As with the supervisor, a step follows all that has come
// about, before which there may only be another wish.
func (w *world) happen() {
	w.now = w.now.Add(time.Duration(w.pick(20)) * time.Second)
	switch w.pick(10) {
	case 0:
		w.wish()
	case 1, 2:
		w.try()
	case 3:
		w.back = ""
		w.d.Goal, w.d.Paused = one(w, Run, Run, Run, Stop, Pause), one(w, "", Drained)
	case 4:
		w.restart()
	case 5, 6, 7:
		w.comeAbout()
		one(w, func() {}, func() {}, w.wish, w.try)()
		w.step(w.chance)
	default:
		w.step(w.chance)
	}
}

// comeAbout has an instance end by itself, pass or fail a probe, or have taken over.
func (w *world) comeAbout() {
	running := w.running()
	switch what := w.pick(3); {
	case what == 0:
		w.takenOver()
	case len(running) == 0:
	case what == 1:
		w.exit(one(w, running...), one[uint32](w, 0, 1))
	default:
		w.probe(one(w, running...))
	}
}

// Whatever happens in whatever order, an instance is never planned while another
// exists, but in a rolling change; there are never three; none is ended there before
// another has taken over from it; and a workload that is told to stop does.
func TestStepProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(func(n int) int { return rapid.IntRange(0, n-1).Draw(t, "pick") })
		w.fail = t.Fatalf
		for range rapid.IntRange(1, 80).Draw(t, "things") {
			w.happen()
		}
		w.d.Goal = Stop
		for n := range 20 {
			w.now = w.now.Add(30 * time.Second)
			w.step(func() bool { return n%2 == 0 })
		}
		if w.s.Instance != nil || w.s.Kept != nil || len(w.made) > 0 || !w.s.State.Ended() {
			t.Fatalf("told to stop, it is %s with %+v, %+v and %v", w.s.State, w.s.Instance, w.s.ofKept().Instance, w.made)
		}
	})
}

// documented are the transitions in the package's comment, as "from → to".
func documented(t *testing.T) []string {
	t.Helper()
	text, err := os.ReadFile("doc.go")
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, line := range regexp.MustCompile(`(?m)^//\t(\w+) +→ (.*)$`).FindAllStringSubmatch(string(text), -1) {
		for to := range strings.SplitSeq(line[2], ", ") {
			all = append(all, line[1]+" → "+to)
		}
	}
	return all
}

// The transitions in the package's comment are those that there are, and all of them.
func TestTransitionsAreDocumented(t *testing.T) {
	seen := map[string]bool{}
	random := rand.New(rand.NewPCG(1, 2))
	for range 20_000 {
		w := newWorld(random.IntN)
		w.fail = t.Fatalf
		w.entered = func(from, to State) { seen[fmt.Sprintf("%s → %s", from, to)] = true }
		for range 40 {
			w.happen()
		}
		w.d.Goal = Remove
		for range 10 {
			w.now = w.now.Add(30 * time.Second)
			w.step(w.chance)
		}
	}
	for range 5_000 {
		w := newWorld(random.IntN)
		w.fail = t.Fatalf
		w.entered = func(from, to State) { seen[fmt.Sprintf("%s → %s", from, to)] = true }
		w.toAndFro()
	}
	seen[backFromCompleted()] = true
	known := documented(t)
	for transition := range seen {
		if !slices.Contains(known, transition) {
			t.Errorf("%s happens, and is not documented", transition)
		}
	}
	for _, transition := range known {
		if !seen[transition] {
			t.Errorf("%s is documented, and does not happen", transition)
		}
	}
	text, err := os.ReadFile("doc.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range States {
		if !strings.Contains(string(text), "//\t"+string(s)+" ") {
			t.Errorf("state %s is not documented", s)
		}
	}
}
