package agent

import (
	"fmt"
	"strings"
	"testing"

	statev1 "github.com/purserd/purser/api/purser/state/v1"
	purserv1 "github.com/purserd/purser/api/purser/v1"
	"github.com/purserd/purser/inject/audit"
)

// A second hold keeps what the first has held, says so, and is on record as nothing done.
func TestSecondHoldKeepsTheFirst(t *testing.T) {
	a, _ := rotating(t, "f")
	hold := func(from uint32) *purserv1.HoldResponse {
		t.Helper()
		got, err := a.HoldSecret(t.Context(), &purserv1.HoldRequest{Name: "s", From: from})
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	a.set(t, "two")
	if got := hold(2); got.GetFrom() != 2 || got.GetWasFrom() != 0 {
		t.Errorf("first: %v", got)
	}
	if got := hold(0); got.GetFrom() != 2 || got.GetWasFrom() != 2 || a.latestOf("dev", "s") != 1 {
		t.Errorf("second: %v; the latest is %d", got, a.latestOf("dev", "s"))
	}
	if r := a.lastRecord(t); r.GetAction() != string(audit.Hold) || r.GetOutcome() != string(audit.Unchanged) {
		t.Errorf("on record: %v", r)
	}
	if got := hold(1); got.GetFrom() != 1 || got.GetWasFrom() != 2 || a.latestOf("dev", "s") != 0 {
		t.Errorf("from a lower one: %v", got)
	}
	held := a.withheldBy(t)
	if !strings.HasPrefix(held, "held from version 1 on since ") {
		t.Errorf("it is %s", held)
	}
}

// withheldBy is why the newest version of the secret s is given to nobody.
func (a *Agent) withheldBy(t *testing.T) string {
	t.Helper()
	described, err := a.DescribeSecret("dev", "s")
	if err != nil {
		t.Fatal(err)
	}
	return described.GetVersions()[0].GetReason()
}

// Who releases what is not held is told, and why a launch does not get the newest.
func TestReleaseSaysWhatItDid(t *testing.T) {
	a, _ := rotating(t, "f")
	a.set(t, "two")
	a.failed(t, 2)
	release := func() string {
		t.Helper()
		got, err := a.ReleaseSecret(t.Context(), &purserv1.ReleaseRequest{Name: "s"})
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprintf("%d, held from %d; %s", got.GetVersion(), got.GetWasFrom(), got.GetWithheld())
	}
	if got := release(); got != "1, held from 0; version 2 is quarantined" {
		t.Error(got)
	}
	if _, err := a.HoldSecret(t.Context(), &purserv1.HoldRequest{Name: "s", From: 2}); err != nil {
		t.Fatal(err)
	}
	if got := release(); got != "1, held from 2; version 2 is quarantined" {
		t.Error(got)
	}
}

// A retry tries the latest version again, and none that is passed.
func TestRetrySaysWhatIsTried(t *testing.T) {
	a, _ := rotating(t, "f")
	retry := func() string {
		t.Helper()
		got, err := a.RetrySecret(t.Context(), &purserv1.RetryRequest{Name: "s"})
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprintf("tried %v of %v; %d", got.GetVersions(), got.GetFreed(), got.GetVersion())
	}
	if got := retry(); got != "tried [] of []; 1" {
		t.Error(got)
	}
	for range 3 {
		a.set(t, fmt.Sprint(a.latestOf("dev", "s")))
	}
	a.failed(t, 2, 4)
	if got := retry(); got != "tried [4] of [2 4]; 4" {
		t.Error(got)
	}
	a.failed(t, 2, 3)
	if got := retry(); got != "tried [] of [2 3]; 4" {
		t.Error(got)
	}
	ask(t, a, func(r *statev1.Workload) { r.Pins = []*purserv1.Pin{{Secret: "s", Version: 4}} })
	a.failed(t, 4)
	if got := retry(); got != "tried [] of [4]; 4" {
		t.Errorf("with nobody on an earlier one: %s", got)
	}
}
