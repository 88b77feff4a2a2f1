package rotate_test

import (
	"fmt"
	"testing"

	"github.com/purserd/purser/agent/rotate"
	statev1 "github.com/purserd/purser/api/purser/state/v1"
	purserv1 "github.com/purserd/purser/api/purser/v1"
)

func pinsOf(namesAndVersions ...any) []*purserv1.Pin {
	var pins []*purserv1.Pin
	for i := 0; i < len(namesAndVersions); i += 2 {
		pins = append(pins, &purserv1.Pin{Secret: namesAndVersions[i].(string), Version: uint32(fmtInt(namesAndVersions[i+1]))})
	}
	return pins
}

func fmtInt(v any) int {
	switch v := v.(type) {
	case int:
		return v
	case uint32:
		return int(v)
	}
	panic(v)
}

func TestChoose(t *testing.T) {
	verdict := func(set ...any) *statev1.Verdict { return &statev1.Verdict{Environment: "dev", Set: pinsOf(set...)} }
	ofApp := verdict("a", 3)
	ofApp.App = "app"
	for name, test := range map[string]struct {
		book rotate.Book
		want string
	}{
		"nothing known":       {rotate.Book{}, "map[a:3 b:2]"},
		"held":                {rotate.Book{}.WithHold(hold("dev", "a", 2)), "map[a:1 b:2]"},
		"held elsewhere":      {rotate.Book{}.WithHold(hold("prod", "a", 2)), "map[a:3 b:2]"},
		"quarantined":         {rotate.Book{}.WithVerdict(verdict("a", 3)), "map[a:2 b:2]"},
		"all of it":           {rotate.Book{}.WithVerdict(verdict("b", 2)).WithVerdict(verdict("b", 1)), "map[a:3]"},
		"in an app":           {rotate.Book{}.WithVerdict(ofApp), "map[a:3 b:2]"},
		"together":            {rotate.Book{}.WithVerdict(verdict("a", 3, "b", 2)), "map[a:2 b:1]"},
		"together, no others": {rotate.Book{}.WithVerdict(verdict("a", 3, "c", 2)), "map[a:3 b:2]"},
		"twice":               {rotate.Book{}.WithVerdict(verdict("a", 3, "b", 2)).WithVerdict(verdict("a", 2, "b", 1)), "map[a:1]"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := fmt.Sprint(test.book.Choose("dev", map[string][]uint32{"a": {3, 2, 1}, "b": {2, 1}})); got != test.want {
				t.Errorf("chose %s, want %s", got, test.want)
			}
		})
	}
}

func TestPruneForgetsVersionsThatAreGone(t *testing.T) {
	b := rotate.Book{}.
		WithVerdict(&statev1.Verdict{Environment: "dev", Set: pinsOf("a", 1)}).
		WithVerdict(&statev1.Verdict{Environment: "dev", Set: pinsOf("a", 2)}).
		WithProof(&statev1.Proof{Environment: "dev", App: "x", Set: pinsOf("a", 1), Keys: []string{"a/K"}}).
		WithHurry("dev", "a", 1).WithHold(hold("dev", "a", 1))
	b = b.Prune(func(_, _ string, version uint32) bool { return version > 1 })
	r := b.Record()
	if len(r.GetVerdicts()) != 1 || len(r.GetProofs())+len(r.GetHurries()) != 0 || len(r.GetHolds()) != 1 {
		t.Errorf("left: %v", r)
	}
}

func hold(environment, secret string, from uint32) *statev1.Hold {
	return &statev1.Hold{Environment: environment, Secret: secret, From: from}
}

// A second hold never releases what the first has held.
func TestHoldNeverReleases(t *testing.T) {
	for _, tc := range []struct{ first, second, want uint32 }{{7, 8, 7}, {7, 7, 7}, {7, 3, 3}, {1, 99, 1}} {
		b := rotate.Book{}.WithHold(hold("dev", "s", tc.first)).WithHold(hold("dev", "s", tc.second))
		if got := b.Hold("dev", "s").GetFrom(); got != tc.want || len(b.Record().GetHolds()) != 1 {
			t.Errorf("from %d, then from %d: held from %d", tc.first, tc.second, got)
		}
	}
}

// A book that an earlier agent wrote has stays among its verdicts, as those of nobody.
func TestStaysOfAnEarlierBook(t *testing.T) {
	verdict := &statev1.Verdict{Environment: "dev", Set: pinsOf("s", 2), TriedBy: "app/w00"}
	old := &statev1.Verdict{Environment: "dev", App: "app", Workload: "app/w01", Set: pinsOf("s", 4), Reason: "its app was rolled back from it (rollback to 1)"}
	b := rotate.BookOf(&statev1.Rotation{Verdicts: []*statev1.Verdict{verdict, old}})
	b, freed := b.Acquit("dev", "s")
	if fmt.Sprint(freed) != "[2]" {
		t.Errorf("a retry frees %v", freed)
	}
	stays := b.Record().GetStays()
	if len(stays) != 1 || stays[0].GetWorkload() != "app/w01" || stays[0].GetVersion() != 4 || stays[0].GetReason() != old.GetReason() {
		t.Errorf("stays: %v", stays)
	}
	if again := rotate.BookOf(b.Record()); len(again.Record().GetStays()) != 1 {
		t.Errorf("read again: %v", again.Record())
	}
}
