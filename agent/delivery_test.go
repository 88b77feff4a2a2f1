package agent

import (
	"errors"
	"testing"

	"github.com/purserd/purser/agent/rotate"
)

// What an instance was well with that is gone by now is not taken for what runs.
func TestCommitLooksAtTheInstance(t *testing.T) {
	a, w := reading(t)
	a.tryFiles(t, 3)
	s, all := a.survey(t)
	v, _ := w.supervisor.View()
	v.Status.Instance.ID = "next"
	err := a.rotator.do(t.Context(), s, rotate.Action{Kind: rotate.Commit, Workload: all["a/f"], Result: rotate.ResultMoved})
	if !errors.Is(err, errStale) || versionOf(w.record().GetPins(), "s") != 2 {
		t.Errorf("%v, on %v", err, w.record().GetPins())
	}
}
