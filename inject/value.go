package inject

import (
	"bytes"
	"crypto/subtle"
	"runtime"

	"github.com/purserd/purser/inject/internal/opaque"
)

// mark is embedded under an unexported name: its methods are promoted, the field
// itself stays out of sight.
type mark = opaque.Mark

// Value is the value of one key of a secret. It shows "[redacted]" to everything
// that formats or encodes it, cannot be compared with == and gives its bytes to
// [Value.Reveal] alone. Copies of a Value share their bytes, which never change and
// are overwritten with zeros at the garbage collection after the last copy is gone;
// there is one every two minutes at least. The zero Value is empty.
type Value struct {
	mark
	// A function, because fmt and other reflection print the bytes of a slice
	// when the Value lies in an unexported field, but cannot look into a closure.
	content func() *holder
}

// holder is what all copies of a Value share, and nothing else refers to.
type holder struct{ content []byte }

// NewValue returns a Value with a copy of b; the caller may overwrite b.
func NewValue(b []byte) Value { return newValue(b, func(content []byte) { clear(content) }) }

// newValue has wipe called with the bytes when the last copy is gone.
func newValue(b []byte, wipe func(content []byte)) Value {
	h := &holder{bytes.Clone(b)}
	if len(b) > 0 {
		// The bytes outlive the holder for this, without referring to it.
		runtime.AddCleanup(h, wipe, h.content)
	}
	return Value{content: func() *holder { return h }}
}

// Reveal returns a copy of the bytes. It is the one way out: call it where the
// bytes are handed over, and clear what it returns when that is done.
func (v Value) Reveal() []byte {
	var revealed []byte
	v.use(func(content []byte) { revealed = bytes.Clone(content) })
	return revealed
}

// Equal reports whether both hold the same bytes, in a time that depends on their
// lengths alone.
func (v Value) Equal(other Value) bool {
	equal := false
	v.use(func(a []byte) {
		other.use(func(b []byte) { equal = subtle.ConstantTimeCompare(a, b) == 1 })
	})
	return equal
}

// Len returns the number of bytes.
func (v Value) Len() int {
	length := 0
	v.use(func(content []byte) { length = len(content) })
	return length
}

// use shows the bytes themselves, which must not be changed nor kept: that they are
// there is certain only until do returns.
func (v Value) use(do func(content []byte)) {
	if v.content == nil {
		do(nil)
		return
	}
	h := v.content()
	do(h.content)
	runtime.KeepAlive(h)
}
