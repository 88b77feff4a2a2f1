package probe

import (
	"fmt"
	"testing"

	"pgregory.net/rapid"
)

func TestJudge(t *testing.T) {
	tests := map[string]struct {
		judge   judge
		answers string // + and -
		want    string // after each: the new verdict, or a dot
	}{
		"first success":       {judge{successes: 1, failures: 3}, "+++", "P.."},
		"failures in a row":   {judge{successes: 1, failures: 3}, "----", "..F."},
		"a row is broken":     {judge{successes: 1, failures: 3}, "--+---", "..P..F"},
		"back again":          {judge{successes: 1, failures: 2}, "+--+--", "P.FP.F"},
		"successes in a row":  {judge{successes: 3, failures: 1}, "++-+++", "..F..P"},
		"one failure":         {judge{successes: 1, failures: 1}, "-+-", "FPF"},
		"passing to begin":    {judge{successes: 1, failures: 2, verdict: passing}, "++-+--", ".....F"},
		"passing and it does": {judge{successes: 1, failures: 1, verdict: passing}, "+", "."},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			var got string
			for _, answer := range tt.answers {
				var changed bool
				if tt.judge, changed = tt.judge.take(answer == '+'); changed {
					got += string(" PF"[tt.judge.verdict])
				} else {
					got += "."
				}
			}
			if got != tt.want {
				t.Errorf("%s: got %s, want %s", tt.answers, got, tt.want)
			}
		})
	}
}

// The verdict is that of the last row that was long enough.
func TestJudgeOfAnyAnswers(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		limits := rapid.IntRange(1, 4)
		j := judge{successes: limits.Draw(t, "successes"), failures: limits.Draw(t, "failures")}
		answers := rapid.SliceOf(rapid.Bool()).Draw(t, "answers")
		want := undecided
		for i, ok := range answers {
			row := 1
			for row <= i && answers[i-row] == ok {
				row++
			}
			before := want
			if ok && row >= j.successes {
				want = passing
			} else if !ok && row >= j.failures {
				want = failing
			}
			var changed bool
			j, changed = j.take(ok)
			if j.verdict != want || changed != (want != before) {
				t.Fatal(fmt.Sprint("after ", answers[:i+1], ": ", j, " changed: ", changed, ", want ", want))
			}
		}
	})
}
