package rotate_test

import (
	"testing"
	"time"

	"github.com/purserd/purser/agent/rotate"
	statev1 "github.com/purserd/purser/api/purser/state/v1"
)

// What is held while it is tried is not moved to, though it turns out well.
func TestHeldWhileItIsTried(t *testing.T) {
	f := newFleet(t, 2)
	f.set()
	f.after(time.Second).expect("w00 tries 2")
	f.book = f.book.WithHold(hold("dev", "s", 2))
	f.all[0].Trial.Result = rotate.Well
	f.step()
	f.expect("w00 goes back, superseded")
}

// A second try of what is not the newest any more is not begun, although the newest has not
// come to rest.
func TestNoSecondTryOfAnOldVersion(t *testing.T) {
	f := newFleet(t, 1)
	f.set()
	f.after(time.Second).expect("w00 tries 2")
	f.set()
	f.result(rotate.Failed, "exited with status 7")
	f.expect("w00 goes back, superseded")
	f.after(time.Second).expect("w00 tries 3")
}

// When what served beside an instance that is tried ends, it is started again at once, and
// what is new is tried after that; but not for ever.
func TestWhatServedEnds(t *testing.T) {
	f := newFleet(t, 2)
	f.set()
	f.after(time.Second).expect("w00 tries 2")
	f.all[0].Trial.Alone = true
	f.step()
	f.expect("w00 goes back, deferred", "w01 tries 2")
	f.after(14 * time.Second).expect()
	f.result(rotate.Well, "")
	f.expect("w01 is on 2, moved")
	f.after(time.Second).expect("w00 tries 2")
	f.all[0].Trial.Alone = true
	f.step()
	f.expect()
	f.result(rotate.Well, "")
	f.expect("w00 is on 2, moved")
}

// A second try has nothing beside it where the first has ended what ran: it goes on.
func TestSecondTryWithNothingBesideIt(t *testing.T) {
	f := newFleet(t, 1)
	f.set()
	f.after(time.Second).expect("w00 tries 2")
	f.result(rotate.Failed, "exited with status 7")
	f.expect("w00 tries 2")
	f.all[0].Trial.Alone = true
	f.step()
	f.expect()
	f.result(rotate.Failed, "exited with status 7")
	f.expect("w00 goes back, backed_out")
}

// One that was not well when it began has nothing to come back to.
func TestWhatServedEndsAndWasNotWell(t *testing.T) {
	f := newFleet(t, 1)
	f.all[0].Health = rotate.Unhealthy
	f.set()
	f.after(time.Second).expect("w00 tries 2")
	f.all[0].Trial.Alone = true
	f.step()
	f.expect()
}

// Of a group that lacks something one asks for it at a time.
func TestAGroupIsPutOffTogether(t *testing.T) {
	f := newFleet(t, 200)
	f.set()
	f.now = f.now.Add(time.Second)
	refused := 0
	for range 1000 {
		f.aim()
		if f.plan = f.planner.Plan(f.all, f.book, f.now); len(f.plan.Actions) == 0 {
			break
		}
		for _, a := range f.plan.Actions {
			f.planner.Defer(a.Workload, a.Trial, "no room", f.now)
			refused++
		}
	}
	if refused != 1 {
		t.Errorf("%d were refused in a moment", refused)
	}
	f.standing(199, rotate.Waiting)
	f.after(15 * time.Second).expect("w00 tries 2")
}

// Who waits for something under way goes on when that is over, and has no longer pause for it.
func TestAwaited(t *testing.T) {
	f := newFleet(t, 2)
	f.set()
	f.now = f.now.Add(time.Second)
	f.aim()
	begin := f.planner.Plan(f.all, f.book, f.now).Actions[0]
	for range 3 {
		f.planner.Await(begin.Workload, begin.Trial, "its image is pulled", f.now)
	}
	f.after(time.Minute).expect()
	f.standing(1, rotate.Waiting)
	f.planner.Resume("w01")
	f.after(0).expect()
	f.planner.Resume("w00")
	f.after(0).expect("w00 tries 2")
	f.planner.Defer(begin.Workload, begin.Trial, "no room", f.now)
	f.all[0].Trial = nil
	f.after(14 * time.Second).expect()
	f.after(time.Second).expect("w00 tries 2")
}

// What somebody has asked for is tried to its end: it waits for nobody, whatever it is behind,
// and tells of its workload alone.
func TestAskedFor(t *testing.T) {
	f := newFleet(t, 2)
	begin := func(version uint32) {
		f.all[0].Trial = &rotate.Trial{Trial: &statev1.Trial{Pins: pinsOf("s", version), Set: pinsOf("s", version), Mode: rotate.ModeRestart, Try: 1, Asked: true}}
	}
	begin(1)
	f.set()
	f.after(time.Second).expect("w01 tries 2")
	f.result(rotate.Well, "")
	f.expect("w00 is on 1, moved", "w01 is on 2, moved", "w00 tries 2")
	f.result(rotate.Well, "")
	f.expect("w00 is on 2, moved")

	f.all[1].Moves = false
	f.set()
	begin(3)
	for range 2 {
		f.result(rotate.Failed, "exited with status 7")
	}
	f.expect("w00 tries 3", "w00 goes back, backed_out")
	f.standing(0, rotate.Held)
	if f.book.Quarantine("dev", "s", 3) != nil {
		t.Error("it is held against all")
	}
	begin(3)
	f.result(rotate.Well, "")
	f.expect("w00 is on 3, moved")
}
