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
}

func newWorld(pick func(n int) int) *world {
	w := &world{d: service(), now: t0, pick: pick, entered: func(State, State) {}, s: Status{State: Pending}}
	if w.chance() {
		w.d = job()
		w.d.Policy.Retries = uint32(pick(3))
		w.d.Policy.Timeout = time.Duration(pick(2)) * time.Minute
	}
	w.d.Policy.Restart = one(w, "always", "on_failure", "never")
	w.d.Policy.Startup, w.d.Policy.Ready, w.d.Policy.PreStop = w.chance(), w.chance(), w.chance()
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

// step does what is decided, well or badly.
func (w *world) step(well func() bool) {
	w.ids++
	had := w.s.Instance
	s, action, _ := Step(w.d, w.s, w.now, Chance{ID: fmt.Sprint(w.ids)})
	if had != nil && s.Instance != nil && had.ID != s.Instance.ID {
		w.fail("planned %s while %s exists", s.Instance.ID, had.ID)
	}
	w.set(s)
	switch action {
	case Start:
		w.start(well)
	case Inspect:
		w.inspect()
	case Abort:
		w.set(aborted(w.d, w.s, w.now))
	case PreStop:
		w.set(preStopped(w.s))
	case Signal:
		w.set(signalled(w.s))
		if well() {
			w.exit(143)
		}
	case Kill:
		w.set(killed(w.s, w.now))
		if well() {
			w.exit(137)
		}
	case Delete:
		w.set(deleted(w.s))
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

func (w *world) runs() bool {
	i := w.s.Instance
	return i != nil && !i.Ended && !i.Unverified && !i.StartedAt.IsZero()
}

func (w *world) exit(code uint32) {
	i := w.s.Instance
	w.set(exited(w.d, w.s, Exit{Code: code, Cause: Exited, StartedAt: i.StartedAt, FinishedAt: w.now, Instance: i.ID}, w.now, 0))
}

func (w *world) inspect() {
	i := w.s.Instance
	switch w.pick(5) {
	case 0:
		w.set(vanished(w.d, w.s, i.Boot, w.now, 0))
	case 1:
		w.set(vanished(w.d, w.s, "second", w.now, 0))
	case 2:
		w.set(held(w.s, w.now))
	case 3:
		w.exit(one[uint32](w, 0, 1))
	default:
		w.set(adopted(w.s, Found{Running: true, PID: 1, Boot: "first"}, w.now))
	}
}

// happen has one thing happen.
func (w *world) happen() {
	w.now = w.now.Add(time.Duration(w.pick(20)) * time.Second)
	switch w.pick(8) {
	case 0:
		w.d.Run++
	case 1:
		w.d.Goal, w.d.Paused = one(w, Run, Run, Stop, Pause), one(w, "", Drained)
	case 2:
		if w.runs() {
			w.exit(one[uint32](w, 0, 1))
		}
	case 3:
		if w.runs() {
			p := Probed{Probe: one(w, launchspec.ProbeStartup, launchspec.ProbeReady, launchspec.ProbeLive), OK: w.chance()}
			// Package probe does not look whether what has not started up is ready.
			if w.s.State == Starting && p.Probe != launchspec.ProbeStartup || w.s.State != Starting && p.Probe == launchspec.ProbeStartup {
				return
			}
			w.set(probed(w.s, p, w.now))
		}
	case 4:
		// An agent that is started anew has the policy of the spec, of which there is none here.
		policies := []*Revision{w.d.Revision, w.d.Revision}
		if w.s.Instance != nil {
			policies[1] = w.s.Instance.Revision
		}
		w.set(FromRecord(w.s.Record()))
		if w.s.Instance != nil {
			w.s.Instance.Revision = policies[1]
		}
	default:
		w.step(w.chance)
	}
}

// Whatever happens in whatever order, an instance is never planned while another
// exists, and a workload that is told to stop does.
func TestStepProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(func(n int) int { return rapid.IntRange(0, n-1).Draw(t, "pick") })
		w.fail = t.Fatalf
		for range rapid.IntRange(1, 60).Draw(t, "things") {
			w.happen()
		}
		w.d.Goal = Stop
		for n := range 20 {
			w.now = w.now.Add(30 * time.Second)
			w.step(func() bool { return n%2 == 0 })
		}
		if w.s.Instance != nil || !w.s.State.Ended() {
			t.Fatalf("told to stop, it is %s with %+v", w.s.State, w.s.Instance)
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
		for range 30 {
			w.happen()
		}
		w.d.Goal = Remove
		for range 10 {
			w.now = w.now.Add(30 * time.Second)
			w.step(w.chance)
		}
	}
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
