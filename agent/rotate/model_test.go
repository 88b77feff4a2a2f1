package rotate_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/purserd/purser/agent/rotate"
	purserv1 "github.com/purserd/purser/api/purser/v1"
)

// world is a node whose workloads use two secrets in different ways, and to which anything
// may happen at any time. Versions are good or bad for those who use a key of them that
// another version had otherwise.
type world struct {
	*rapid.T
	planner *rotate.Planner
	config  rotate.Config
	book    rotate.Book
	now     time.Time
	all     []*subject
	// content is the value of each key in each version of each secret, and bad the versions
	// with which instances fail.
	content map[string][]map[string]int
	bad     map[string]map[uint32]bool
	begun   int
	plan    rotate.Plan
}

type subject struct {
	rotate.Workload
	// uses are the keys that it uses of each secret, fixed what it names by number.
	uses  map[string][]string
	fixed map[string]bool
	pins  map[string]uint32
	// ends is when the trial's result is known.
	ends time.Time
	// judged is its health when the trial began.
	judged rotate.Health
}

var secretNames = []string{"a", "b"}

func newWorld(t *rapid.T) *world {
	w := &world{
		T: t, now: start, content: map[string][]map[string]int{}, bad: map[string]map[uint32]bool{"a": {}, "b": {}},
		config: rotate.Config{Quiet: time.Second, MaxDelay: 10 * time.Second, MaxParallel: rapid.IntRange(1, 4).Draw(t, "max_parallel")},
	}
	w.planner = rotate.NewPlanner(w.config, func() float64 { return rapid.Float64Range(0, 0.999).Draw(t, "random") })
	for _, name := range secretNames {
		w.content[name] = []map[string]int{{"K": 0, "L": 0}}
	}
	for i := range rapid.IntRange(1, 12).Draw(t, "workloads") {
		s := &subject{uses: map[string][]string{}, fixed: map[string]bool{}, pins: map[string]uint32{}}
		s.Key = fmt.Sprintf("w%02d", i)
		s.Who = rotate.Who{Environment: "dev", App: rapid.SampledFrom([]string{"x", "y"}).Draw(t, "app"), Workload: s.Key}
		s.Moves, s.Health = true, rotate.Healthy
		s.Splay = time.Duration(rapid.IntRange(0, 5).Draw(t, "splay")) * time.Second
		for _, name := range secretNames {
			if keys := rapid.SampledFrom([][]string{nil, {"K"}, {"K", "L"}}).Draw(t, "keys"); keys != nil {
				s.uses[name], s.pins[name] = keys, 1
				s.fixed[name] = rapid.IntRange(0, 9).Draw(t, "fixed") == 0
			}
		}
		w.all = append(w.all, s)
	}
	return w
}

// touched are the keys that a workload uses and that differ.
func (w *world) touched(s *subject, name string, from, to uint32) (keys []string) {
	for _, key := range s.uses[name] {
		if w.content[name][from-1][key] != w.content[name][to-1][key] {
			keys = append(keys, name+"/"+key)
		}
	}
	return keys
}

// aim works out where each workload is to move.
func (w *world) aim() []*rotate.Workload {
	var facts []*rotate.Workload
	for _, s := range w.all {
		versions := map[string][]uint32{}
		for name := range s.uses {
			for v := len(w.content[name]); v > 0; v-- {
				versions[name] = append(versions[name], uint32(v))
			}
		}
		latest := w.book.Choose("dev", versions)
		m := &rotate.Move{Mode: rotate.ModeRestart}
		for _, name := range secretNames {
			if s.uses[name] == nil {
				continue
			}
			pin := &purserv1.Pin{Secret: name, Version: s.pins[name]}
			if to := latest[name]; to > pin.GetVersion() && !s.fixed[name] {
				if keys := w.touched(s, name, pin.GetVersion(), to); keys != nil {
					m.Keys = append(m.Keys, keys...)
					m.Set = append(m.Set, &purserv1.Pin{Secret: name, Version: to})
				}
				pin.Version = to
			}
			m.Pins = append(m.Pins, pin)
		}
		if s.Move = m; len(m.Set) == 0 {
			s.Move = nil
		}
		w.result(s)
		facts = append(facts, &s.Workload)
	}
	return facts
}

// result ends trials whose time has come.
func (w *world) result(s *subject) {
	if s.Trial == nil || s.ends.After(w.now) {
		return
	}
	s.Trial.Result = rotate.Well
	for _, p := range s.Trial.GetSet() {
		if w.bad[p.GetSecret()][p.GetVersion()] {
			s.Trial.Result, s.Trial.Reason = rotate.Failed, "bad"
		}
	}
}

// run plans and carries out, and checks what must hold at any time.
func (w *world) run() {
	for range 200 {
		w.plan = w.planner.Plan(w.aim(), w.book, w.now)
		if len(w.plan.Actions) == 0 {
			w.check()
			return
		}
		for _, a := range w.plan.Actions {
			w.do(a)
		}
		w.check()
	}
	w.Fatalf("it does not come to rest: %v", w.plan.Actions)
}

func (w *world) do(a rotate.Action) {
	s := w.all[slices.IndexFunc(w.all, func(s *subject) bool { return s.Key == a.Workload.Key })]
	w.book = a.Learn(w.book)
	switch a.Kind {
	case rotate.Begin:
		w.begun++
		if s.Trial == nil {
			s.judged = s.Health
		}
		s.Trial, s.Returning = &rotate.Trial{Trial: a.Trial}, time.Time{}
		s.ends = w.now.Add(time.Duration(rapid.IntRange(0, 3).Draw(w.T, "takes")) * time.Second)
		w.allowed(s)
	case rotate.Commit:
		for _, p := range s.Trial.GetPins() {
			s.pins[p.GetSecret()] = p.GetVersion()
		}
		s.Trial, s.Health = nil, rotate.Healthy
	case rotate.Withdraw:
		s.Trial = nil
		s.Returning = w.now.Add(time.Duration(rapid.IntRange(0, 3).Draw(w.T, "returns in")) * time.Second)
	case rotate.Condemn:
		w.Fatalf("nothing is broken here")
	}
	if v := a.Verdict; v != nil && v.GetApp() == "" && s.judged != rotate.Healthy {
		w.Fatalf("%s, which was not well, has condemned %v", s.Key, v)
	}
}

// allowed checks what a workload begins to try.
func (w *world) allowed(s *subject) {
	for _, p := range s.Trial.GetSet() {
		if w.book.Held("dev", p.GetSecret(), p.GetVersion()) || w.book.Quarantine("dev", p.GetSecret(), p.GetVersion()) != nil {
			w.Fatalf("%s tries %v, which it must not", s.Key, p)
		}
		if s.fixed[p.GetSecret()] {
			w.Fatalf("%s tries %v, and wants another by its number", s.Key, p)
		}
	}
	for _, v := range w.book.Record().GetVerdicts() {
		all := !slices.ContainsFunc(v.GetSet(), func(p *purserv1.Pin) bool {
			return !slices.ContainsFunc(s.Trial.GetSet(), func(q *purserv1.Pin) bool { return q.GetSecret() == p.GetSecret() && q.GetVersion() == p.GetVersion() })
		})
		mine := (v.GetApp() == "" || v.GetApp() == s.App) && (v.GetWorkload() == "" || v.GetWorkload() == s.Key)
		if all && mine {
			w.Fatalf("%s tries %v against %v", s.Key, s.Trial.GetSet(), v)
		}
	}
}

func (w *world) check() {
	moving, canaries := 0, map[string]int{}
	for _, s := range w.all {
		if s.Trial == nil && s.Returning.After(w.now) {
			moving++
		}
		if s.Trial == nil {
			continue
		}
		moving++
		if s.Trial.GetCanary() {
			canaries[fmt.Sprint(s.App, s.Trial.GetKeys(), s.Trial.GetSet())]++
		}
	}
	if moving > w.config.MaxParallel {
		w.Fatalf("%d move at a time", moving)
	}
	for group, n := range canaries {
		if n > 1 {
			w.Fatalf("%d go first of %s", n, group)
		}
	}
}

// happen has one thing happen.
func (w *world) happen() {
	name := rapid.SampledFrom(secretNames).Draw(w.T, "secret")
	s := rapid.SampledFrom(w.all).Draw(w.T, "workload")
	switch rapid.IntRange(0, 9).Draw(w.T, "what") {
	case 0, 1, 2:
		next := map[string]int{}
		for key, value := range w.content[name][len(w.content[name])-1] {
			next[key] = value + rapid.IntRange(0, 1).Draw(w.T, "changes")
		}
		w.content[name] = append(w.content[name], next)
		w.bad[name][uint32(len(w.content[name]))] = rapid.IntRange(0, 2).Draw(w.T, "bad") == 0
		w.planner.Notice("dev", name, w.now)
	case 3:
		w.book = w.book.WithHold(hold("dev", name, uint32(rapid.IntRange(1, len(w.content[name])+1).Draw(w.T, "from"))))
	case 4:
		w.book = w.book.WithoutHold("dev", name)
	case 5:
		w.book, _ = w.book.Acquit("dev", name)
	case 6:
		s.Moves = !s.Moves
	case 7:
		s.Health = rapid.SampledFrom([]rotate.Health{rotate.Healthy, rotate.Healthy, rotate.Unhealthy, rotate.Unsettled}).Draw(w.T, "health")
	case 8: // what serves beside the instance that tries ends
		if s.Trial != nil {
			s.Trial.Alone = true
		}
	case 9: // the agent is another one
		w.planner = rotate.NewPlanner(w.config, func() float64 { return 0.5 })
	}
}

// TestAnythingMayHappen holds the rules against many lives, which all have to come to an
// end: nobody has anything left to move to but what is held or has failed.
func TestAnythingMayHappen(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t)
		for range rapid.IntRange(1, 30).Draw(t, "things") {
			w.happen()
			w.run()
			w.now = w.now.Add(time.Duration(rapid.IntRange(0, 3000).Draw(t, "ms")) * time.Millisecond)
			w.run()
		}
		for _, s := range w.all {
			if s.Moves = true; s.Health == rotate.Unsettled {
				s.Health = rotate.Healthy
			}
		}
		begun := w.begun
		for range 300 {
			w.run()
			w.now = w.now.Add(time.Second)
		}
		if n := w.begun - begun; n > 2*3*len(w.all)*len(w.content["a"])*len(w.content["b"]) {
			t.Fatalf("%d trials, and no end", n)
		}
		for _, s := range w.all {
			if s.Trial != nil || s.Move != nil && w.plan.Standings[s.Key].State != rotate.Held {
				t.Fatalf("%s has not come to an end: %v", s.Key, w.plan.Standings[s.Key])
			}
		}
	})
}
