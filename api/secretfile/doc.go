// Package secretfile parses the files that secrets are kept in by people and by other
// tools: K=V lines, JSON and YAML.
//
// Errors name keys and lines, and never the text itself: what is not a key may well be a
// value. Callers clear the values when they have used them; copies that the parsers of
// other modules make are out of reach.
package secretfile

import (
	"errors"
	"fmt"
	"regexp"
)

// MaxKey is the most bytes in a key.
const MaxKey = 256

// KeyRule says in words what a key is.
const KeyRule = "a key has letters, digits and underscores, does not start with a digit and is 256 long at most"

var keyPattern = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// IsKey says whether text can be a key of a secret.
func IsKey(text string) bool { return len(text) <= MaxKey && keyPattern.MatchString(text) }

var errNoKey = errors.New("a name is not a key: " + KeyRule)

// pairs are the values of a file by their keys.
type pairs struct {
	names  Names
	values map[string][]byte
}

func newPairs(names Names) pairs { return pairs{names: names, values: map[string][]byte{}} }

// add puts a value under the key that a name makes, which is new.
func (p pairs) add(name, value string) error {
	key, ok := p.names.Key(name)
	if !ok {
		return errNoKey
	}
	if _, twice := p.values[key]; twice {
		return fmt.Errorf("%s is given twice", key)
	}
	p.values[key] = []byte(value)
	return nil
}
