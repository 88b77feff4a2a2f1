package agent

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/purserd/purser/agent/supervise"
	purserv1 "github.com/purserd/purser/api/purser/v1"
	"github.com/purserd/purser/metrics"
	"github.com/purserd/purser/runtime/cni"
)

// rolling is a workload in a rolling change from generation 3, whose new instance is in
// a state.
func rolling(state supervise.State, why string, i *supervise.Instance) supervise.View {
	old := &supervise.Instance{ID: "old", Revision: supervise.NewRevision(3, &purserv1.LaunchSpec{}, nil), StartedAt: time.Unix(1, 0)}
	if i != nil {
		i.ID, i.Revision = "new", supervise.NewRevision(4, &purserv1.LaunchSpec{}, nil)
	}
	wanted := supervise.Desired{Goal: supervise.Run, Run: 2, Revision: supervise.NewRevision(4, &purserv1.LaunchSpec{}, nil)}
	return supervise.View{Desired: wanted, Status: supervise.Status{
		State: state, Reason: why, Run: 2, Instance: i,
		Kept: &supervise.Status{State: supervise.Running, Run: 1, Instance: old},
	}}
}

// The reason tells that something serves, as long as that is so.
func TestReasonInARollingChange(t *testing.T) {
	both := rolling(supervise.Running, "", &supervise.Instance{StartedAt: time.Unix(2, 0), Promoted: true})
	unready := rolling(supervise.Creating, "", &supervise.Instance{})
	unready.Status.Kept.State = supervise.Starting
	alone := rolling(supervise.BackingOff, "exited with status 3", nil)
	alone.Status.Kept = nil
	for name, tc := range map[string]struct {
		v    supervise.View
		want string
	}{
		"it is made":          {rolling(supervise.Creating, "", &supervise.Instance{}), "the instance of generation 3 serves meanwhile"},
		"it fails":            {rolling(supervise.BackingOff, "exited with status 3", nil), "exited with status 3; the instance of generation 3 serves meanwhile"},
		"it runs":             {rolling(supervise.Running, "", &supervise.Instance{StartedAt: time.Unix(2, 0)}), "it takes over when it has run well for 10s (rotation.min_ready); the instance of generation 3 serves meanwhile"},
		"it has taken over":   {both, ""},
		"neither serves":      {unready, ""},
		"nothing is kept now": {alone, "exited with status 3"},
	} {
		if got := reason(tc.v); got != tc.want {
			t.Errorf("%s: %q, want %q", name, got, tc.want)
		}
	}
}

// A new instance in the place of one that runs is a replacement, even if none has ever
// ended.
func TestRestartReason(t *testing.T) {
	crashed := supervise.Status{State: supervise.BackingOff, LastExit: &supervise.Exit{Cause: supervise.OOMKilled}}
	for name, tc := range map[string]struct {
		before supervise.Status
		want   string
	}{
		"the first change":         {supervise.Status{State: supervise.Running}, metrics.Replacement},
		"a start that was put off": {supervise.Status{State: supervise.BackingOff}, metrics.Replacement},
		"a crash":                  {crashed, supervise.OOMKilled},
		"a change after a crash":   {supervise.Status{State: supervise.Running, LastExit: crashed.LastExit}, metrics.Replacement},
	} {
		if got := restartReason(tc.before); got != tc.want {
			t.Errorf("%s: %s, want %s", name, got, tc.want)
		}
	}
}

// A rolling change that finds no address says what would give it one; any other start, and
// any other error, is what it is.
func TestRollingWithoutAddress(t *testing.T) {
	full := fmt.Errorf("connecting: %w", cni.ErrExhausted)
	change := rolling(supervise.Creating, "", &supervise.Instance{}).Status
	got := rollingWithoutAddress(change, full)
	if !errors.Is(got, cni.ErrExhausted) || !strings.Contains(got.Error(), "needs an address more") || !strings.Contains(got.Error(), "rotation.strategy restart") {
		t.Errorf("got %v", got)
	}
	alone := change
	alone.Kept = nil
	if got := rollingWithoutAddress(alone, full); got != full {
		t.Errorf("of one alone: %v", got)
	}
	for _, err := range []error{nil, errors.New("another")} {
		if got := rollingWithoutAddress(change, err); got != err {
			t.Errorf("of %v: %v", err, got)
		}
	}
}
