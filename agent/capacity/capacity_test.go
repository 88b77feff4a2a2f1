package capacity

import (
	"errors"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	purserv1 "github.com/purserd/purser/api/purser/v1"
)

const mi = 1 << 20

func node() Node {
	return Node{
		Total:      Amounts{CPU: 2000, Memory: 4096 * mi, Pids: 5000},
		Reserve:    Amounts{CPU: 500, Memory: 96 * mi, Pids: 1000},
		Overcommit: Factors{CPU: 4, Memory: 1, Pids: 1},
	}
}

func TestAllocatable(t *testing.T) {
	got := node().Allocatable()
	for r, want := range (Amounts{CPU: 6000, Memory: 4000 * mi, Pids: 4000}) {
		if got[r] != want {
			t.Errorf("%s: got %d, want %d", Resource(r), got[r], want)
		}
	}
	small := node()
	small.Reserve = Amounts{Memory: 8192 * mi}
	if got := small.Allocatable()[Memory]; got != 0 {
		t.Errorf("a reserve of more than there is leaves %d", got)
	}
}

func TestOf(t *testing.T) {
	for name, tc := range map[string]struct {
		resources *purserv1.Resources
		want      Amounts
	}{
		"nothing asked":   {nil, Amounts{}},
		"all":             {&purserv1.Resources{Cpu: proto.Float64(0.5), Memory: proto.String("256Mi"), Pids: proto.Uint32(64)}, Amounts{CPU: 500, Memory: 256 * mi, Pids: 64}},
		"a tenth of CPU":  {&purserv1.Resources{Cpu: proto.Float64(0.1)}, Amounts{CPU: 100}},
		"rounded up":      {&purserv1.Resources{Cpu: proto.Float64(0.0101)}, Amounts{CPU: 11}},
		"powers of a ten": {&purserv1.Resources{Memory: proto.String("1G")}, Amounts{Memory: 1e9}},
	} {
		got := Of(&purserv1.LaunchSpec{Resources: tc.resources})
		for _, r := range Resources {
			if got[r] != tc.want[r] {
				t.Errorf("%s: %s: got %d, want %d", name, r, got[r], tc.want[r])
			}
		}
	}
}

func TestFits(t *testing.T) {
	use := func(name string, memory int64) Use { return Use{name, Amounts{Memory: memory * mi}} }
	for name, tc := range map[string]struct {
		others, asked []Use
		added         int64
		want          []string // of the refusal; none when it fits
	}{
		"an empty node":  {nil, []Use{use("a", 4000)}, 4000, nil},
		"just too much":  {nil, []Use{use("a", 4001)}, 4001, []string{"memory: 4Gi asked for, 3.9Gi free of 3.9Gi (4Gi less a reserve of 96Mi, times 1)"}},
		"the last room":  {[]Use{use("b", 3000)}, []Use{use("a", 1000)}, 1000, nil},
		"taken by one":   {[]Use{use("b", 3000)}, []Use{use("a", 1001)}, 1001, []string{"memory: 1001Mi asked for, 1000Mi free of 3.9Gi", "2.9Gi taken, most of it by b (2.9Gi)"}},
		"taken by many":  {[]Use{use("b", 1), use("c", 3000), use("d", 10), use("e", 20)}, []Use{use("a", 1024)}, 1024, []string{"c (2.9Gi), e (20Mi), d (10Mi), 1 more"}},
		"several ask":    {nil, []Use{use("a", 3072), use("b", 1024)}, 4096, []string{"4Gi asked for by a (3Gi), b (1Gi), 3.9Gi free"}},
		"no more asked":  {[]Use{use("b", 5000)}, []Use{use("a", 1000)}, 0, nil},
		"less asked":     {[]Use{use("b", 5000)}, []Use{use("a", 1000)}, -10, nil},
		"more, too full": {[]Use{use("b", 5000)}, []Use{use("a", 1000)}, 1, []string{"1000Mi asked for, -1000Mi free"}},
	} {
		t.Run(name, func(t *testing.T) {
			err := node().Fits(tc.others, tc.asked, Amounts{Memory: tc.added * mi})
			if (err != nil) != (tc.want != nil) {
				t.Fatalf("got %v", err)
			}
			for _, want := range tc.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q does not say %q", err, want)
				}
			}
		})
	}
}

func TestEveryLackIsTold(t *testing.T) {
	asked := []Use{{"a", Amounts{CPU: 7000, Memory: 1, Pids: 4001}}}
	err := node().Fits(nil, asked, asked[0].Amounts)
	var short *Shortage
	if !errors.As(err, &short) || len(short.Lacks) != 2 {
		t.Fatalf("got %v", err)
	}
	for _, want := range []string{"cpu: 7 asked for, 6 free of 6 (2 less a reserve of 0.5, times 4)", "pids: 4001 asked for, 4000 free"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q does not say %q", err, want)
		}
	}
}

// What is admitted one after the other never adds up to more than there is, whatever
// order, changes and removals it comes in; and what fits is not refused.
func TestNeverMoreThanThereIs(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		amount := rapid.Int64Range(0, 3000)
		n := Node{
			Total:      Amounts{CPU: amount.Draw(t, "cpu"), Memory: amount.Draw(t, "memory"), Pids: amount.Draw(t, "pids")},
			Reserve:    Amounts{CPU: amount.Draw(t, "kept cpu") / 4},
			Overcommit: Factors{CPU: 2, Memory: 1, Pids: 1},
		}
		has := map[string]Amounts{}
		for range rapid.IntRange(1, 20).Draw(t, "steps") {
			name := rapid.SampledFrom([]string{"a", "b", "c", "d"}).Draw(t, "name")
			if rapid.Bool().Draw(t, "remove") {
				delete(has, name)
				continue
			}
			asks := Amounts{CPU: amount.Draw(t, "asks"), Memory: amount.Draw(t, "asks"), Pids: amount.Draw(t, "asks")}
			var others []Use
			for other, a := range has {
				if other != name {
					others = append(others, Use{other, a})
				}
			}
			err := n.Fits(others, []Use{{name, asks}}, asks.Minus(has[name]))
			after := Sum(others).Plus(asks)
			fits := !n.Allocatable().Minus(after).negative()
			if fits != (err == nil) && asks.Minus(has[name]).Grows() {
				t.Fatalf("with %v, %v: fits %v, got %v", others, asks, fits, err)
			}
			if err == nil {
				has[name] = asks
			}
		}
		var all []Use
		for name, a := range has {
			all = append(all, Use{name, a})
		}
		if n.Allocatable().Minus(Sum(all)).negative() {
			t.Fatalf("%v was promised of %v", Sum(all), n.Allocatable())
		}
	})
}

func (a Amounts) negative() bool { return Amounts{}.Minus(a).Grows() }

func TestText(t *testing.T) {
	for n, want := range map[int64]string{0: "0", 1023: "1023", 1024: "1Ki", 1536: "1.5Ki", 256 * mi: "256Mi", -512 * mi: "-512Mi", 1<<30 - 1: "1023.9Mi"} {
		if got := Text(Memory, n); got != want {
			t.Errorf("%d bytes: got %s, want %s", n, got, want)
		}
	}
	if got := Text(CPU, 1250) + " " + Text(Pids, 7); got != "1.25 7" {
		t.Error(got)
	}
}
