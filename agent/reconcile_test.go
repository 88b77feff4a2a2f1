package agent

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/purserd/purser/agent/rotate"
	"github.com/purserd/purser/agent/supervise"
	statev1 "github.com/purserd/purser/api/purser/state/v1"
	purserv1 "github.com/purserd/purser/api/purser/v1"
	"github.com/purserd/purser/runtime"
)

var born = time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)

// made is the record of a/f: of its nth life, generation and run.
func made(life int, generation, run uint64, change ...func(*statev1.Workload)) *statev1.Workload {
	r := &statev1.Workload{
		Environment: "dev", Id: "a/f", Goal: string(supervise.Run), Generation: generation, Run: run,
		CreatedAt: timestamppb.New(born.Add(time.Duration(life) * time.Hour)),
		Spec:      &purserv1.LaunchSpec{App: proto.String("a"), Function: proto.String("f"), Workdir: proto.String(fmt.Sprint(life, generation))},
	}
	for _, f := range change {
		f(r)
	}
	return r
}

func goal(g supervise.Goal) func(*statev1.Workload) {
	return func(r *statev1.Workload) { r.Goal = string(g) }
}

func asJob(r *statev1.Workload) { r.Spec.Kind = proto.String("job") }

func exclusively(r *statev1.Workload) {
	r.Spec.Rotation = &purserv1.Rotation{Strategy: proto.String("restart")}
}

// trying has a record try other versions in a run.
func trying(run uint64) func(*statev1.Workload) {
	return func(r *statev1.Workload) {
		r.TriedRun = run
		r.Trial = &statev1.Trial{Run: run, Mode: rotate.ModeRestart, Pins: []*purserv1.Pin{{Secret: "s", Version: 2}}}
	}
}

// givenUp has a record have tried others in a run.
func givenUp(run uint64) func(*statev1.Workload) {
	return func(r *statev1.Workload) { r.TriedRun = run }
}

func there(id string, state runtime.State, r *statev1.Workload) runtime.Found {
	return runtime.Found{ID: id, State: state, Record: r, Created: born}
}

func TestLater(t *testing.T) {
	order := []*statev1.Workload{made(1, 1, 1), made(1, 1, 2), made(1, 2, 3), made(1, 5, 3), made(2, 1, 1)}
	for i, x := range order {
		for j, y := range order {
			if later(x, y) != (i > j) {
				t.Errorf("%d after %d: %v", i, j, later(x, y))
			}
		}
	}
}

// What becomes of containers that no record explains.
func TestDecide(t *testing.T) {
	const run, stopped, created, none = runtime.StateRunning, runtime.StateStopped, runtime.StateCreated, runtime.StateNone
	starting := supervise.Status{State: supervise.Creating, Instance: &supervise.Instance{ID: "planned"}}
	for name, tc := range map[string]struct {
		group []runtime.Found
		known known
		want  string
	}{
		"runs, and nobody knows it":            {[]runtime.Found{there("x", run, made(1, 3, 3))}, known{}, "adopt x"},
		"has ended, and nobody knows it":       {[]runtime.Found{there("x", stopped, made(1, 3, 3))}, known{}, "adopt x"},
		"has no process, and nobody knows it":  {[]runtime.Found{there("x", none, made(1, 3, 3))}, known{}, "adopt x"},
		"two run, and nobody knows them":       {[]runtime.Found{there("x", run, made(1, 2, 2)), there("y", run, made(1, 3, 3))}, known{}, "adopt y, keep x"},
		"one runs, a later one does not":       {[]runtime.Found{there("x", stopped, made(1, 3, 3)), there("y", run, made(1, 2, 2))}, known{}, "adopt y, undo x"},
		"runs, and another is planned":         {[]runtime.Found{there("x", run, made(1, 1, 1))}, known{record: made(1, 1, 1), status: starting}, "adopt x"},
		"runs beside the recorded one":         {[]runtime.Found{there("x", run, made(1, 9, 9))}, known{record: made(1, 1, 1), alive: true}, "adopt x, keep the recorded one"},
		"has ended beside the recorded one":    {[]runtime.Found{there("x", stopped, made(1, 9, 9))}, known{record: made(1, 1, 1), alive: true}, "undo x"},
		"runs, and is to be stopped":           {[]runtime.Found{there("x", run, made(1, 1, 1))}, known{record: made(1, 1, 1, goal(supervise.Stop))}, "adopt x"},
		"runs, and is to be removed":           {[]runtime.Found{there("x", run, made(1, 1, 1))}, known{record: made(1, 1, 1, goal(supervise.Remove))}, "adopt x"},
		"has ended, and is to be removed":      {[]runtime.Found{there("x", stopped, made(1, 1, 1))}, known{record: made(1, 1, 1, goal(supervise.Remove))}, "undo x"},
		"has ended as nobody knows":            {[]runtime.Found{there("x", stopped, made(1, 1, 1))}, known{record: made(1, 1, 1), status: starting}, "adopt x"},
		"has ended as is known":                {[]runtime.Found{there("x", stopped, made(1, 1, 1))}, known{record: made(1, 1, 1), status: supervise.Status{State: supervise.BackingOff, LastExit: &supervise.Exit{Instance: "x"}}}, "undo x"},
		"has ended, and so has the workload":   {[]runtime.Found{there("x", stopped, made(1, 1, 1))}, known{record: made(1, 1, 1), status: supervise.Status{State: supervise.Completed}}, "undo x"},
		"has ended, and was of a later wish":   {[]runtime.Found{there("x", stopped, made(1, 1, 2))}, known{record: made(1, 1, 1), status: supervise.Status{State: supervise.Completed}}, "adopt x"},
		"half done":                            {[]runtime.Found{there("x", created, made(1, 1, 1))}, known{record: made(1, 1, 1), status: starting}, "undo x"},
		"half done, without a task":            {[]runtime.Found{there("x", none, made(1, 1, 1))}, known{record: made(1, 1, 1), status: starting}, "undo x"},
		"a job that may have run":              {[]runtime.Found{there("x", none, made(1, 1, 1, asJob))}, known{record: made(1, 1, 1, asJob), status: starting}, "adopt x"},
		"half done, of a later wish":           {[]runtime.Found{there("x", created, made(1, 2, 2))}, known{record: made(1, 1, 1), status: starting}, "adopt x"},
		"of an earlier workload of that ID":    {[]runtime.Found{there("x", stopped, made(0, 9, 9))}, known{record: made(1, 1, 1), status: supervise.Status{State: supervise.Failed}}, "undo x"},
		"several, of which one half done runs": {[]runtime.Found{there("x", created, made(1, 9, 9)), there("y", none, made(1, 9, 9)), there("z", run, made(1, 1, 1))}, known{record: made(1, 1, 1)}, "adopt z, undo x, undo y"},
		"two run, not in a rolling change":     {[]runtime.Found{there("x", run, made(1, 2, 2, exclusively)), there("y", run, made(1, 3, 3))}, known{}, "adopt y, leave x"},
		"two of one run":                       {[]runtime.Found{there("x", run, made(1, 3, 3)), there("y", run, made(1, 3, 3))}, known{}, "adopt x, leave y"},
		"three run":                            {[]runtime.Found{there("x", run, made(1, 1, 1)), there("y", run, made(1, 3, 3)), there("z", run, made(1, 2, 2))}, known{}, "adopt y, keep z, leave x"},
		"two run of two workloads of an ID":    {[]runtime.Found{there("x", run, made(1, 2, 2)), there("y", run, made(2, 1, 1))}, known{}, "adopt y, leave x"},
		"an earlier beside the recorded one":   {[]runtime.Found{there("x", run, made(1, 1, 1))}, known{record: made(1, 2, 2), alive: true}, "leave x"},
		"a later beside one to be stopped":     {[]runtime.Found{there("x", run, made(1, 2, 2))}, known{record: made(1, 1, 1, goal(supervise.Stop)), alive: true}, "leave x"},
		"a later that does not roll":           {[]runtime.Found{there("x", run, made(1, 2, 2, exclusively))}, known{record: made(1, 1, 1), alive: true}, "leave x"},
		"a third":                              {[]runtime.Found{there("x", run, made(1, 3, 3))}, known{record: made(1, 2, 2), status: supervise.Status{Kept: &supervise.Status{}}, alive: true}, "leave x"},
		"a trial beside what it is to replace": {[]runtime.Found{there("x", run, made(1, 1, 1)), there("y", run, made(1, 1, 1, trying(2)))}, known{}, "adopt y, keep x"},
		"a trial, and what it replaced ended":  {[]runtime.Found{there("x", stopped, made(1, 1, 1, exclusively)), there("y", run, made(1, 1, 1, exclusively, trying(2)))}, known{}, "adopt y, undo x"},
		"a trial, and an old record runs":      {[]runtime.Found{there("y", run, made(1, 1, 1, trying(2)))}, known{record: made(1, 1, 1), alive: true}, "adopt y, keep the recorded one"},
		"a trial of an old record is over":     {[]runtime.Found{there("y", run, made(1, 1, 3))}, known{record: made(1, 1, 1, trying(2)), alive: false}, "adopt y"},
		"half of a trial":                      {[]runtime.Found{there("y", created, made(1, 1, 1, trying(2)))}, known{record: made(1, 1, 1, trying(2)), status: starting}, "undo y"},
		"a trial that was given up":            {[]runtime.Found{there("y", run, made(1, 1, 1, trying(2)))}, known{record: made(1, 1, 1, givenUp(2)), alive: true}, "leave y"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := words(decide(tc.group, tc.known)); got != tc.want {
				t.Errorf("got %s, want %s", got, tc.want)
			}
		})
	}
}

func words(l lot) string {
	var all []string
	if l.adopt != nil {
		all = append(all, "adopt "+l.adopt.ID)
	}
	if l.beside {
		all = append(all, "keep the recorded one")
	}
	if l.kept != nil {
		all = append(all, "keep "+l.kept.ID)
	}
	for _, f := range l.leave {
		all = append(all, "leave "+f.ID)
	}
	for _, f := range l.undo {
		all = append(all, "undo "+f.ID)
	}
	return strings.Join(all, ", ")
}

// What is wanted of a workload, and whether its container is that.
func TestMerged(t *testing.T) {
	same := func(r *statev1.Workload) { r.Spec = made(1, 3, 3).Spec }
	for name, tc := range map[string]struct {
		record, container *statev1.Workload
		asked             bool
		generation, run   uint64
		goal              supervise.Goal
		as                uint64 // the run that the container counts as
	}{
		"an old database":                         {made(1, 1, 1), made(1, 3, 3), false, 3, 3, supervise.Run, 3},
		"an old one, of before it was stopped":    {made(1, 3, 3, goal(supervise.Stop)), made(1, 3, 3), false, 3, 3, supervise.Stop, 3},
		"an old one, of while it was stopped":     {made(1, 3, 3, goal(supervise.Stop)), made(1, 3, 4), false, 3, 4, supervise.Run, 4},
		"an old one, of its removal":              {made(1, 3, 3, goal(supervise.Remove)), made(2, 1, 1), false, 1, 1, supervise.Run, 1},
		"a removal that was not carried out":      {made(1, 3, 3, goal(supervise.Remove)), made(1, 3, 3), false, 3, 3, supervise.Remove, 3},
		"an old container":                        {made(1, 3, 3), made(1, 2, 2), false, 3, 3, supervise.Run, 2},
		"launched since, over an old database":    {made(1, 2, 2), made(1, 5, 5), true, 6, 6, supervise.Run, 5},
		"stopped since, over an old database":     {made(1, 2, 2, goal(supervise.Stop)), made(1, 5, 5), true, 6, 6, supervise.Stop, 5},
		"launched anew over a lost database":      {made(2, 1, 1), made(1, 5, 5), true, 1, 1, supervise.Run, 0},
		"launched as it was over a lost database": {made(2, 1, 1, same), made(1, 3, 3), true, 1, 1, supervise.Run, 1},
		"an old one, of before a trial":           {made(1, 1, 1), made(1, 1, 1, trying(2)), false, 1, 1, supervise.Run, 2},
		"an old one, of during a trial":           {made(1, 1, 1, trying(2)), made(1, 1, 3), false, 1, 3, supervise.Run, 3},
		"a trial that was given up":               {made(1, 1, 1, givenUp(2)), made(1, 1, 1, trying(2)), false, 1, 1, supervise.Run, 2},
		"asked of an old one, of during a trial":  {made(1, 2, 2, trying(3)), made(1, 5, 5), true, 6, 6, supervise.Run, 5},
	} {
		t.Run(name, func(t *testing.T) {
			r := merged(tc.record, tc.container, tc.asked)
			if tried := r.GetTrial(); tried != nil && tried.GetRun() <= r.GetRun() {
				t.Errorf("run %d is wanted, and run %d tried", r.GetRun(), tried.GetRun())
			}
			if r.GetGeneration() != tc.generation || r.GetRun() != tc.run || r.GetGoal() != string(tc.goal) {
				t.Errorf("got generation %d, run %d, goal %s", r.GetGeneration(), r.GetRun(), r.GetGoal())
			}
			c := adoptee(there("x", runtime.StateRunning, tc.container), r)
			if c.Run != tc.as || !c.Running || !c.Instance.StartedAt.Equal(born) {
				t.Errorf("the container counts as %+v", c)
			}
		})
	}
}

func TestByWorkload(t *testing.T) {
	other := made(1, 1, 1)
	other.Id = "a/g"
	groups := byWorkload([]runtime.Found{
		there("a", runtime.StateRunning, made(1, 1, 1)), there("b", runtime.StateRunning, nil), there("c", runtime.StateRunning, other),
		there("d", runtime.StateRunning, made(1, 2, 2)), there("e", runtime.StateRunning, nil),
	})
	var got []string
	for _, g := range groups {
		ids := ""
		for _, f := range g {
			ids += f.ID
		}
		got = append(got, ids)
	}
	if !slices.Equal(got, []string{"ad", "b", "c", "e"}) {
		t.Errorf("got %v", got)
	}
}

// Who waits at the gate hears why, and goes on when it opens or the wait is called off.
func TestGate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := new(gate)
		var told []string
		passed := make(chan error, 1)
		go func() { passed <- g.pass(t.Context(), func(why string) { told = append(told, why) }) }()
		synctest.Wait()
		for _, why := range []string{"away", "away", "still away"} {
			g.shut(why)
			synctest.Wait()
		}
		called, cancel := context.WithCancel(t.Context())
		off := make(chan error, 1)
		go func() { off <- g.pass(called, func(string) {}) }()
		synctest.Wait()
		cancel()
		if err := <-off; err == nil {
			t.Error("a wait that was called off passed")
		}
		g.open()
		if err := <-passed; err != nil {
			t.Error(err)
		}
		if !slices.Equal(told, []string{"away", "still away", ""}) {
			t.Errorf("told %q", told)
		}
		if err := g.pass(called, nil); err == nil {
			t.Error("who was called off before it opened passes after it")
		}
	})
}

// Of a lost database both halves of a trial are found again: what is tried is tried on, and
// what it is to replace is on the pins that it was on.
func TestRecoveredTrial(t *testing.T) {
	old := []*purserv1.Pin{{Secret: "s", Version: 1}}
	pinned := func(r *statev1.Workload) { r.Pins = old }
	l := decide([]runtime.Found{
		there("x", runtime.StateRunning, made(1, 1, 1, pinned)), there("y", runtime.StateRunning, made(1, 1, 1, pinned, trying(2))),
	}, known{})
	r := recordFrom(l.adopt.Record)
	d, c := desired(r), l.adoptee(r)
	if !d.Trial || d.Run != 2 || versionOf(r.GetPins(), "s") != 1 || versionOf(d.Revision.Pins, "s") != 2 {
		t.Errorf("wanted is %+v, of record %v", d, r)
	}
	if c.Run != 2 || c.Kept.Run != 1 || versionOf(c.Instance.Revision.Pins, "s") != 2 || versionOf(c.Kept.Instance.Revision.Pins, "s") != 1 {
		t.Errorf("found are %+v, and %+v", c, c.Kept)
	}
	status := supervise.Recovered(c, born)
	if v := (supervise.View{Desired: d, Status: status}).Tried(); v.Outcome != supervise.UnderWay {
		t.Errorf("it is judged already: %+v", v)
	}
}

// What a container carries is the trial that it is for, and no later one.
func TestRecordOfATrial(t *testing.T) {
	r := made(1, 1, 1, func(r *statev1.Workload) { r.Pins = []*purserv1.Pin{{Secret: "s", Version: 1}} }, trying(2))
	w := &workload{wanted: r}
	if got := w.recordOf(desired(r).Revision); got.GetTrial().GetRun() != 2 || versionOf(got.GetPins(), "s") != 1 {
		t.Errorf("of what is tried: %v", got)
	}
	if got := w.recordOf(supervise.NewRevision(1, r.GetSpec(), r.GetPins())); got.GetTrial() != nil || versionOf(got.GetPins(), "s") != 1 {
		t.Errorf("of what was before: %v", got)
	}
}
