package secretfile

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/compose-spec/compose-go/v2/dotenv"
)

// ParseDotenv reads K=V lines, comments, quotes, escapes in double quotes. It takes every $
// as it is: a password with a $ in it must arrive whole, whatever variables purser happens
// to have. The parser expands variables and cannot be told not to, so it is not shown the $.
func ParseDotenv(source []byte) (map[string][]byte, error) {
	return ParseDotenvAs(source, Names{})
}

// ParseDotenvAs is ParseDotenv with keys made of the names.
func ParseDotenvAs(source []byte, names Names) (map[string][]byte, error) {
	text := string(source)
	dollar := unusedRune(text)
	var bare []string
	parsed, err := dotenv.ParseWithLookup(strings.NewReader(strings.ReplaceAll(text, "$", dollar)), func(key string) (string, bool) {
		bare = append(bare, key) // a line with a key and no =
		return "", false
	})
	if err != nil {
		return nil, dotenvError(err)
	}
	if len(bare) > 0 {
		return nil, errors.New("a line has no =; each must be K=V")
	}
	all := newPairs(names)
	for name, value := range parsed {
		if err := all.add(name, strings.ReplaceAll(value, dollar, "$")); err != nil {
			return nil, err
		}
	}
	return all.values, nil
}

// unusedRune finds a character of Unicode's private use area that text has not.
func unusedRune(text string) string {
	r := '\uE000'
	for strings.ContainsRune(text, r) {
		r++
	}
	return string(r)
}

var linePattern = regexp.MustCompile(`line \d+`)

// dotenvError tells where the mistake is. The parser's text quotes the line,
// value and all.
func dotenvError(err error) error {
	text := err.Error()
	what := "not a dotenv file: each line must be K=V"
	switch {
	case strings.Contains(text, "unterminated quoted value"):
		what = "a quoted value does not end"
	case strings.Contains(text, "variable name"), strings.Contains(text, "key cannot contain"):
		what = "there is no =, or not a key before it; " + KeyRule
	}
	if line := linePattern.FindString(text); strings.HasPrefix(text, line) && line != "" {
		return fmt.Errorf("%s: %s", line, what)
	}
	return errors.New(what)
}
