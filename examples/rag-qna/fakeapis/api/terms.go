package api

import (
	"slices"
	"strings"
	"unicode"
)

// terms splits text into lower-case word stems, without words that say nothing.
func terms(text string) []string {
	words := strings.FieldsFunc(strings.ToLower(text), func(r rune) bool {
		return !unicode.IsLetter(r) && !unicode.IsDigit(r)
	})
	var out []string
	for _, word := range words {
		if _, empty := stopWords[word]; !empty && len(word) > 1 {
			out = append(out, stem(word))
		}
	}
	return out
}

func distinct(terms []string) []string {
	slices.Sort(terms)
	return slices.Compact(terms)
}

// stem cuts the commonest English endings: enough for "asked" to find "ask".
func stem(word string) string {
	for _, ending := range []string{"ing", "ed", "es", "s"} {
		if rest, ok := strings.CutSuffix(word, ending); ok && len(rest) >= 3 && !strings.HasSuffix(rest, "s") {
			return rest
		}
	}
	return word
}

var stopWords = set(`a about all an and any are as at be been but by can did do does for from had has have
	he her his how i in is it its let may me more my no not of on or our s say said says shall she should so
	t that the their them there these they this those to us was we were what when where which who whom whose
	why will with would you your speech president american americans`)

func set(words string) map[string]struct{} {
	m := map[string]struct{}{}
	for _, word := range strings.Fields(words) {
		m[word] = struct{}{}
	}
	return m
}
