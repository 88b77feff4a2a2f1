package redact

import "github.com/purserd/purser/inject/internal/opaque"

// mark is embedded under an unexported name: its methods are promoted, the field
// itself stays out of sight.
type mark = opaque.Mark

// Value is the value of one key of a secret, as [Compile] takes it.
type Value struct {
	mark
	Secret, Key string // the names that stand in its place
	// Reveal returns a copy of the bytes, which Compile overwrites when it has seen
	// them. An inject.Value's method of this name is one.
	Reveal func() []byte
}

// label is what an occurrence of the value is replaced by.
func (v Value) label() string { return "[secret:" + v.Secret + "/" + v.Key + "]" }
