package agent

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/purserd/purser/agent/config"
	"github.com/purserd/purser/agent/rotate"
	"github.com/purserd/purser/agent/state"
	"github.com/purserd/purser/agent/supervise"
	statev1 "github.com/purserd/purser/api/purser/state/v1"
	purserv1 "github.com/purserd/purser/api/purser/v1"
	"github.com/purserd/purser/inject"
	"github.com/purserd/purser/inject/keyring"
	"github.com/purserd/purser/inject/store"
	"github.com/purserd/purser/metrics"
)

// rotating is an agent with a store whose workloads use its secret s; nothing runs but
// what the test says.
func rotating(t *testing.T, functions ...string) (_ *Agent, secrets string) {
	t.Helper()
	var records []*statev1.Workload
	for _, f := range functions {
		r := asking(f, "1Mi")
		r.Spec.Secrets = []*purserv1.SecretRef{{Name: proto.String("s")}}
		r.Pins = []*purserv1.Pin{{Secret: "s", Version: 1}}
		records = append(records, r)
	}
	a := drainable(t)
	for _, r := range records {
		i := &supervise.Instance{ID: "of-" + r.GetId(), Revision: supervise.NewRevision(1, r.GetSpec(), r.GetPins()), StartedAt: time.Now()}
		w := newWorkload(a, r, supervise.Status{State: supervise.Running, Run: 1, Instance: i})
		a.workloads[w.key] = w
	}
	dir := t.TempDir()
	a.cfg = &config.Config{StateDir: dir, Secrets: config.Secrets{KeepVersions: 10}, Rotation: config.Rotation{MaxParallel: 4}}
	keys, err := keyring.Open(filepath.Join(dir, "identity.age"))
	if err != nil {
		t.Fatal(err)
	}
	if err := a.openAudit(keys); err != nil {
		t.Fatal(err)
	}
	secrets = filepath.Join(dir, "secrets")
	a.reopenSecrets(t, secrets, store.Options{})
	t.Cleanup(func() { _, _ = a.audit.Close(), a.secrets.Close() })
	a.rotator = newRotator(a)
	a.set(t, "one")
	return a, secrets
}

// reopenSecrets opens the secret store, anew if it is open: what is in its files is in no journal
// then.
func (a *Agent) reopenSecrets(t *testing.T, dir string, options store.Options) {
	t.Helper()
	var closed error
	if a.secrets != nil {
		closed = a.secrets.Close()
	}
	keys, err := keyring.Open(filepath.Join(filepath.Dir(dir), "identity.age"))
	if err == nil {
		a.secrets, err = store.Open(dir, keys, options)
	}
	if err := errors.Join(closed, err); err != nil {
		t.Fatal(err)
	}
	a.copies, a.secretChanges = inject.NewCopies(a.secrets), inject.NewChanges(a.secrets)
}

// set writes a version of the secret.
func (a *Agent) set(t *testing.T, value string) uint32 {
	t.Helper()
	put, err := a.secrets.Put(t.Context(), "dev", "s", store.PutOptions{
		Replace: true, Data: map[string]inject.Value{"KEY": inject.NewValue([]byte(value))},
	})
	if err != nil {
		t.Fatal(err)
	}
	return put.Version
}

// survey looks at all there is.
func (a *Agent) survey(t *testing.T) (*survey, map[string]*rotate.Workload) {
	s := &survey{rotator: a.rotator, ctx: t.Context(), now: time.Now(), subjects: map[string]subject{}, live: map[[2]string][]uint32{}}
	all := map[string]*rotate.Workload{}
	for _, w := range s.facts() {
		all[w.Who.Workload] = w
	}
	return s, all
}

// act carries an action out for a/f.
func (a *Agent) act(t *testing.T, kind rotate.Kind) {
	t.Helper()
	s, all := a.survey(t)
	w := all["a/f"]
	action := rotate.Action{Kind: kind, Workload: w, Result: rotate.ResultBackedOut}
	switch {
	case kind == rotate.Begin && w.Move != nil && w.Moves:
		action.Trial = &statev1.Trial{Pins: w.Move.Pins, Set: w.Move.Set, Keys: w.Move.Keys, Mode: rotate.ModeRestart, Try: 1}
	case kind == rotate.Begin || w.Trial == nil:
		return
	}
	if err := a.rotator.do(t.Context(), s, action); err != nil {
		t.Fatalf("%s: %v", kind, err)
	}
}

// No run is given out twice, whatever is asked of a workload while it tries other versions.
func TestRunsAreGivenOutOnce(t *testing.T) {
	for seed := range uint64(5) {
		a, _ := rotating(t, "f")
		rng := rand.New(rand.NewPCG(seed, 0))
		a.gate.open()
		ctx, cancel := context.WithCancel(t.Context())
		cancel() // nothing is waited for
		asks := map[string]func(){
			"set":      func() { a.set(t, fmt.Sprint(rng.Uint64())) },
			"begin":    func() { a.act(t, rotate.Begin) },
			"again":    func() { a.act(t, rotate.Begin) },
			"commit":   func() { a.act(t, rotate.Commit) },
			"withdraw": func() { a.act(t, rotate.Withdraw) },
			"stop":     func() { _, _ = a.Stop(ctx, "dev", "a/f", nil) },
			"start":    func() { _, _ = a.Start(t.Context(), "dev", "a/f") },
			"restart":  func() { _, _ = a.Restart(t.Context(), "dev", "a/f", rng.IntN(2) == 0) },
			"drain":    func() { _ = a.beginDrain(nil) },
			"undrain":  func() { _, _ = a.Undrain() },
		}
		names := make([]string, 0, len(asks))
		for name := range asks {
			names = append(names, name)
		}
		slices.Sort(names)
		given, story := map[uint64][]*purserv1.Pin{}, []string{}
		for range 100 {
			name := names[rng.IntN(len(names))]
			asks[name]()
			r := a.lookup("dev", "a/f").record()
			story = append(story, fmt.Sprintf("%s: %d", name, runOf(r)))
			if was, known := given[runOf(r)]; known && fmt.Sprint(was) != fmt.Sprint(pinsOf(r)) {
				t.Fatalf("seed %d: run %d was of %v and is of %v: %v", seed, runOf(r), was, pinsOf(r), story)
			}
			if given[runOf(r)] = pinsOf(r); lastRun(r) < runOf(r) {
				t.Fatalf("seed %d: the last run is %d: %v", seed, lastRun(r), story)
			}
		}
		if len(given) < 5 {
			t.Errorf("seed %d: only %d runs in %v", seed, len(given), story)
		}
	}
}

// Whatever ends a trial has the workload be on the pins that it was on before, but for what
// gives it other ones.
func TestWhatEndsATrial(t *testing.T) {
	const asked = "the try of s version 2 is given up: something else is asked of it"
	for name, tc := range map[string]struct {
		ask     func(t *testing.T, a *Agent)
		version uint32 // that is wanted then
		tries   bool
		told    string // by RotationSuperseded
	}{
		"nothing": {func(*testing.T, *Agent) {}, 2, true, ""},
		"stop": {func(t *testing.T, a *Agent) {
			ask(t, a, func(r *statev1.Workload) { r.Goal = string(supervise.Stop); giveUpTrial(r) })
		}, 1, false, asked},
		"restart":           {func(t *testing.T, a *Agent) { _, _ = a.Restart(t.Context(), "dev", "a/f", false) }, 1, false, asked},
		"restart --secrets": {func(t *testing.T, a *Agent) { _, _ = a.Restart(t.Context(), "dev", "a/f", true) }, 2, false, asked},
		"start":             {func(t *testing.T, a *Agent) { _, _ = a.Start(t.Context(), "dev", "a/f") }, 2, true, ""},
		"newer": {func(t *testing.T, a *Agent) {
			a.set(t, "three")
			a.act(t, rotate.Begin)
		}, 3, true, "the try of s version 2 is given up: there is a newer version"},
		"withdraw": {func(t *testing.T, a *Agent) { a.act(t, rotate.Withdraw) }, 1, false, ""},
		"commit":   {func(t *testing.T, a *Agent) { a.act(t, rotate.Commit) }, 2, false, ""},
	} {
		t.Run(name, func(t *testing.T) {
			a, _ := rotating(t, "f")
			a.set(t, "two")
			a.act(t, rotate.Begin)
			tc.ask(t, a)
			r := a.lookup("dev", "a/f").record()
			if got := versionOf(pinsOf(r), "s"); got != tc.version || (r.GetTrial() != nil) != tc.tries {
				t.Errorf("wanted is version %d, trial %v", got, r.GetTrial())
			}
			if got := a.lastEvent(t, "RotationSuperseded"); got != tc.told {
				t.Errorf("told: %q, want %q", got, tc.told)
			}
		})
	}
}

// ask has something be wanted.
func ask(t *testing.T, a *Agent, change func(*statev1.Workload)) {
	t.Helper()
	if _, _, err := a.rewrite("dev", "a/f", func(_ *workload, r *statev1.Workload) error { change(r); return nil }); err != nil {
		t.Fatal(err)
	}
}

// A drained node, and a workload that is stopped, move nobody; a trial is given up.
func TestWhoMoves(t *testing.T) {
	a, _ := rotating(t, "f", "g")
	a.set(t, "two")
	if _, all := a.survey(t); !all["a/f"].Moves || all["a/f"].Move == nil {
		t.Errorf("it does not move: %+v", all["a/f"])
	}
	ask(t, a, func(r *statev1.Workload) { r.Goal = string(supervise.Stop) })
	if _, all := a.survey(t); all["a/f"].Moves || !all["a/g"].Moves {
		t.Errorf("f is stopped: %+v, %+v", all["a/f"], all["a/g"])
	}
	if err := a.beginDrain(nil); err != nil {
		t.Fatal(err)
	}
	if _, all := a.survey(t); all["a/g"].Moves {
		t.Error("it moves on a drained node")
	}
}

// Versions are kept that a workload is pinned to, tries, or has a container of.
func TestVersionsInUseAreKept(t *testing.T) {
	a, _ := rotating(t, "f")
	a.cfg.Secrets.KeepVersions = 1
	a.gate.open()
	for i := range 5 {
		a.set(t, fmt.Sprint("value ", i))
	}
	pins := func(v uint32) []*purserv1.Pin { return []*purserv1.Pin{{Secret: "s", Version: v}} }
	r := proto.CloneOf(a.lookup("dev", "a/f").record())
	r.Trial = &statev1.Trial{Pins: pins(3), Mode: rotate.ModeRestart, Run: 2}
	instance := func(run uint64, v uint32) supervise.Status {
		return supervise.Status{State: supervise.Running, Run: run, Instance: &supervise.Instance{ID: fmt.Sprint("i", v), Revision: supervise.NewRevision(1, r.GetSpec(), pins(v))}}
	}
	kept, st := instance(1, 2), instance(2, 4)
	st.Kept = &kept
	w := newWorkload(a, r, st)
	a.workloads[w.key] = w
	a.releasePins("dev", pins(1))
	if got := a.secrets.Live("dev", "s"); !slices.Equal(got, []uint32{6, 4, 3, 2, 1}) {
		t.Errorf("left are versions %v", got)
	}
}

// A version that cannot be read moves nobody, ends no trial, and is told; the next that can
// be is taken.
func TestDamagedVersion(t *testing.T) {
	for damaged, moves := range map[uint32]bool{1: false, 2: true} {
		t.Run(fmt.Sprint("version ", damaged), func(t *testing.T) {
			a, dir := rotating(t, "f")
			a.set(t, "two")
			a.reopenSecrets(t, dir, store.Options{})
			path := filepath.Join(dir, "dev", "s", fmt.Sprintf("%d.age", damaged))
			if err := os.WriteFile(path, bytes.Repeat([]byte("x"), 300), 0o600); err != nil {
				t.Fatal(err)
			}
			s, all := a.survey(t)
			f := all["a/f"]
			if f.Move != nil || !strings.Contains(f.Unknown, path) || len(s.errs) != 1 {
				t.Errorf("it moves: %+v; errors %v", f, s.errs)
			}
			if plan := a.rotator.planner.Plan([]*rotate.Workload{f}, a.book(), time.Now()); len(plan.Actions) > 0 || plan.Standings[f.Key].State != rotate.Waiting {
				t.Errorf("the plan: %+v", plan)
			}
			a.set(t, "three")
			if _, all := a.survey(t); (all["a/f"].Move != nil) != moves {
				t.Errorf("to a version that can be read: %+v", all["a/f"])
			}
		})
	}
}

// A job that runs is left alone, and its next attempt has the latest versions.
func TestJobsTakeWhatIsLatest(t *testing.T) {
	a, _ := rotating(t, "f")
	w := a.lookup("dev", "a/f")
	r := proto.CloneOf(w.record())
	asJob(r)
	runs, _ := w.supervisor.View()
	waits := supervise.Status{State: supervise.BackingOff, Run: 1}
	a.set(t, "two")
	for name, tc := range map[string]struct {
		status supervise.Status
		want   uint32
	}{"runs": {runs.Status, 1}, "is tried again": {waits, 2}} {
		t.Run(name, func(t *testing.T) {
			w := newWorkload(a, r, tc.status)
			a.workloads[w.key] = w
			s, all := a.survey(t)
			for _, action := range a.rotator.planner.Plan([]*rotate.Workload{all["a/f"]}, a.book(), time.Now()).Actions {
				if err := a.rotator.do(t.Context(), s, action); err != nil {
					t.Fatal(err)
				}
			}
			if got := w.record(); versionOf(got.GetPins(), "s") != tc.want || got.GetRun() != 1 || got.GetTrial() != nil {
				t.Errorf("the record is %v", got)
			}
		})
	}
}

// Functions of an app that was rolled back stay on the versions that they went back to, over
// agents, until there is a newer one.
func TestRolledBackAppStays(t *testing.T) {
	a, _ := rotating(t, "f")
	a.set(t, "two")
	w := a.lookup("dev", "a/f")
	plans := []plan{{action: actionUnchanged, workload: w, record: w.record()}}
	if err := a.commit(t.Context(), plans, nil, a.stay(rollout{environment: "dev", app: "a", cause: "rolled back to revision 1"}, plans)); err != nil {
		t.Fatal(err)
	}
	why := ""
	begun := func() []rotate.Action {
		learnt, err := a.db.Rotation()
		if err != nil {
			t.Fatal(err)
		}
		a.learnt.set(rotate.BookOf(learnt))
		_, all := a.survey(t)
		all["a/f"].Health = rotate.Healthy
		plan := newRotator(a).planner.Plan([]*rotate.Workload{all["a/f"]}, a.book(), time.Now())
		why = plan.Standings[state.Key("dev", "a/f")].Reason
		if is := plan.Standings[state.Key("dev", "a/f")].State; (is == rotate.Held) != (len(plan.Actions) == 0) {
			t.Errorf("it is %s, and is to %v", is, plan.Actions)
		}
		return plan.Actions
	}
	if actions := begun(); len(actions) > 0 {
		t.Errorf("it moves: %v", actions)
	}
	a.failed(t, 2) // which a retry is for, and not for the rollback
	if got, err := a.RetrySecret(t.Context(), &purserv1.RetryRequest{Name: "s"}); err != nil || len(got.GetFreed()) != 1 {
		t.Errorf("retry: %v, %v", got, err)
	}
	if actions := begun(); len(actions) > 0 {
		t.Errorf("it moves, as there was a retry: %v", actions)
	}
	const text = "s version 2: its app was rolled back from it (rolled back to revision 1); it stays where it is until there is a newer version, or purser restart --secrets -E dev a/f"
	if why != text {
		t.Errorf("it says %q", why)
	}
	a.set(t, "three")
	if actions := begun(); len(actions) != 1 || actions[0].Kind != rotate.Begin {
		t.Errorf("it does not move to a newer version: %v", actions)
	}
}

// counting counts what is got of a source.
type counting struct {
	inject.Source
	got atomic.Int64
}

func (c *counting) Get(ctx context.Context, environment, name string, version uint32) (*inject.Secret, error) {
	c.got.Add(1)
	return c.Source.Get(ctx, environment, name, version)
}

// A version that cannot be read is not looked at again and again.
func TestDamagedVersionIsNotPolled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, dir := rotating(t, "f")
		a.set(t, "two")
		a.reopenSecrets(t, dir, store.Options{})
		if err := os.WriteFile(filepath.Join(dir, "dev", "s", "2.age"), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
		source := &counting{Source: a.secrets}
		a.secretChanges = inject.NewChanges(source)
		a.gate.open()
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { a.rotator.run(ctx) })
		<-time.After(time.Hour)
		if got := source.got.Load(); got < 10 || got > 150 {
			t.Errorf("it was read %d times in an hour", got)
		}
		a.set(t, "three")
		a.rotator.notice("dev", "s")
		<-time.After(time.Minute)
		if r := a.lookup("dev", "a/f").record(); versionOf(pinsOf(r), "s") != 3 {
			t.Errorf("it does not move to a version that can be read: %v", r)
		}
		cancel()
		running.Wait()
	})
}

// How workloads stand is told while their supervisors tell of changes of their own.
func TestStandingsAreToldAmongOtherChanges(t *testing.T) {
	a, _ := rotating(t, "f")
	w := a.lookup("dev", "a/f")
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for i := range 2000 {
			w.want(func(d *supervise.Desired) { d.Run = uint64(i) })
		}
	}()
	for i := range 2000 {
		s, _ := a.survey(t)
		a.rotator.settle(s, rotate.Plan{Standings: map[string]rotate.Standing{w.key: {State: rotate.Waiting, Reason: fmt.Sprint(i)}}})
	}
	<-ended
}

// Who writes all the time keeps nobody from moving: what was planned is begun although
// there is something newer by then, which has its turn after that.
func TestBegunBehindAWriter(t *testing.T) {
	a, _ := rotating(t, "f")
	a.set(t, "two")
	s, all := a.survey(t)
	w := all["a/f"]
	begin := rotate.Action{Kind: rotate.Begin, Workload: w, Trial: &statev1.Trial{Pins: w.Move.Pins, Set: w.Move.Set, Mode: rotate.ModeRestart, Try: 1}}
	a.set(t, "three")
	if err := a.rotator.do(t.Context(), s, begin); err != nil {
		t.Fatal(err)
	}
	if got := versionOf(a.lookup("dev", "a/f").record().GetTrial().GetPins(), "s"); got != 2 {
		t.Errorf("it tries version %d", got)
	}
}

// What comes of a rotation, and how workloads stand, is counted by the names that the planner
// has for it.
func TestRotationIsCountedAsItIsPlanned(t *testing.T) {
	if !slices.Equal(rotate.Results, metrics.RotationResults) || !slices.Equal(rotate.States, metrics.RotationStates) {
		t.Errorf("%v and %v are counted as %v and %v", rotate.Results, rotate.States, metrics.RotationResults, metrics.RotationStates)
	}
}

// Who was made to go back counts as one that moves until it serves, or is found not to.
func TestReturning(t *testing.T) {
	until := time.Now().Add(30 * time.Second)
	i := &supervise.Instance{ID: "i", StartedAt: time.Now(), Revision: supervise.NewRevision(1, &purserv1.LaunchSpec{}, nil)}
	for name, test := range map[string]struct {
		status supervise.Status
		trial  *statev1.Trial
		want   bool
	}{
		"what it tried serves yet":  {supervise.Status{State: supervise.Running, Run: 1, Instance: i}, nil, true},
		"what it tried has ended":   {supervise.Status{State: supervise.Stopping, Run: 1, Instance: i}, nil, true},
		"it is being made":          {supervise.Status{State: supervise.Creating, Run: 2}, nil, true},
		"it serves":                 {supervise.Status{State: supervise.Running, Run: 2, Instance: i}, nil, false},
		"it fails":                  {supervise.Status{State: supervise.BackingOff, Run: 2, Failures: 1}, nil, false},
		"it has failed before":      {supervise.Status{State: supervise.BackingOff, Run: 1, Failures: 2}, nil, true},
		"it tries what is next":     {supervise.Status{State: supervise.Creating, Run: 2}, &statev1.Trial{}, false},
		"it was stopped on its way": {supervise.Status{State: supervise.Stopped, Run: 2}, nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			a, _ := rotating(t, "f")
			w := a.all("dev", "")[0]
			r := w.record()
			r.Trial = test.trial
			a.rotator.returning[w.key] = until
			s := &survey{rotator: a.rotator, now: time.Now()}
			got := s.returns(subject{w, r, supervise.View{Desired: supervise.Desired{Run: 2}, Status: test.status}})
			if got.Equal(until) != test.want || got.IsZero() == test.want {
				t.Errorf("it counts until %v", got)
			}
			if again := s.returns(subject{w, r, supervise.View{Desired: supervise.Desired{Run: 2}, Status: supervise.Status{State: supervise.Creating, Run: 2}}}); again.IsZero() == test.want {
				t.Errorf("later it counts until %v", again)
			}
		})
	}
}
