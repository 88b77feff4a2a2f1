package rotate_test

import (
	"cmp"
	"fmt"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/purserd/purser/agent/rotate"
	statev1 "github.com/purserd/purser/api/purser/state/v1"
)

// fleet is a node in the small: workloads of one app that use key K of secret "s", all on
// version 1, of which the planner's actions are carried out at once.
type fleet struct {
	t       *testing.T
	planner *rotate.Planner
	book    rotate.Book
	now     time.Time
	all     []*rotate.Workload
	pins    map[string]uint32
	latest  uint32
	mode    string // how all move; restart when empty
	plan    rotate.Plan
	story   []string
}

var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func newFleet(t *testing.T, n int) *fleet {
	f := &fleet{t: t, now: start, pins: map[string]uint32{}, latest: 1,
		planner: rotate.NewPlanner(rotate.Config{Quiet: time.Second, MaxDelay: 10 * time.Second, MaxParallel: 4}, func() float64 { return 0.5 })}
	for i := range n {
		w := &rotate.Workload{
			Key: fmt.Sprintf("w%02d", i), Who: rotate.Who{Environment: "dev", App: "app", Workload: fmt.Sprintf("app/w%02d", i)},
			Moves: true, Health: rotate.Healthy,
		}
		f.all = append(f.all, w)
		f.pins[w.Key] = 1
	}
	return f
}

// set writes a version.
func (f *fleet) set() {
	f.latest++
	f.planner.Notice("dev", "s", f.now)
}

// step plans and carries out what is planned, until nothing is left to do.
func (f *fleet) step() {
	f.t.Helper()
	for range 100 {
		f.aim()
		f.plan = f.planner.Plan(f.all, f.book, f.now)
		if len(f.plan.Actions) == 0 {
			return
		}
		for _, a := range f.plan.Actions {
			f.do(a)
		}
	}
	f.t.Fatalf("it does not come to rest: %v", f.story)
}

// aim has each workload move to what is latest.
func (f *fleet) aim() {
	versions := []uint32{}
	for v := f.latest; v > 0; v-- {
		versions = append(versions, v)
	}
	to := f.book.Choose("dev", map[string][]uint32{"s": versions})["s"]
	for _, w := range f.all {
		w.Move = nil
		if to > f.pins[w.Key] {
			pins := pinsOf("s", to)
			w.Move = &rotate.Move{Pins: pins, Set: pins, Keys: []string{"s/K"}, Mode: cmp.Or(f.mode, rotate.ModeRestart), Hurried: f.book.Hurried("dev", "s", f.pins[w.Key], to)}
		}
	}
}

func (f *fleet) do(a rotate.Action) {
	f.book = a.Learn(f.book)
	w := a.Workload
	switch a.Kind {
	case rotate.Begin:
		w.Trial = &rotate.Trial{Trial: a.Trial}
		f.tell("%s tries %d", w.Key, a.Trial.GetPins()[0].GetVersion())
	case rotate.Commit:
		f.pins[w.Key] = w.Trial.GetPins()[0].GetVersion()
		f.tell("%s is on %d, %s", w.Key, f.pins[w.Key], a.Result)
		w.Trial = nil
	case rotate.Withdraw:
		if a.Again {
			f.tell("%s puts its files back", w.Key)
			w.Trial.Result = rotate.Ending
			return
		}
		f.tell("%s goes back, %s", w.Key, a.Result)
		w.Trial = nil
	case rotate.Condemn:
		f.tell("%s condemns", w.Key)
	}
}

func (f *fleet) tell(format string, args ...any) {
	f.story = append(f.story, fmt.Sprintf(format, args...))
}

// expect compares what has happened since it was asked last.
func (f *fleet) expect(want ...string) {
	f.t.Helper()
	if fmt.Sprint(f.story) != fmt.Sprint(want) {
		f.t.Fatalf("after %s:\n got %q\nwant %q", f.now.Sub(start), f.story, want)
	}
	f.story = nil
}

// after lets time pass.
func (f *fleet) after(d time.Duration) *fleet {
	f.t.Helper()
	f.now = f.now.Add(d)
	f.step()
	return f
}

// trials end with a result.
func (f *fleet) result(result rotate.Result, reason string) {
	f.t.Helper()
	for _, w := range f.all {
		if w.Trial != nil {
			w.Trial.Result, w.Trial.Reason, w.Trial.Patient = result, reason, true
		}
	}
	f.step()
}

func (f *fleet) standing(i int, state string) {
	f.t.Helper()
	if got := f.plan.Standings[f.all[i].Key]; got.State != state {
		f.t.Fatalf("%s is %s (%s), want %s", f.all[i].Key, got.State, got.Reason, state)
	}
}

func TestCanaryThenFollowers(t *testing.T) {
	f := newFleet(t, 6)
	f.set()
	f.step()
	f.expect()
	f.standing(0, rotate.Waiting)
	if want := start.Add(time.Second); !f.plan.Next.Equal(want) {
		t.Errorf("it looks again at %s, want %s", f.plan.Next, want)
	}
	f.after(time.Second).expect("w00 tries 2")
	f.standing(0, rotate.Rotating)
	f.standing(1, rotate.Waiting)
	f.after(time.Minute).expect()
	f.result(rotate.Well, "")
	f.expect("w00 is on 2, moved", "w01 tries 2", "w02 tries 2", "w03 tries 2", "w04 tries 2")
	f.standing(5, rotate.Waiting)
	f.result(rotate.Well, "")
	f.expect("w01 is on 2, moved", "w02 is on 2, moved", "w03 is on 2, moved", "w04 is on 2, moved", "w05 tries 2")
	f.result(rotate.Well, "")
	f.expect("w05 is on 2, moved")
	f.standing(5, rotate.Current)
	f.after(time.Hour).expect()
}

func TestBurstIsOneMove(t *testing.T) {
	f := newFleet(t, 1)
	for range 200 {
		f.set()
		f.after(4 * time.Millisecond)
	}
	f.expect()
	f.after(996 * time.Millisecond).expect("w00 tries 201")
}

func TestChangesThatNeverRest(t *testing.T) {
	f := newFleet(t, 1)
	for range 100 { // every half second; after ten it moves all the same
		f.set()
		if f.after(500 * time.Millisecond); len(f.story) > 0 {
			break
		}
	}
	if waited := f.now.Sub(start); waited != 10*time.Second {
		t.Errorf("it moved after %s, want 10s", waited)
	}
}

func TestBadCanaryIsQuarantined(t *testing.T) {
	f := newFleet(t, 20)
	f.set()
	f.after(time.Second).expect("w00 tries 2")
	f.result(rotate.Failed, "exited with status 1")
	f.expect("w00 tries 2")
	f.result(rotate.Failed, "exited with status 1")
	f.expect("w00 goes back, backed_out")
	if f.book.Quarantine("dev", "s", 2) == nil {
		t.Fatal("version 2 is not quarantined")
	}
	f.after(time.Hour).expect()
	f.standing(7, rotate.Current) // 1 is the latest now, and nobody has said more
	f.set()
	f.after(time.Second).expect("w00 tries 3")
}

func TestRetry(t *testing.T) {
	f := newFleet(t, 2)
	f.set()
	f.after(time.Second)
	f.result(rotate.Failed, "no")
	f.result(rotate.Failed, "no")
	f.story = nil
	var versions []uint32
	if f.book, versions = f.book.Acquit("dev", "s"); fmt.Sprint(versions) != "[2]" {
		t.Fatalf("acquitted: %v", versions)
	}
	f.step()
	f.expect("w00 tries 2")
}

func TestBadFollowerHoldsTheRest(t *testing.T) {
	f := newFleet(t, 8)
	f.set()
	f.after(time.Second)
	f.result(rotate.Well, "")
	f.story = nil // 1 to 4 try
	bad := f.all[2]
	for range 2 {
		bad.Trial.Result, bad.Trial.Reason = rotate.Failed, "exited"
		f.step()
	}
	f.expect("w02 tries 2", "w02 goes back, backed_out")
	f.result(rotate.Well, "")
	f.expect("w01 is on 2, moved", "w03 is on 2, moved", "w04 is on 2, moved")
	f.after(time.Hour).expect()
	f.standing(0, rotate.Current)
	f.standing(5, rotate.Held)
	if f.book.Quarantine("dev", "s", 2) != nil {
		t.Error("a follower has condemned the version for all")
	}
}

func TestSickGoFirstAndCondemnNothing(t *testing.T) {
	f := newFleet(t, 3)
	for _, w := range f.all {
		w.Health = rotate.Unhealthy
	}
	f.set()
	f.after(time.Second).expect("w00 tries 2")
	f.result(rotate.Failed, "exited")
	f.result(rotate.Failed, "exited")
	f.expect("w00 tries 2", "w00 goes back, backed_out", "w01 tries 2")
	f.standing(0, rotate.Held)
	f.result(rotate.Well, "")
	f.expect("w01 is on 2, moved", "w02 tries 2")
	if f.book.Quarantine("dev", "s", 2) != nil {
		t.Error("one that was not well has condemned the version")
	}
}

func TestUnsettledAreWaitedFor(t *testing.T) {
	f := newFleet(t, 2)
	f.all[0].Health, f.all[0].Settles = rotate.Unsettled, start.Add(5*time.Second)
	f.all[1].Health = rotate.Unhealthy
	f.set()
	f.after(time.Second).expect()
	if !f.plan.Next.Equal(f.all[0].Settles) {
		t.Errorf("it looks again at %s", f.plan.Next)
	}
	f.all[0].Health = rotate.Healthy
	f.after(4 * time.Second).expect("w00 tries 2")
}

func TestWindow(t *testing.T) {
	f := newFleet(t, 3)
	opens := start.Add(time.Hour)
	for _, w := range f.all {
		w.Opens = &opens
	}
	f.all[1].Health, f.all[2].Health = rotate.Unhealthy, rotate.Unhealthy
	f.set()
	f.after(time.Second).expect("w01 tries 2")
	f.result(rotate.Well, "")
	f.expect("w01 is on 2, moved", "w02 tries 2")
	f.result(rotate.Well, "")
	f.expect("w02 is on 2, moved")
	f.after(time.Minute).expect()
	f.after(time.Hour).expect("w00 tries 2")
}

func TestHurry(t *testing.T) {
	f := newFleet(t, 3)
	opens := start.Add(time.Hour)
	for _, w := range f.all {
		w.Opens, w.Splay = &opens, time.Minute
	}
	f.set()
	f.book = f.book.WithHurry("dev", "s", 2)
	f.after(time.Second).expect("w00 tries 2")
	f.result(rotate.Well, "")
	f.expect("w00 is on 2, moved", "w01 tries 2", "w02 tries 2")
}

func TestSplay(t *testing.T) {
	f := newFleet(t, 2)
	f.all[1].Splay = 10 * time.Second
	f.set()
	f.after(time.Second)
	f.result(rotate.Well, "")
	f.expect("w00 tries 2", "w00 is on 2, moved")
	f.after(4 * time.Second).expect()
	f.after(time.Second).expect("w01 tries 2")
}

func TestHold(t *testing.T) {
	f := newFleet(t, 1)
	f.book = f.book.WithHold(hold("dev", "s", 2))
	f.set()
	f.after(time.Minute).expect()
	f.book = f.book.WithoutHold("dev", "s")
	f.step()
	f.expect("w00 tries 2")
	f.book = f.book.WithHold(hold("dev", "s", 2))
	f.step()
	f.expect("w00 goes back, superseded")
}

func TestNewerVersionTakesItsPlace(t *testing.T) {
	f := newFleet(t, 3)
	f.set()
	f.after(time.Second).expect("w00 tries 2")
	f.set()
	f.step()
	f.expect()
	f.after(time.Second).expect("w00 tries 3")
	f.result(rotate.Well, "")
	f.expect("w00 is on 3, moved", "w01 tries 3", "w02 tries 3")
	f.set()
	f.after(time.Second).expect("w01 goes back, superseded", "w02 goes back, superseded", "w00 tries 4")
}

func TestManual(t *testing.T) {
	f := newFleet(t, 1)
	f.all[0].Manual = true
	f.set()
	f.after(time.Minute).expect()
	f.standing(0, rotate.Stale)
}

func TestDeferral(t *testing.T) {
	f := newFleet(t, 1)
	f.set()
	f.after(time.Second).expect("w00 tries 2")
	f.result(rotate.Deferred, "no image")
	f.expect()
	f.after(30 * time.Second).expect("w00 goes back, deferred")
	f.standing(0, rotate.Waiting)
	f.after(14 * time.Second).expect()
	f.after(time.Second).expect("w00 tries 2")
	f.result(rotate.Deferred, "no image")
	f.after(30 * time.Second).expect("w00 goes back, deferred")
	f.after(29 * time.Second).expect() // twice as long
	f.after(time.Second).expect("w00 tries 2")
	if len(f.book.Record().GetVerdicts()) > 0 {
		t.Error("a deferral has condemned a version")
	}
}

func TestBrokenIsCondemnedUntried(t *testing.T) {
	f := newFleet(t, 2)
	f.set()
	f.now = f.now.Add(time.Second)
	f.aim()
	f.all[1].Move.Broken = "key K is missing"
	f.plan = f.planner.Plan(f.all, f.book, f.now)
	for _, a := range f.plan.Actions {
		f.do(a)
	}
	f.expect("w01 condemns")
	f.step()
	f.expect()
	if v := f.book.Quarantine("dev", "s", 2); v.GetReason() != "key K is missing" {
		t.Errorf("the verdict is %v", v)
	}
}

func TestTrialOfAnEarlierAgentIsDoneAnew(t *testing.T) {
	f := newFleet(t, 1)
	f.latest = 2
	f.all[0].Trial = &rotate.Trial{Trial: &statev1.Trial{Pins: pinsOf("s", 2), Set: pinsOf("s", 2), Keys: []string{"s/K"}, Mode: rotate.ModeRefresh, Try: 1, Canary: true}, Result: rotate.Lost}
	f.step()
	f.expect("w00 tries 2")
}

func TestStoppedIsLeft(t *testing.T) {
	f := newFleet(t, 2)
	f.set()
	f.after(time.Second).expect("w00 tries 2")
	f.all[0].Moves = false
	f.step()
	f.expect("w00 goes back, superseded", "w01 tries 2")
}

// What failed with other files is tried once more when those of before are back.
func TestFiles(t *testing.T) {
	f := newFleet(t, 2)
	f.mode = rotate.ModeRefresh
	f.set()
	f.after(time.Second).expect("w00 tries 2")
	f.result(rotate.Failed, "exited")
	f.expect("w00 puts its files back")
	f.after(time.Hour).expect()
	f.all[0].Trial.Trial = proto.CloneOf(f.all[0].Trial.Trial)
	f.all[0].Trial.Mode, f.all[0].Trial.Try, f.all[0].Trial.Result = rotate.ModeRestart, 2, rotate.UnderWay
	f.after(time.Second).expect()
	f.result(rotate.Failed, "exited")
	f.expect("w00 goes back, backed_out")
	if f.book.Quarantine("dev", "s", 2) == nil {
		t.Error("version 2 is not quarantined")
	}
}

// Who is not well holds nobody by its failure, also when it follows.
func TestSickFollower(t *testing.T) {
	f := newFleet(t, 7)
	f.set()
	f.after(time.Second)
	f.all[6].Health = rotate.Unhealthy
	f.all[0].Trial.Result = rotate.Well
	f.step()
	f.story = nil
	for range 2 {
		f.all[6].Trial.Result, f.all[6].Trial.Reason = rotate.Failed, "exited"
		f.step()
	}
	f.expect("w06 tries 2", "w06 goes back, backed_out", "w04 tries 2")
	f.result(rotate.Well, "")
	f.standing(5, rotate.Rotating)
}

// Changes of several secrets in turn do not put a move off for ever.
func TestSecretsThatChangeInTurn(t *testing.T) {
	f := newFleet(t, 1)
	pins := pinsOf("s", 2, "t", 2)
	for i := range 100 {
		f.planner.Notice("dev", []string{"s", "t"}[i%2], f.now)
		f.all[0].Move = &rotate.Move{Pins: pins, Set: pins, Keys: []string{"s/K", "t/K"}, Mode: rotate.ModeRestart}
		if f.plan = f.planner.Plan(f.all, f.book, f.now); len(f.plan.Actions) > 0 {
			break
		}
		f.now = f.now.Add(500 * time.Millisecond)
	}
	if waited := f.now.Sub(start); waited != 10*time.Second {
		t.Errorf("it moved after %s, want 10s", waited)
	}
}

// What cannot be told changes nothing.
func TestSecretsThatCannotBeRead(t *testing.T) {
	f := newFleet(t, 2)
	f.set()
	f.after(time.Second).expect("w00 tries 2")
	for _, w := range f.all {
		w.Move, w.Unknown = nil, "input/output error"
	}
	if p := f.planner.Plan(f.all, f.book, f.now); len(p.Actions) > 0 {
		t.Errorf("planned %v", p.Actions)
	}
}

// A try that is refused is not asked for again at once.
func TestSecondTryThatIsRefused(t *testing.T) {
	f := newFleet(t, 1)
	f.set()
	f.after(time.Second).expect("w00 tries 2")
	f.all[0].Trial.Result = rotate.Failed
	f.planner.Defer(f.all[0], f.all[0].Trial.Trial, "no room", f.now)
	f.step()
	f.expect("w00 goes back, deferred")
	f.after(14 * time.Second).expect()
	f.after(time.Second).expect("w00 tries 2")
}
