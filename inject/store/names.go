package store

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/purserd/purser/inject"
)

// Limits of what the store takes.
const (
	// MaxKey is the most bytes in a key.
	MaxKey = 256
	// MaxValue is the most bytes in one value.
	MaxValue = 1 << 20
	// MaxSecret is the most bytes in all values of a version together.
	MaxSecret = 1 << 20
)

var (
	namePattern = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)
	keyPattern  = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)
)

// InvalidError lists everything that is wrong with a call's arguments.
type InvalidError struct {
	Problems []Problem
}

// Problem is one thing that is wrong with an argument.
type Problem struct {
	// Field as in the API's PutRequest and RollbackRequest: data["KEY"], name…
	Field string
	// Message says what is wrong; never holds a value.
	Message string
}

// Error has a line for each problem.
func (e *InvalidError) Error() string {
	lines := make([]string, len(e.Problems))
	for i, p := range e.Problems {
		lines[i] = p.Field + ": " + p.Message
	}
	return strings.Join(lines, "\n")
}

func invalid(field, format string, args ...any) *InvalidError {
	return &InvalidError{Problems: []Problem{{Field: field, Message: fmt.Sprintf(format, args...)}}}
}

func (e *InvalidError) add(field, format string, args ...any) {
	e.Problems = append(e.Problems, Problem{Field: field, Message: fmt.Sprintf(format, args...)})
}

func (e *InvalidError) orNil() error {
	if len(e.Problems) == 0 {
		return nil
	}
	return e
}

// ValidName says whether text can be the name of a secret or an environment.
func ValidName(text string) bool { return validName(text) }

func validName(name string) bool { return namePattern.MatchString(name) }

func validKey(key string) bool { return len(key) <= MaxKey && keyPattern.MatchString(key) }

// checkNames guards every path that is made of an environment and a name.
func (e *InvalidError) checkNames(environment, name string) {
	for _, arg := range []struct{ field, value string }{{"environment", environment}, {"name", name}} {
		if !validName(arg.value) {
			e.add(arg.field, "%q must be 1 to 64 letters, digits and ._- starting with a letter or digit", arg.value)
		}
	}
}

// checkOptions looks at the options alone, and not at what the secret holds.
func (e *InvalidError) checkOptions(o PutOptions) {
	for _, key := range sortedKeys(o.Data) {
		field := fmt.Sprintf("data[%q]", key)
		if !validKey(key) {
			e.add(field, "a key must be 1 to %d letters, digits and _ not starting with a digit", MaxKey)
		}
		if size := o.Data[key].Len(); size > MaxValue {
			e.add(field, "the value has %d bytes, the limit is %d (1 MiB)", size, MaxValue)
		}
		if slices.Contains(o.Remove, key) {
			e.add(field, "the key is set and removed at once")
		}
	}
}

// checkTotal looks at what would become a version.
func checkTotal(data map[string]inject.Value) error {
	total := 0
	for _, value := range data {
		total += value.Len()
	}
	if total > MaxSecret {
		return invalid("data", "the values have %d bytes together, the limit is %d (1 MiB)", total, MaxSecret)
	}
	return nil
}
