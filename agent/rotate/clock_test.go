package rotate_test

import (
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/purserd/purser/agent/rotate"
)

// jumps are what a clock may do while there is no agent.
var jumps = map[string]time.Duration{"back": -24 * time.Hour, "forward": 24 * time.Hour}

// reborn has another agent come, by whose clock it is another time.
func (f *fleet) reborn(jump time.Duration) {
	f.planner = rotate.NewPlanner(rotate.Config{Quiet: time.Second, MaxDelay: 10 * time.Second, MaxParallel: 4}, func() float64 { return 0.5 })
	f.now = f.now.Add(jump)
}

// A follower waits for a part of its splay, and not for a clock that was put back.
func TestSplayOverAClockThatIsSet(t *testing.T) {
	for name, jump := range jumps {
		t.Run(name, func(t *testing.T) {
			f := newFleet(t, 2)
			f.all[1].Splay = 10 * time.Second
			f.set()
			f.after(time.Second)
			f.result(rotate.Well, "")
			f.expect("w00 tries 2", "w00 is on 2, moved")
			f.reborn(jump)
			f.step()
			f.expect() // nobody knows how long ago it was
			f.after(5 * time.Second).expect("w01 tries 2")
		})
	}
}

// A clock that is put forward and back under an agent changes nothing of a splay that has
// begun: what is on record of it is not looked at again.
func TestSplayThatHasBegun(t *testing.T) {
	f := newFleet(t, 2)
	f.all[1].Splay = 10 * time.Second
	f.set()
	f.after(time.Second)
	f.result(rotate.Well, "")
	f.expect("w00 tries 2", "w00 is on 2, moved")
	f.book.Record().GetProofs()[0].At = timestamppb.New(f.now.Add(24 * time.Hour))
	f.after(5 * time.Second).expect("w01 tries 2")
}

// What is deferred is waited for as long as ever, however old its record seems to be.
func TestPatienceOverAClockThatIsSet(t *testing.T) {
	for name, jump := range jumps {
		t.Run(name, func(t *testing.T) {
			f := newFleet(t, 1)
			f.set()
			f.after(time.Second).expect("w00 tries 2")
			f.reborn(jump)
			f.result(rotate.Deferred, "no image")
			f.expect()
			f.after(29 * time.Second).expect()
			f.after(time.Second).expect("w00 goes back, deferred")
		})
	}
}
