package agent

import (
	"github.com/purserd/purser/agent/rotate"
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

// onTrial says whether it is not known yet of the instance that is wanted by a record how it
// does.
func onTrial(r *statev1.Workload) bool { return replacing(r) != nil || r.GetFallback() != nil }
