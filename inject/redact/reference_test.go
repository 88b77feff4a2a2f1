package redact

import (
	"bytes"
	"cmp"
	"slices"
	"strings"
)

// reference redacts an input that is flushed at some places, in order, and closed at
// its end. It is slow and made to be obviously right: it looks at all of the input
// known at each of these places.
type reference struct {
	needles []needle
	input   []byte
	said    []group // that are in the output
	output  []string
	clear   []int // the places of the input that are shown
}

// occurrence is a needle at a place of the input.
type occurrence struct {
	start, end int
	needle     needle
}

// group is a row of occurrences each of which shares a byte with the one before.
type group struct {
	start, end int
	best       needle
}

func refer(needles []needle, input []byte, flushes []int) *reference {
	r := &reference{needles: needles, input: input}
	from := 0
	for _, to := range append(slices.Clone(flushes), len(input)) {
		r.write(from, to)
		from = to
	}
	return r
}

func (r *reference) String() string { return strings.Join(r.output, "") }

// write writes what becomes of the input between two places, knowing the input as far
// as the second.
func (r *reference) write(from, to int) {
	groups := r.groups(to)
	waiting := r.waiting(to)
	for i := from; i < to; i++ {
		g := slices.IndexFunc(groups, func(g group) bool { return g.start <= i && i < g.end })
		switch {
		case g >= 0:
			r.say(groups, g)
		case i >= to-waiting && waiting >= 6 && strings.ContainsRune("\r\n", rune(r.input[i])):
			r.output = append(r.output, string(r.input[i:i+1]))
		case i >= to-waiting && waiting >= 6:
			r.hide()
		default:
			r.output = append(r.output, string(r.input[i:i+1]))
			r.clear = append(r.clear, i)
		}
	}
}

// say writes the label of a group, unless the last label stands directly before and is
// for a part of it, or for pieces that it goes on.
func (r *reference) say(groups []group, i int) {
	g := groups[i]
	overlaps := func(s group) bool { return s.start < g.end && g.start < s.end }
	same := slices.ContainsFunc(r.said, overlaps) ||
		i > 0 && groups[i-1].end == g.start && groups[i-1].best.piece && g.best.piece && groups[i-1].best.label == g.best.label
	r.said = append(r.said, g)
	if !same || len(r.output) == 0 || !strings.HasPrefix(r.output[len(r.output)-1], "[") || r.output[len(r.output)-1] == "[partial]" {
		r.output = append(r.output, g.best.label)
	}
}

func (r *reference) hide() {
	if len(r.output) == 0 || r.output[len(r.output)-1] != "[partial]" {
		r.output = append(r.output, "[partial]")
	}
}

// waiting is the length of the longest end of the input so far that is the beginning
// of a needle and not all of it.
func (r *reference) waiting(to int) int {
	longest := 0
	for _, n := range r.needles {
		for length := range n.text {
			if length <= to && length > longest && bytes.HasSuffix(r.input[:to], n.text[:length]) {
				longest = length
			}
		}
	}
	return longest
}

func (r *reference) groups(to int) []group {
	var all []group
	for _, o := range r.occurrences(to) {
		if len(all) == 0 || o.start >= all[len(all)-1].end {
			all = append(all, group{o.start, o.end, o.needle})
			continue
		}
		g := &all[len(all)-1]
		g.end = max(g.end, o.end)
		if better(o.needle, g.best) {
			g.best = o.needle
		}
	}
	return all
}

// better prefers the longer needle, then the label that sorts first, then a piece.
func better(a, b needle) bool {
	return cmp.Or(-cmp.Compare(len(a.text), len(b.text)), cmp.Compare(a.label, b.label), firstIf(a.piece, b.piece)) < 0
}

func (r *reference) occurrences(to int) []occurrence {
	var all []occurrence
	for _, n := range r.needles {
		for at := 0; ; at++ {
			next := bytes.Index(r.input[at:to], n.text)
			if next < 0 {
				break
			}
			at += next
			all = append(all, occurrence{at, at + len(n.text), n})
		}
	}
	slices.SortFunc(all, func(a, b occurrence) int { return cmp.Compare(a.start, b.start) })
	return all
}
