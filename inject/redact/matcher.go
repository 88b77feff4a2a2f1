package redact

import "runtime"

// Matcher finds values in all their forms. It never changes and is safe for
// concurrent use. It shows "[redacted]" to everything that formats or encodes it; its
// memory is overwritten with zeros at the garbage collection after it and its
// streams are gone.
type Matcher struct {
	mark
	// A function, because fmt and other reflection print what a pointer in an
	// unexported field leads to, but cannot look into a closure.
	table func() *table
}

// Compile returns a Matcher for values; those under 6 bytes are ignored.
func Compile(values []Value) *Matcher {
	return compile(values, func(texts []byte) { clear(texts) })
}

// compile has wipe called with the texts when the last stream is gone.
func compile(values []Value, wipe func(texts []byte)) *Matcher {
	t := newTable(needlesOf(values))
	runtime.AddCleanup(t, wipe, t.texts)
	return &Matcher{table: func() *table { return t }}
}

// Text returns a text with the values in it replaced.
func (m *Matcher) Text(text string) string {
	s := m.Stream()
	return string(s.Close(s.Append(nil, []byte(text))))
}

// Stream returns a Stream at its beginning.
func (m *Matcher) Stream() *Stream {
	s := &Stream{table: m.table}
	s.forget()
	return s
}
