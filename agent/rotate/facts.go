package rotate

import (
	"cmp"
	"slices"
	"strings"
	"time"

	statev1 "github.com/purserd/purser/api/purser/state/v1"
	purserv1 "github.com/purserd/purser/api/purser/v1"
)

// The ways in which a change of secrets is carried out.
const (
	ModeRestart = "restart" // by another instance
	ModeSignal  = "signal"  // by other files and a signal
	ModeRefresh = "refresh" // by other files
)

// Health is what is known of how a workload does.
type Health int

const (
	// Unsettled: it has not run for long enough to tell.
	Unsettled Health = iota
	// Healthy: it does what it is for, and has for min_ready.
	Healthy
	// Unhealthy: it does not.
	Unhealthy
)

// Workload is what there is to know of a workload that uses secrets.
type Workload struct {
	Key string
	Who
	// Pins are the versions that it runs on.
	Pins []*purserv1.Pin
	// Moves: it is a service that is to run, and its node lets it.
	Moves bool
	// Busy says what comes before its secrets, for one that does not move for that; else empty.
	Busy string
	// Manual: it moves when it is asked to.
	Manual bool
	Splay  time.Duration
	// Opens is when it may move, now or a time before for at once; nil for always.
	Opens *time.Time
	Health
	// Settles is when an unsettled one will have run for long enough; zero when nobody can tell.
	Settles time.Time
	// Unproven: it has no ready probe, so that its being well says little.
	Unproven bool
	// Retries: it is a job between two attempts, the next of which takes the move as it is.
	Retries bool
	// Move is what it is to move to; nil when it has all that it uses and may have. Withheld
	// says then what there is that it may not have; empty for nothing.
	Move     *Move
	Withheld string
	// Unknown: what it is to move to cannot be told now, as its secrets cannot be read.
	Unknown string
	// Returning is until when it counts as one that moves, as it was stopped to go back to what
	// it ran on and does not serve again yet; zero for not at all.
	Returning time.Time
	// Trial is what it tries already; nil when it tries nothing.
	Trial *Trial
}

// Move is a change of a workload's pins.
type Move struct {
	// Pins are all of them, and Set those that change a key that it uses. Keys are these
	// keys, as SECRET/KEY, sorted.
	Pins, Set []*purserv1.Pin
	Keys      []string
	Mode      string
	// Broken says what no instance can be made of it for; empty when nothing is known.
	Broken string
	// Hurried: it waits neither for a window nor for a splay.
	Hurried bool
}

// Trial is a move under way, and what has become of it.
type Trial struct {
	*statev1.Trial
	Result
	// Reason of a failure or a deferral. Patient: what it is deferred for may come by itself.
	Reason  string
	Patient bool
	// Alone: nothing serves beside the instance that tries. Of a first try, what did has ended.
	Alone bool
	// Next is when the result may be another although nothing happens; zero for never.
	Next time.Time
}

// Result is what a trial has come to.
type Result int

const (
	UnderWay Result = iota
	Well            // it turned out well
	Failed
	Deferred // what it lacks is nothing of its own
	Lost     // what it was tried on is there no more; it is to be tried anew
	Ending   // it was withdrawn, and what it changed is being put back
)

// group is where workloads belong together: one goes first for all.
func group(who Who, set []*purserv1.Pin, keys []string) string {
	parts := []string{who.Environment, who.App, strings.Join(keys, " ")}
	for _, p := range sorted(set) {
		parts = append(parts, p.String())
	}
	return strings.Join(parts, "\x00")
}

func (w *Workload) group() string { return group(w.Who, w.Move.Set, w.Move.Keys) }

func sorted(set []*purserv1.Pin) []*purserv1.Pin {
	return slices.SortedFunc(slices.Values(set), func(a, b *purserv1.Pin) int { return cmp.Compare(a.GetSecret(), b.GetSecret()) })
}

// outdated says whether a trial tries what is not what is wanted any more. One that was asked
// for is, until it is over.
func (w *Workload) outdated() bool {
	return !w.Trial.GetAsked() && (w.Move == nil || !samePins(w.Move.Set, w.Trial.GetSet()))
}
