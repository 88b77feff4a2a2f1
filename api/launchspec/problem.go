package launchspec

import (
	"fmt"
	"strings"
)

// Problem is one mistake in a launch spec.
type Problem struct {
	// File is its name as given to [Parse]; empty for a spec that came
	// without one.
	File string
	// Line and Column count from 1. Both are 0 without a file.
	Line, Column int
	// Field is the path of the field: functions[0].restart.policy. Empty
	// when the mistake concerns the file as a whole.
	Field string
	// Rule identifies the broken rule to programs: string.in.
	Rule string
	// Message says in words what is wrong. It follows the field's name, as
	// in "must be one of …", and holds no value that an expansion gave.
	Message string
}

// String gives the problem on one line, in the form editors can jump to.
func (p Problem) String() string {
	var b strings.Builder
	if p.File != "" {
		b.WriteString(p.File + ":")
		if p.Line > 0 {
			fmt.Fprintf(&b, "%d:%d:", p.Line, p.Column)
		}
		b.WriteString(" ")
	}
	if p.Field != "" {
		b.WriteString(p.Field + ": ")
	}
	fmt.Fprintf(&b, "%s (%s)", p.Message, p.Rule)
	return b.String()
}

// Problems are all mistakes found in one launch spec or app file, in the order
// of the file. As an error it is never empty.
type Problems []Problem

// Error gives one problem per line.
func (ps Problems) Error() string {
	lines := make([]string, len(ps))
	for i, p := range ps {
		lines[i] = p.String()
	}
	return strings.Join(lines, "\n")
}

// orNil keeps an empty list from becoming an error that is not nil.
func (ps Problems) orNil() error {
	if len(ps) == 0 {
		return nil
	}
	return ps
}
