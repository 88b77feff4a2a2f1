package agent

import (
	"fmt"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/purserd/purser/agent/rotate"
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

// Who is to move nowhere, and is on another version than a launch gets, says why.
func TestWhyCurrentIsNotTheLatest(t *testing.T) {
	for want, change := range map[string]func(*purserv1.SecretRef, *statev1.Workload){
		"version 2 changes no key that it uses":                        func(*purserv1.SecretRef, *statev1.Workload) {},
		"its spec names version 1":                                     func(ref *purserv1.SecretRef, _ *statev1.Workload) { ref.Version = proto.Uint32(1) },
		"its on_change is ignore: purser restart --secrets -E dev a/f": func(ref *purserv1.SecretRef, _ *statev1.Workload) { ref.OnChange = proto.String("ignore") },
		"it is a job, and ends with what it has":                       func(_ *purserv1.SecretRef, r *statev1.Workload) { r.Spec.Kind = proto.String("job") },
		"":                                                             func(_ *purserv1.SecretRef, r *statev1.Workload) { r.Pins[0].Version = 2 },
	} {
		a, _ := rotating(t, "f")
		a.set(t, "two")
		w := a.lookup("dev", "a/f")
		r := proto.CloneOf(w.record())
		change(r.GetSpec().GetSecrets()[0], r)
		w.accept(r, nil)
		a.rotator.standings[w.key] = rotate.Standing{State: rotate.Current}
		if got := w.staysOn("s", r.GetPins()[0].GetVersion()); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

// Only what an event is about is shown where that is asked for: an app's name is that of all
// of its workloads.
func TestEventsOfASubject(t *testing.T) {
	a, _ := rotating(t, "f")
	for _, subject := range []string{"shop/web", "shop/api", "shop", "shopping/x", "db"} {
		a.emit(warning, "X", "dev", subject, "x")
	}
	a.emit(normal, "X", "dev", "shop/web", "x")
	for want, r := range map[string]*purserv1.EventsRequest{
		"shop/web shop/api shop shop/web": {Subject: "shop"},
		"shop/web":                        {Subject: "shop/web", Severity: "normal"},
		"db":                              {Subject: "db", Environment: "dev"},
		"":                                {Subject: "db", Environment: "prod"},
	} {
		var got []string
		if err := a.Events(t.Context(), r, func(e *purserv1.Event) error { got = append(got, e.GetSubject()); return nil }); err != nil {
			t.Fatal(err)
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%v: got %v", r, got)
		}
	}
}
