package launchspec

import (
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"
)

// nearest finds the field that a misspelt name probably means.
func nearest(name string, fields protoreflect.FieldDescriptors) (string, bool) {
	var names []string
	for i := range fields.Len() {
		names = append(names, string(fields.Get(i).Name()))
	}
	return Nearest(name, names)
}

// Nearest finds the one of several names that a misspelt one probably means.
func Nearest(name string, names []string) (string, bool) {
	name = folded(name)
	best, least := "", len(name)/3+1
	for _, candidate := range names {
		if d := distance(name, folded(candidate)); d < least {
			best, least = candidate, d
		}
	}
	return best, best != ""
}

// folded makes readOnly, read-only and read_only alike.
func folded(name string) string {
	return strings.NewReplacer("_", "", "-", "").Replace(strings.ToLower(name))
}

// distance is Levenshtein's: how many bytes to insert, delete or replace.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost = 1 + min(diagonal, row[j], row[j+1])
			}
			diagonal, row[j+1] = row[j+1], cost
		}
	}
	return row[len(b)]
}
