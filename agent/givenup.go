package agent

import (
	"slices"

	"github.com/purserd/purser/agent/rotate"
	statev1 "github.com/purserd/purser/api/purser/state/v1"
)

// tellGivenUp tells of a try that a workload had under way by an earlier record of it, if
// what is on record now is not that any more. What the rotator itself ends it tells itself.
func (w *workload) tellGivenUp(old *statev1.Workload, reason string) {
	t, now := old.GetTrial(), w.record().GetTrial()
	if t == nil || t.GetEnding() != "" || now != nil && slices.EqualFunc(t.GetSet(), now.GetSet(), samePin) {
		return
	}
	w.agent.metrics.RotationEnded(strategyOf(old), rotate.ResultSuperseded, elapsed(t.GetBeganAt()))
	w.emit(normal, "RotationSuperseded", "the try of %s is given up: %s", setText(t.GetSet()), reason)
}
