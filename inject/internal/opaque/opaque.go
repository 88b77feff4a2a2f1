// Package opaque makes a type print and encode as "[redacted]", whatever prints
// or encodes it.
//
// Embed [Mark] and keep what is secret in unexported fields that reflection
// cannot read either: fmt calls no method on an unexported field of another
// struct but prints what it finds there. A closure is such a field, a byte slice
// is not.
package opaque

import (
	"fmt"
	"io"
	"log/slog"
)

// Text is what every embedding type shows of itself.
const Text = "[redacted]"

// Mark redacts the type that embeds it in fmt, log/slog, JSON, YAML, XML and gob.
type Mark struct{}

// Format writes [Text] for every verb and flag.
func (Mark) Format(state fmt.State, _ rune) { _, _ = io.WriteString(state, Text) }

// String returns [Text].
func (Mark) String() string { return Text }

// GoString returns [Text].
func (Mark) GoString() string { return Text }

// LogValue returns [Text].
func (Mark) LogValue() slog.Value { return slog.StringValue(Text) }

// MarshalText returns [Text]; YAML and XML encoders call it.
func (Mark) MarshalText() ([]byte, error) { return []byte(Text), nil }

// MarshalJSON returns [Text] as a JSON string.
func (Mark) MarshalJSON() ([]byte, error) { return []byte(`"` + Text + `"`), nil }

// GobEncode returns [Text].
func (Mark) GobEncode() ([]byte, error) { return []byte(Text), nil }
