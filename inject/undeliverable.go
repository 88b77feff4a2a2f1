package inject

import (
	"bytes"
	"fmt"
	"regexp"
	"strings"
	"unicode/utf8"
)

// ReservedPrefix begins the names of variables that purser alone sets.
const ReservedPrefix = "PURSER_"

// MaxEnvString is the most bytes that execve takes for one variable, its name, the
// equals sign and the NUL at its end included: Linux' MAX_ARG_STRLEN.
const MaxEnvString = 128 << 10

// variableName is also what names a secret's keys; the two are the same because a
// key is a variable's name unless it is renamed.
var variableName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// UndeliverableError names every key that is there and cannot be delivered as an
// environment variable or in a file.
type UndeliverableError struct {
	Environment string
	// Problems are in the order of the references, then of the variables; those of
	// files follow.
	Problems []Undeliverable
}

// Undeliverable is one key that cannot be delivered.
type Undeliverable struct {
	Secret string
	// Key is empty for a file of all keys.
	Key string
	// Variable or File is what it was to be.
	Variable, File string
	// Reason in words; never holds the value.
	Reason string
}

// Error has a line for each key.
func (e *UndeliverableError) Error() string {
	lines := make([]string, len(e.Problems))
	for i, p := range e.Problems {
		lines[i] = fmt.Sprintf("environment %s: %s: %s", e.Environment, p.what(), p.Reason)
	}
	return strings.Join(lines, "\n")
}

func (p Undeliverable) what() string {
	switch {
	case p.File == "":
		return fmt.Sprintf("key %s of secret %s cannot be the environment variable %s", p.Key, p.Secret, p.Variable)
	case p.Key == "":
		return fmt.Sprintf("secret %s cannot be the file %s", p.Secret, p.File)
	default:
		return fmt.Sprintf("key %s of secret %s cannot be the file %s", p.Key, p.Secret, p.File)
	}
}

func (e *UndeliverableError) orNil() error {
	if len(e.Problems) == 0 {
		return nil
	}
	return e
}

// checkVariables wants vars sorted by name.
func checkVariables(secret string, vars []Var) []Undeliverable {
	var problems []Undeliverable
	for i, v := range vars {
		reason := v.undeliverable()
		if i > 0 && vars[i-1].Name == v.Name {
			reason = fmt.Sprintf("key %s has that name too", vars[i-1].Key)
		}
		if reason != "" {
			problems = append(problems, Undeliverable{Secret: secret, Key: v.Key, Variable: v.Name, Reason: reason})
		}
	}
	return problems
}

// undeliverable says what is wrong with a variable; nothing when empty.
func (v Var) undeliverable() string {
	switch {
	case !variableName.MatchString(v.Name):
		return "its name may have letters, digits and _ only, and no digit first"
	case strings.HasPrefix(v.Name, ReservedPrefix):
		return "names that start with " + ReservedPrefix + " are set by purser alone"
	}
	reason := ""
	limit := max(MaxEnvString-len(v.Name)-len("=\x00"), 0)
	v.Value.use(func(content []byte) { reason = unfit(content, limit) })
	return reason
}

// unfit says why no variable can hold a value; nothing when empty.
func unfit(value []byte, limit int) string {
	switch {
	case bytes.IndexByte(value, 0) >= 0:
		return "its value contains a NUL byte"
	case !utf8.Valid(value):
		return "its value is not UTF-8, which is all that a container's specification can hold; store it encoded, in base64 for example"
	case len(value) > limit:
		return fmt.Sprintf("its value has %d bytes, the limit is %d (128 KiB less the name)", len(value), limit)
	}
	return ""
}
