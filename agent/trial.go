package agent

import (
	"slices"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/purserd/purser/agent/rotate"
	"github.com/purserd/purser/agent/state"
	statev1 "github.com/purserd/purser/api/purser/state/v1"
	purserv1 "github.com/purserd/purser/api/purser/v1"
)

// A record holds the run and the pins that a workload is known to be well with. While
// another instance tries other pins, it is that one which is wanted: what follows says what
// is in force.

// replacing is the trial that another instance is for; nil when there is none.
func replacing(r *statev1.Workload) *statev1.Trial {
	if t := r.GetTrial(); t.GetMode() == rotate.ModeRestart {
		return t
	}
	return nil
}

// runOf is the run that is wanted by a record.
func runOf(r *statev1.Workload) uint64 {
	if t := replacing(r); t != nil {
		return t.GetRun()
	}
	return r.GetRun()
}

// pinsOf are the pins of the instance that is wanted by a record.
func pinsOf(r *statev1.Workload) []*purserv1.Pin {
	if t := replacing(r); t != nil {
		return t.GetPins()
	}
	return r.GetPins()
}

// lastRun is the highest run that has been given out.
func lastRun(r *statev1.Workload) uint64 {
	return max(r.GetRun(), r.GetTriedRun(), r.GetTrial().GetRun())
}

// renew has a record ask for another instance. What was being tried is given up.
func renew(r *statev1.Workload) {
	r.Run = lastRun(r) + 1
	r.Trial, r.DeliveredTo = nil, ""
}

// giveUpTrial has a record ask for what it did before its trial.
func giveUpTrial(r *statev1.Workload) {
	r.TriedRun = lastRun(r)
	r.Trial = nil
}

// try has a record ask for another instance on other pins, as somebody has asked for that,
// and for the one before if it turns out that these are no good.
func try(r *statev1.Workload, pins []*purserv1.Pin) {
	leaveFiles(r)
	var set []*purserv1.Pin
	for _, p := range pins {
		if p.GetVersion() != 0 && versionOf(r.GetPins(), p.GetSecret()) != p.GetVersion() {
			set = append(set, p)
		}
	}
	r.TriedRun = lastRun(r) + 1
	r.Trial = &statev1.Trial{Pins: pins, Set: set, Run: r.GetTriedRun(), Mode: rotate.ModeRestart, Try: 1, Asked: true, BeganAt: timestamppb.Now()}
}

// leaveFiles gives up a trial of files that nobody puts back any more: what is gone back to
// then is another instance than the one that has them.
func leaveFiles(r *statev1.Workload) {
	if files(r.GetTrial()) {
		renew(r)
	}
}

// giveUpTrials has all workloads be wanted as they are known to be well, as the next agent
// is to bring them back: there will be nothing beside what is tried. The caller holds writing.
func (a *Agent) giveUpTrials() {
	for _, w := range a.all("", "") {
		old := w.record()
		r := proto.CloneOf(old)
		if replacing(r) == nil {
			continue
		}
		giveUpTrial(r)
		if err := a.db.Update(func(tx *state.Tx) error { return tx.PutWorkload(r) }); err != nil {
			a.log.Error("a workload comes back on versions that it tries", "environment", r.GetEnvironment(), "workload", r.GetId(), "error", err)
			continue
		}
		w.accept(r, nil)
		w.tellGivenUp(old, "the node is stopping")
	}
}

// releaseDropped is releasePins for the versions that a workload was on, or tried, and is
// and does no more.
func (a *Agent) releaseDropped(old, now *statev1.Workload) {
	if pins := dropped(old, now); len(pins) > 0 {
		a.releasePins(old.GetEnvironment(), pins)
	}
}

// dropped are the pins of a record that a later one of the workload has no use for.
func dropped(old, now *statev1.Workload) []*purserv1.Pin {
	return slices.DeleteFunc(allPins(old), func(p *purserv1.Pin) bool {
		return slices.ContainsFunc(allPins(now), func(q *purserv1.Pin) bool { return samePin(p, q) })
	})
}

// allPins are those that a workload is on, tries, or would go back to.
func allPins(r *statev1.Workload) []*purserv1.Pin {
	return slices.Concat(r.GetPins(), r.GetTrial().GetPins(), r.GetFallback().GetPins())
}

// onTrial says whether it is not known yet of the instance that is wanted by a record how it
// does.
func onTrial(r *statev1.Workload) bool { return replacing(r) != nil || r.GetFallback() != nil }
