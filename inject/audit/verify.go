package audit

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
)

// Kind is what is wrong with a trail.
type Kind string

// The kinds.
const (
	Changed   Kind = "changed"   // a record is not as it was written
	Dropped   Kind = "dropped"   // records are missing between others
	Truncated Kind = "truncated" // records are missing at the end of a file, or of all
	Reordered Kind = "reordered" // a record stands behind a later one
	Repeated  Kind = "repeated"  // a record is there a second time
	Foreign   Kind = "foreign"   // something that is no record of this trail
	Forked    Kind = "forked"    // a record does not follow the one before it
	Head      Kind = "head"      // the sealed head is missing, forged or an old one
	Noted     Kind = "noted"     // damage that was found when the trail was opened
)

// Problem is one thing that is wrong.
type Problem struct {
	Kind Kind
	// File is its name in the trail's directory, Line the number of the line; 0 when
	// it is about the whole file.
	File string
	Line int
	// Seq is the record that it is about, or the first of several up to Last; 0 for
	// what has no number.
	Seq, Last uint64
	Text      string
}

// Report is what [Log.Verify] has found.
type Report struct {
	// Records that are authentic, and those that the trail should begin and end with.
	Records       uint64
	Oldest, Last  uint64
	Files         int
	Problems      []Problem // by file and line; up to maxProblems
	TotalProblems int
}

// OK says whether the trail is whole.
func (r Report) OK() bool { return r.TotalProblems == 0 }

// maxProblems is how many are told apart.
const maxProblems = 1000

// Verify reads the whole trail and checks it against the head. It fails when it
// cannot read.
func (l *Log) Verify(ctx context.Context) (Report, error) {
	if err := l.queue.settle(ctx); err != nil {
		return Report{}, err
	}
	l.verifying.RLock()
	defer l.verifying.RUnlock()
	state, err := l.state()
	if err != nil {
		return Report{}, err
	}
	c := &checker{log: l, next: state.last.Oldest, end: state.last}
	c.strangers(state)
	for _, file := range state.files {
		if file < state.last.Oldest {
			continue
		}
		c.report.Files++
		if err := c.checkFile(ctx, file, state.sizes[file]); err != nil {
			return Report{}, fmt.Errorf("reading the audit trail: %w", err)
		}
	}
	c.finish()
	c.report.Oldest, c.report.Last = state.last.Oldest, state.last.Seq
	return c.report, nil
}

// state is the trail at a moment.
type state struct {
	last      head
	files     []uint64
	sizes     map[uint64]int64
	others    []string
	headWrong string // what is wrong with the sealed head
}

// state notes how things are between two records.
func (l *Log) state() (state, error) {
	l.flushing.Lock()
	defer l.flushing.Unlock()
	headWrong, err := l.checkHead()
	if err != nil {
		return state{}, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	s := state{last: l.last, sizes: map[uint64]int64{}, headWrong: headWrong}
	if s.files, s.others, err = l.list(); err != nil {
		return state{}, err
	}
	for _, file := range s.files {
		info, err := os.Lstat(l.path(file))
		if err != nil {
			return state{}, fmt.Errorf("reading the audit trail: %w", err)
		}
		s.sizes[file] = info.Size()
	}
	return s, nil
}

// checkHead compares the sealed head with the one that was sealed last. The caller
// holds flushing.
func (l *Log) checkHead() (wrong string, err error) {
	if l.sealed == (head{}) {
		return "", nil // it was damaged when the trail was opened, as the record of that says
	}
	sealed, err := l.readHead()
	switch {
	case errors.Is(err, errForm), errors.Is(err, errMAC):
		return "the sealed head is not authentic", nil
	case err != nil:
		return "", err
	case sealed == nil:
		return "the sealed head is missing", nil
	case *sealed != l.sealed:
		return fmt.Sprintf("the sealed head is at record %d, and was sealed at record %d", sealed.Seq, l.sealed.Seq), nil
	}
	return "", nil
}

// checker goes along the lines.
type checker struct {
	log    *Log
	report Report
	// next is the record that should come.
	next uint64
	end  head
	// before is the newest record that was read; its MAC is what the next one must have.
	before head
	// at is where that was, and file the one that is being read.
	at, here spot
	// bad are lines since then that are no records, badMore those beyond maxProblems.
	bad     []spot
	badMore int
	gaps    []gap
}

// spot is a line of a file.
type spot struct {
	file uint64
	line int
}

// gap is a row of records that have not been seen.
type gap struct {
	from, to uint64
	at       spot
	kind     Kind
}

func (c *checker) strangers(s state) {
	if s.headWrong != "" {
		c.problem(Problem{Kind: Head, Seq: s.last.Seq, Text: s.headWrong})
	}
	for _, name := range s.others {
		c.problem(Problem{Kind: Foreign, File: name, Text: "it is no file of the trail"})
	}
	for _, file := range s.files {
		if file < s.last.Oldest {
			c.problem(Problem{Kind: Foreign, File: fileName(file), Text: fmt.Sprintf("the trail begins with record %d: rotation has removed what was before", s.last.Oldest)})
		}
	}
}

func (c *checker) checkFile(ctx context.Context, file uint64, size int64) error {
	r, done, err := c.log.open(file, 0, size)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // what is missing is found by its records
	}
	if err != nil {
		return err
	}
	defer done()
	c.here = spot{file: file}
	for at, err := range eachLine(r) {
		if err != nil {
			return err
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		c.here.line = at.number
		c.checkLine(at)
	}
	if c.here.line == 0 {
		c.problem(Problem{Kind: Foreign, File: fileName(file), Text: "it is empty"})
	}
	return nil
}

func (c *checker) checkLine(at line) {
	var r Record
	mac, err := c.log.key.open(at.text, &r)
	if err != nil || !at.whole {
		if len(c.bad) < maxProblems {
			c.bad = append(c.bad, c.here)
		} else {
			c.badMore++
		}
		return
	}
	c.report.Records++
	if at.number == 1 && r.Seq != c.here.file {
		c.problem(Problem{Kind: Foreign, File: fileName(c.here.file), Line: 1, Seq: r.Seq, Text: fmt.Sprintf("by its name the file begins with record %d", c.here.file)})
	}
	if r.Action == Opened && r.Outcome == Damaged {
		c.problem(c.about(Noted, r.Seq, "when the agent started, the trail had been changed: "+r.Why))
	}
	if r.Seq < c.next {
		c.late(r.Seq)
		return
	}
	c.skipTo(r.Seq)
	if c.before.MAC != "" && c.before.Seq+1 == r.Seq && r.Prev != c.before.MAC {
		c.problem(c.about(Forked, r.Seq, fmt.Sprintf("it does not follow the record %d that is before it: one of them is of another history, as after a restore of a backup", c.before.Seq)))
	}
	c.before, c.at, c.next = head{Seq: r.Seq, MAC: mac}, c.here, r.Seq+1
}

// about is a problem of the line that is being read.
func (c *checker) about(kind Kind, seq uint64, text string) Problem {
	return Problem{Kind: kind, File: fileName(c.here.file), Line: c.here.line, Seq: seq, Text: text}
}

// late is an authentic record where a later one should be.
func (c *checker) late(seq uint64) {
	for i, g := range c.gaps {
		if seq < g.from || seq > g.to {
			continue
		}
		c.problem(c.about(Reordered, seq, fmt.Sprintf("it stands behind record %d", c.next-1)))
		parts := []gap{{g.from, seq - 1, g.at, g.kind}, {seq + 1, g.to, g.at, g.kind}}
		parts = slices.DeleteFunc(parts, func(g gap) bool { return g.from > g.to })
		c.gaps = slices.Replace(c.gaps, i, i+1, parts...)
		return
	}
	c.problem(c.about(Repeated, seq, "it was there before, or is of before the oldest that is kept"))
}

// skipTo accounts for what should be before a record: the lines that are none stand
// for as many records, and the rest is missing.
func (c *checker) skipTo(seq uint64) {
	for _, at := range c.bad {
		p := Problem{Kind: Foreign, File: fileName(at.file), Line: at.line, Text: "it is no record of this trail"}
		if c.next < seq {
			p.Kind, p.Seq, p.Text = Changed, c.next, "it is not as it was written"
			c.next++
		}
		c.problem(p)
	}
	if c.badMore > 0 {
		c.problem(Problem{Kind: Foreign, File: fileName(c.here.file), Text: fmt.Sprintf("%d more lines that are no records of this trail", c.badMore)})
	}
	c.bad, c.badMore = nil, 0
	if c.next == seq {
		return
	}
	g := gap{from: c.next, to: seq - 1, at: c.here, kind: Dropped}
	if c.here.file != c.at.file && c.at.file != 0 {
		g.at, g.kind = c.at, Truncated
	}
	c.gaps = append(c.gaps, g)
}

// finish holds what was read against the head.
func (c *checker) finish() {
	if c.next <= c.end.Seq || len(c.bad) > 0 {
		count := len(c.gaps)
		c.skipTo(max(c.end.Seq+1, c.next))
		if len(c.gaps) > count {
			c.gaps[count].at, c.gaps[count].kind = c.here, Truncated
		}
	}
	if c.before.Seq > c.end.Seq || c.before.Seq == c.end.Seq && c.before.MAC != c.end.MAC {
		c.problem(Problem{Kind: Forked, File: fileName(c.at.file), Line: c.at.line, Seq: c.before.Seq, Text: "it is not the record that was written last"})
	}
	for _, g := range c.gaps {
		c.problem(g.problem())
	}
	slices.SortStableFunc(c.report.Problems, func(a, b Problem) int {
		return cmp.Or(strings.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line))
	})
}

func (g gap) problem() Problem {
	p := Problem{Kind: g.kind, Seq: g.from, Last: g.to, Line: g.at.line}
	if g.at.file != 0 {
		p.File = fileName(g.at.file)
	}
	what := fmt.Sprintf("records %d to %d are missing", g.from, g.to)
	if g.from == g.to {
		what, p.Last = fmt.Sprintf("record %d is missing", g.from), 0
	}
	where := "before this line"
	if g.kind == Truncated {
		where = "behind this line: the end was cut off, or whole files are gone"
	}
	p.Text = what + " " + where
	return p
}

func (c *checker) problem(p Problem) {
	c.report.TotalProblems++
	if len(c.report.Problems) < maxProblems {
		c.report.Problems = append(c.report.Problems, p)
	}
}
