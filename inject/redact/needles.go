package redact

import (
	"bytes"
	"cmp"
	"slices"
)

// longest is the size of the pieces into which longer forms are cut: small, so that
// little is held back and compared, and far beyond what occurs by chance.
const longest = 256

// needle is a text that is looked for.
type needle struct {
	text  []byte
	label string
	// piece says that it is cut from a longer form: the label of pieces that follow
	// each other is written once.
	piece bool
}

// needlesOf returns what to look for, sorted by text, each text once.
func needlesOf(values []Value) []needle {
	var all []needle
	for _, v := range values {
		data := v.Reveal()
		if len(data) >= shortest {
			for _, f := range forms(data) {
				all = f.appendNeedles(all, v.label())
			}
		}
		clear(data)
	}
	slices.SortFunc(all, compareNeedles)
	return compact(all)
}

func compareNeedles(a, b needle) int {
	return cmp.Or(bytes.Compare(a.text, b.text), cmp.Compare(a.label, b.label), firstIf(a.piece, b.piece))
}

// firstIf compares such that true comes first.
func firstIf(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return -1
	}
	return 1
}

// compact leaves the first needle of each text, and overwrites the others.
func compact(all []needle) []needle {
	kept := all[:0]
	for _, n := range all {
		if len(kept) > 0 && bytes.Equal(kept[len(kept)-1].text, n.text) {
			clear(n.text)
			continue
		}
		kept = append(kept, n)
	}
	return kept
}

// appendNeedles appends what to look for to find a form.
func (f form) appendNeedles(all []needle, label string) []needle {
	pieces := cut(f.text)
	for _, text := range f.atEdges(pieces) {
		all = append(all, needle{text, label, len(pieces) > 1})
	}
	clear(f.text)
	return all
}

// atEdges returns copies of the pieces, and of the first and last with each of the
// form's edges.
func (f form) atEdges(pieces [][]byte) [][]byte {
	var all [][]byte
	for _, p := range pieces {
		all = append(all, bytes.Clone(p))
	}
	for _, before := range f.before {
		all = append(all, slices.Concat(before, pieces[0]))
	}
	for _, after := range slices.Concat(f.after, f.last) {
		all = append(all, slices.Concat(pieces[len(pieces)-1], after))
	}
	return all
}

// cut returns a text in pieces; the last ones overlap, so that none is shorter.
func cut(text []byte) [][]byte {
	var pieces [][]byte
	for len(text) > longest {
		pieces = append(pieces, text[:longest])
		text = text[min(longest, len(text)-longest):]
	}
	return append(pieces, text)
}
