package redact

import "encoding/base64"

// alphabet is one of base64, by what its characters stand for.
type alphabet struct {
	encoding   *base64.Encoding
	characters string
}

const common = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"

var alphabets = []alphabet{
	{base64.RawStdEncoding, common + "+/"},
	{base64.RawURLEncoding, common + "-_"},
}

// base64Forms returns what base64 makes of a value that lies anywhere in a longer
// text. A character holds 6 bits, so the value may begin after 0, 1 or 2 bytes of a
// group of 3.
func base64Forms(data []byte) []form {
	var all []form
	for skipped := range 3 {
		for _, a := range alphabets {
			all = append(all, a.form(data, skipped))
		}
	}
	return all
}

// form has for its text the characters that depend on the value alone. The one
// before and the one after hold bits of their neighbours as well: they can be any of
// 4 or 16, and the last one what an encoder writes at the end, with padding or not.
func (a alphabet) form(data []byte, skipped int) form {
	padded := append(make([]byte, skipped, skipped+len(data)), data...)
	encoding := a.encoding
	text := encoding.AppendEncode(nil, padded)
	clear(padded)
	bits := 8 * (skipped + len(data))
	first, end := (8*skipped+5)/6, bits/6
	f := form{text: text[first:end]}
	if skipped > 0 {
		foreign := 8*skipped - 6*(first-1) // bits, on the left
		f.before = a.variants(text[first-1], 1<<foreign, 6-foreign)
	}
	if known := bits % 6; known > 0 {
		f.last = append(f.last, text[end:end+1], append([]byte{text[end]}, "=="[:3-known/2]...))
		f.after = a.variants(text[end], 1<<(6-known), 0)
	}
	return f
}

// variants returns the characters that are like one in all bits but those that a
// neighbour has: so many combinations, shifted so far to the left. In c they are 0.
func (a alphabet) variants(c byte, combinations, shift int) [][]byte {
	known := 0
	for a.characters[known] != c {
		known++
	}
	var all [][]byte
	for u := range combinations {
		all = append(all, []byte{a.characters[known|u<<shift]})
	}
	return all
}
