package probe

// verdict is what the answers of a probe amount to so far.
type verdict int

const (
	undecided verdict = iota
	passing
	failing
)

// judge counts answers. Its zero value has none and decides nothing: successes and
// failures are how many in a row of a kind it takes.
type judge struct {
	successes, failures int
	verdict             verdict
	last                bool // the last answer,
	row                 int  // and how many of its kind there were in a row
}

// take counts an answer, and tells whether that has changed the verdict.
func (j judge) take(ok bool) (_ judge, changed bool) {
	if ok != j.last {
		j.row = 0
	}
	j.last = ok
	needed, to := j.failures, failing
	if ok {
		needed, to = j.successes, passing
	}
	j.row = min(j.row+1, needed)
	if j.row < needed || j.verdict == to {
		return j, false
	}
	j.verdict = to
	return j, true
}
