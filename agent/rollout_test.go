package agent

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/purserd/purser/agent/supervise"
	statev1 "github.com/purserd/purser/api/purser/state/v1"
	purserv1 "github.com/purserd/purser/api/purser/v1"
)

// specOf is a service's, told from others by its memory.
func specOf(memory string) *purserv1.LaunchSpec {
	return asking("f", memory).GetSpec()
}

// bereft is failed, and what served meanwhile has ended.
const bereft supervise.State = "alone"

// inState has a workload be in a state with an instance of what is wanted of it.
func (a *Agent) inState(r *statev1.Workload, state supervise.State, healthy bool) *workload {
	d := desired(r)
	s := supervise.Status{State: state, Run: d.Run, Attempts: 1}
	if state.Runs() {
		s.Instance = &supervise.Instance{ID: fmt.Sprint("of-", d.Run), Revision: d.Revision, StartedAt: time.Now(), Healthy: healthy}
	} else {
		s.Reason = "exited with status 7"
		s.LastExit = &supervise.Exit{Instance: fmt.Sprint("of-", d.Run), Reason: s.Reason, Cause: supervise.Exited}
		if r.GetFallback() != nil {
			kept := &supervise.Instance{ID: "kept", Revision: d.Revision, StartedAt: time.Now()}
			s.Kept = &supervise.Status{State: supervise.Running, Run: r.GetFallback().GetRun(), Instance: kept}
		}
	}
	if state == bereft {
		s.State, s.Kept = supervise.Failed, nil
	}
	w := newWorkload(a, r, s)
	a.workloads[w.key] = w
	return w
}

// Of one ID, a spec is in force that has another generation than what is asked for: which
// it is then, and what is gone back to.
func TestAskForASpec(t *testing.T) {
	number := func(n uint64) *uint64 { return &n }
	for name, tc := range map[string]struct {
		now        func(r *statev1.Workload)
		state      supervise.State
		spec       string
		generation *uint64
		want       string
	}{
		"the same":                           {nil, supervise.Running, "1Mi", nil, "unchanged: 1Mi, 4"},
		"the same, newly numbered":           {nil, supervise.Running, "1Mi", number(9), "unchanged: 1Mi, 9"},
		"another":                            {nil, supervise.Running, "2Mi", nil, "update: 2Mi, 5, else 1Mi, 4"},
		"another, numbered":                  {nil, supervise.Running, "2Mi", number(8), "update: 2Mi, 8, else 1Mi, 4"},
		"another of the same number":         {nil, supervise.Running, "2Mi", number(4), "generation 4 of workload a/f in environment dev is another spec already; a new spec needs a higher one"},
		"an older one":                       {nil, supervise.Running, "1Mi", number(3), "workload a/f in environment dev is at generation 4 already; 3 would undo it"},
		"another, while it does not run":     {nil, supervise.BackingOff, "2Mi", nil, "update: 2Mi, 5"},
		"another, while it is to be stopped": {func(r *statev1.Workload) { r.Goal = string(supervise.Stop) }, supervise.Running, "2Mi", nil, "update: 2Mi, 5"},
		"another, while versions are tried as was asked for": {func(r *statev1.Workload) { try(r, []*purserv1.Pin{{Secret: "s", Version: 2}}) }, supervise.Running, "2Mi", nil, "update: 2Mi, 5, else 1Mi, 4"},
		"another, while it tries and was not well":           {func(r *statev1.Workload) { r.Trial = &statev1.Trial{Mode: "restart", Run: 2} }, supervise.Running, "2Mi", nil, "update: 2Mi, 5"},
		"another, of a job":                                  {nil, supervise.Running, "job", nil, "update: job, 5"},
		"another, while one is tried":                        {rollingOut, supervise.BackingOff, "3Mi", nil, "update: 3Mi, 5, else 2Mi, 3"},
		"the one before, while one is tried":                 {rollingOut, supervise.Running, "2Mi", nil, "update: 2Mi, 5, else 2Mi, 3"},
		"the one that failed":                                {failed, supervise.Running, "2Mi", nil, "update: 2Mi, 7, else 1Mi, 4"},
		"the one that failed, as it was":                     {failed, supervise.Running, "2Mi", number(6), "unchanged: 1Mi, 4, failed 2Mi, 6"},
		"the one that failed, numbered":                      {failed, supervise.Running, "2Mi", number(7), "update: 2Mi, 7, else 1Mi, 4"},
		"the one that was gone back to":                      {failed, supervise.Running, "1Mi", nil, "unchanged: 1Mi, 7"},
		"another than one that failed":                       {failed, supervise.Running, "3Mi", nil, "update: 3Mi, 7, else 1Mi, 4"},
		"another of the number that failed":                  {failed, supervise.Running, "1Mi", number(6), "generation 6 of workload a/f in environment dev is another spec already; a new spec needs a higher one"},
		"what undoes one that failed":                        {failed, supervise.Running, "1Mi", number(5), "workload a/f in environment dev is at generation 6 already; 5 would undo it"},
	} {
		t.Run(name, func(t *testing.T) {
			a := drainable(t)
			r := asking("f", "1Mi")
			if r.Generation = 4; tc.now != nil {
				tc.now(r)
			}
			w := a.inState(r, tc.state, true)
			spec := specOf(tc.spec)
			if tc.spec == "job" {
				spec.Kind = proto.String("job")
			}
			p := plan{record: newRecord(spec, tc.generation)}
			p.record.Environment, p.record.Id = "dev", "a/f"
			got := ""
			if err := p.onto(w, tc.generation); err != nil {
				got = err.Error()
			} else {
				got = tellPlan(p)
			}
			if got != tc.want {
				t.Errorf("%s\nwant %s", got, tc.want)
			}
		})
	}
}

func rollingOut(r *statev1.Workload) {
	r.Fallback = &statev1.Fallback{Spec: specOf("2Mi"), Generation: 3, Try: 2}
}

func failed(r *statev1.Workload) {
	r.BackedOut = &statev1.BackedOut{Spec: specOf("2Mi"), Generation: 6}
}

func tellPlan(p plan) string {
	name := func(spec *purserv1.LaunchSpec) string {
		if spec.GetKind() == "job" {
			return "job"
		}
		return spec.GetResources().GetMemory()
	}
	text := fmt.Sprintf("%s: %s, %d", p.action, name(p.record.GetSpec()), p.record.GetGeneration())
	if f := p.record.GetFallback(); f != nil {
		text += fmt.Sprintf(", else %s, %d", name(f.GetSpec()), f.GetGeneration())
		if f.GetTry() != 1 {
			text += ", not tried anew"
		}
	}
	if b := p.record.GetBackedOut(); b != nil {
		text += fmt.Sprintf(", failed %s, %d", name(b.GetSpec()), b.GetGeneration())
	}
	return text
}

// step has the rotator see how a workload's new spec does.
func (a *Agent) step(t *testing.T) *statev1.Workload {
	t.Helper()
	if _, err := a.rotator.stepRollouts(); err != nil {
		t.Fatal(err)
	}
	return a.lookup("dev", "a/f").record()
}

// A new spec that is healthy stays; one that fails is tried twice, and then what ran before
// it is in force again.
func TestRollout(t *testing.T) {
	a, _ := rotating(t)
	began := func(try uint32) *statev1.Workload {
		r := asking("f", "2Mi")
		r.Generation, r.Run = 5, 7
		r.Fallback = &statev1.Fallback{Spec: specOf("1Mi"), Generation: 4, Pins: []*purserv1.Pin{{Secret: "s", Version: 1}}, Run: 3, Try: try}
		return r
	}
	w := a.inState(began(1), supervise.Running, false)
	if r := a.step(t); r.GetFallback() == nil || r.GetRun() != 7 || w.message().GetFallsBackTo() != 4 {
		t.Errorf("while nothing is known: %v", r)
	}
	a.inState(began(1), supervise.Running, true)
	if r := a.step(t); r.GetFallback() != nil || r.GetRun() != 7 || r.GetGeneration() != 5 {
		t.Errorf("once it is healthy: %v", r)
	}
	a.inState(began(1), supervise.Failed, false)
	if r := a.step(t); r.GetFallback().GetTry() != 2 || r.GetRun() != 8 || r.GetSpec().GetResources().GetMemory() != "2Mi" {
		t.Errorf("once it has failed: %v", r)
	}
	a.inState(began(1), bereft, false)
	if r := a.step(t); r.GetRun() != 3 || r.GetBackedOut() == nil {
		t.Errorf("once it has failed while nothing serves: %v", r)
	}
	w = a.inState(began(2), supervise.Failed, false)
	r := a.step(t)
	if r.GetFallback() != nil || r.GetRun() != 3 || lastRun(r) != 7 || r.GetGeneration() != 4 || versionOf(r.GetPins(), "s") != 1 || r.GetSpec().GetResources().GetMemory() != "1Mi" {
		t.Errorf("once it has failed twice: %v", r)
	}
	m := w.message()
	if m.GetGeneration() != 5 || m.GetSpec().GetResources().GetMemory() != "2Mi" || m.GetBackedOut().GetGeneration() != 5 || m.GetBackedOut().GetRunsGeneration() != 4 || m.GetBackedOut().GetReason() != "exited with status 7" {
		t.Errorf("it is told of as %v", m)
	}
	if d := a.goalOf("f"); d.Run != 3 || d.Trial {
		t.Errorf("the supervisor is told %+v", d)
	}
}

// What took the container away is not held against a spec, unless it is so each time.
func TestRolloutThatWasInterrupted(t *testing.T) {
	for cause, tries := range map[string]int{supervise.Rebooted: 20, supervise.Lost: rolloutLosses} {
		a, _ := rotating(t)
		r := asking("f", "2Mi")
		r.Run, r.Fallback = 7, &statev1.Fallback{Spec: specOf("1Mi"), Run: 3, Try: 2}
		for i := range tries {
			w := a.inState(r, supervise.Failed, false)
			v, _ := w.supervisor.View()
			v.Status.LastExit.Cause = cause
			if r = a.step(t); r.GetFallback().GetTry() != 2 || r.GetRun() != uint64(8+i) {
				t.Fatalf("%s %d times: it is %v", cause, i+1, r)
			}
		}
		w := a.inState(r, supervise.Failed, false)
		v, _ := w.supervisor.View()
		v.Status.LastExit.Cause = cause
		if r := a.step(t); (r.GetBackedOut() != nil) != (cause == supervise.Lost) {
			t.Errorf("%s once more: it is %v", cause, r)
		}
	}
}

// An instance that has files which nobody has proven, and nobody puts back any more, is not
// what is gone back to.
func TestTriedFilesAreLeft(t *testing.T) {
	tries := func() *statev1.Workload {
		r := asking("f", "1Mi")
		r.Run, r.Pins = 4, []*purserv1.Pin{{Secret: "s", Version: 1}}
		r.Trial = &statev1.Trial{Mode: "refresh", Run: 4, Judges: true, Pins: []*purserv1.Pin{{Secret: "s", Version: 2}}, Instance: "of-4"}
		return r
	}
	r := tries()
	try(r, []*purserv1.Pin{{Secret: "s", Version: 3}})
	if giveUpTrial(r); runOf(r) <= 4 || pinsOf(r)[0].GetVersion() != 1 {
		t.Errorf("from what was asked for it goes back to %v", r)
	}
	a := drainable(t)
	w := a.inState(tries(), supervise.Running, true)
	p := plan{record: newRecord(specOf("2Mi"), nil)}
	p.record.Environment, p.record.Id = "dev", "a/f"
	if err := p.onto(w, nil); err != nil {
		t.Fatal(err)
	}
	if f := p.record.GetFallback(); f == nil || f.GetRun() <= 4 || f.GetRun() >= p.record.GetRun() || f.GetPins()[0].GetVersion() != 1 {
		t.Errorf("from a new spec it goes back to %v", p.record)
	}
}

// While a new spec is tried its secrets stay, and are moved then.
func TestRolloutComesBeforeRotation(t *testing.T) {
	a, _ := rotating(t, "f")
	a.set(t, "two")
	ask(t, a, func(r *statev1.Workload) { r.Fallback = &statev1.Fallback{Spec: specOf("1Mi"), Try: 1} })
	if _, all := a.survey(t); all["a/f"].Moves || !strings.Contains(all["a/f"].Busy, "generation") {
		t.Errorf("it moves: %+v", all["a/f"])
	}
	ask(t, a, func(r *statev1.Workload) { r.Fallback = nil })
	if _, all := a.survey(t); !all["a/f"].Moves || all["a/f"].Busy != "" {
		t.Errorf("it does not move: %+v", all["a/f"])
	}
}

// Whatever is asked of a workload, and whatever comes of it: no run is of two specs, no
// generation comes twice, and what failed is never in force unless it was asked for since.
func TestRolloutsOfManySpecs(t *testing.T) {
	for seed := range uint64(20) {
		a, _ := rotating(t)
		a.inState(asking("f", "1Mi"), supervise.Running, true)
		rng := rand.New(rand.NewPCG(seed, 1))
		runs, bad, last := map[uint64]string{}, map[string]bool{}, uint64(0)
		for range 60 {
			w := a.lookup("dev", "a/f")
			switch r := proto.CloneOf(w.record()); rng.IntN(4) {
			case 0:
				p := plan{record: newRecord(specOf(fmt.Sprintf("%dMi", 1+rng.IntN(4))), nil)}
				p.record.Environment, p.record.Id = "dev", "a/f"
				if err := p.onto(w, nil); err != nil {
					t.Fatal(err)
				}
				delete(bad, p.record.GetSpec().GetResources().GetMemory())
				ask(t, a, func(r *statev1.Workload) { proto.Reset(r); proto.Merge(r, p.record) })
			case 1:
				a.inState(r, supervise.Running, true)
			case 2:
				if onTrial(r) {
					if r.GetFallback().GetTry() == rolloutTries {
						bad[r.GetSpec().GetResources().GetMemory()] = r.GetFallback().GetSpec().GetResources().GetMemory() != r.GetSpec().GetResources().GetMemory()
					}
					a.inState(r, supervise.Failed, false)
				}
			case 3:
				ask(t, a, renew)
			}
			r := a.step(t)
			memory := r.GetSpec().GetResources().GetMemory()
			if was, known := runs[r.GetRun()]; known && was != memory {
				t.Fatalf("seed %d: run %d was of %s and is of %s", seed, r.GetRun(), was, memory)
			}
			runs[r.GetRun()] = memory
			if _, at := accepted(r); at < last {
				t.Fatalf("seed %d: generation %d after %d", seed, at, last)
			} else {
				last = at
			}
			if bad[memory] {
				t.Fatalf("seed %d: %s has failed and is in force: %v", seed, memory, r)
			}
		}
	}
}

// What would be gone back to stays on the node: its versions of secrets, its image, its
// volumes and its ports.
func TestWhatIsKeptToGoBackTo(t *testing.T) {
	a, _ := rotating(t)
	old := specOf("1Mi")
	old.Image = &purserv1.Image{Ref: proto.String("localhost/old:1")}
	old.Mounts = []*purserv1.Mount{{Type: proto.String("volume"), Source: proto.String("data"), Target: proto.String("/data")}}
	old.Network = &purserv1.Network{Ports: []*purserv1.Port{{Container: proto.Uint32(80), Host: proto.Uint32(8080)}}}
	r := asking("f", "2Mi")
	r.Fallback = &statev1.Fallback{Spec: old, Pins: []*purserv1.Pin{{Secret: "s", Version: 1}}, Try: 1}
	w := a.inState(r, supervise.Running, false)
	keeps := func() string {
		image := a.imageUsers(func(ref string) bool { return ref == "localhost/old:1" })
		wish := a.rightFor("dev/a/f")
		return fmt.Sprint(w.versions("s"), len(image), w.mounts("data"), len(wish.Ports), len(plan{record: w.record()}.ports()))
	}
	if got := keeps(); got != "[1] 1 true 1 1" {
		t.Errorf("while the new spec is tried there are %s", got)
	}
	ask(t, a, func(r *statev1.Workload) { r.Fallback = nil })
	if got := keeps(); got != "[] 0 false 0 0" {
		t.Errorf("once it has turned out well there are %s", got)
	}
}

// A container tells of nothing later than a record that a newer spec has been gone back from.
func TestBackedOutIsNotAnOldRecord(t *testing.T) {
	backedOut := asking("f", "1Mi")
	backedOut.Generation, backedOut.Run, backedOut.TriedRun = 1, 1, 3
	backedOut.BackedOut = &statev1.BackedOut{Spec: specOf("2Mi"), Generation: 2}
	tried := asking("f", "2Mi")
	tried.Generation, tried.Run = 2, 3
	if later(tried, backedOut) {
		t.Error("the container of what has failed is taken for later")
	}
	tried.Generation = 3
	if !later(tried, backedOut) {
		t.Error("a newer spec is not taken for later")
	}
}
