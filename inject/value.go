package inject

import (
	"bytes"
	"crypto/subtle"

	"github.com/purserd/purser/inject/internal/opaque"
)

// mark is embedded under an unexported name: its methods are promoted, the field
// itself stays out of sight.
type mark = opaque.Mark

// Value is the value of one key of a secret. It shows "[redacted]" to everything
// that formats or encodes it, cannot be compared with == and gives its bytes to
// [Value.Reveal] alone. Copies of a Value share their bytes. The zero Value is
// empty.
type Value struct {
	mark
	// A function, because fmt and other reflection print the bytes of a slice
	// when the Value lies in an unexported field, but cannot look into a closure.
	content func() *[]byte
}

// NewValue returns a Value with a copy of b; the caller may overwrite b.
func NewValue(b []byte) Value {
	owned := bytes.Clone(b)
	return Value{content: func() *[]byte { return &owned }}
}

// Reveal returns a copy of the bytes. It is the one way out: call it where the
// bytes are handed over, and keep what it returns no longer than that takes.
func (v Value) Reveal() []byte { return bytes.Clone(v.bytes()) }

// Equal reports whether both hold the same bytes, in a time that depends on their
// lengths alone.
func (v Value) Equal(other Value) bool {
	return subtle.ConstantTimeCompare(v.bytes(), other.bytes()) == 1
}

// Len returns the number of bytes.
func (v Value) Len() int { return len(v.bytes()) }

// Wipe overwrites the bytes with zeros and leaves the Value empty, and with it
// every copy made of it. Nobody may be using a copy meanwhile.
func (v Value) Wipe() {
	if v.content == nil {
		return
	}
	owned := v.content()
	clear(*owned)
	*owned = nil
}

// bytes returns the bytes themselves, which must not be changed nor kept.
func (v Value) bytes() []byte {
	if v.content == nil {
		return nil
	}
	return *v.content()
}
