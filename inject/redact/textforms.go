package redact

import (
	"bytes"
	"slices"
	"unicode/utf8"
)

// escaper is a kind of percent-encoding: the characters besides letters and digits
// that it leaves as they are, and whether a space becomes a plus.
type escaper struct {
	keeps string
	plus  bool
}

var escapers = []escaper{
	{"-._~", false},                 // RFC 3986
	{"-._~", true},                  // Go's url.QueryEscape
	{"-._*", true},                  // HTML forms
	{"-._~$&+=:@", false},           // Go's url.PathEscape
	{"-._~/", false},                // Python's quote
	{"-._~!*'()", false},            // JavaScript's encodeURIComponent
	{"-._~!*'();/?:@&=+$,#", false}, // and encodeURI
}

// percentForms returns those that differ from the value and from each other.
func percentForms(data []byte) []form {
	all := []form{{text: data}}
	for _, e := range escapers {
		for _, digits := range hexDigits {
			all = addNew(all, e.escape(data, digits))
		}
	}
	return all[1:]
}

// addNew adds a text that is not there yet: of most values most forms are the same.
func addNew(all []form, text []byte) []form {
	if slices.ContainsFunc(all, func(f form) bool { return bytes.Equal(f.text, text) }) {
		clear(text)
		return all
	}
	return append(all, form{text: text})
}

var hexDigits = []string{"0123456789abcdef", "0123456789ABCDEF"}

func (e escaper) escape(data []byte, digits string) []byte {
	text := make([]byte, 0, 3*len(data))
	for _, c := range data {
		switch {
		case isAlphanumeric(c) || bytes.IndexByte([]byte(e.keeps), c) >= 0:
			text = append(text, c)
		case c == ' ' && e.plus:
			text = append(text, '+')
		default:
			text = append(text, '%', digits[c>>4], digits[c&15])
		}
	}
	return text
}

func isAlphanumeric(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z'
}

// quoter is a kind of JSON string, by what it escapes besides what it must.
type quoter struct {
	html  bool // < > &
	lines bool // U+2028, U+2029
	ascii bool // all that is not ASCII
	slash bool // /, as \/
	long  bool // control characters always as \u00XX
}

var quoters = []quoter{
	{html: true, lines: true}, // Go
	{lines: true},             // Go, without HTML escapes
	{},                        // JavaScript, jq
	{ascii: true},             // Python
	{ascii: true, slash: true},
	{long: true, lines: true},
}

// jsonForms returns those that differ from the value and from each other.
func jsonForms(data []byte) []form {
	all := []form{{text: data}}
	for _, q := range quoters {
		for _, digits := range hexDigits {
			all = addNew(all, q.quote(data, digits))
		}
	}
	return all[1:]
}

func (q quoter) quote(data []byte, digits string) []byte {
	text := make([]byte, 0, len(data)+len(data)/8)
	for len(data) > 0 {
		r, n := utf8.DecodeRune(data)
		switch {
		case r == utf8.RuneError && n == 1:
			text = unicodeEscape(text, r, digits)
		case r < utf8.RuneSelf:
			text = q.quoteASCII(text, byte(r), digits)
		case q.ascii || q.lines && (r == '\u2028' || r == '\u2029'):
			text = unicodeEscape(text, r, digits)
		default:
			text = append(text, data[:n]...)
		}
		data = data[n:]
	}
	return text
}

func (q quoter) quoteASCII(text []byte, c byte, digits string) []byte {
	const short, letters = "\b\f\n\r\t", "bfnrt"
	i := bytes.IndexByte([]byte(short), c)
	switch {
	case i >= 0 && !q.long:
		return append(text, '\\', letters[i])
	case c < ' ' || q.html && (c == '<' || c == '>' || c == '&'):
		return unicodeEscape(text, rune(c), digits)
	case c == '"' || c == '\\' || q.slash && c == '/':
		return append(text, '\\', c)
	}
	return append(text, c)
}

// unicodeEscape appends \uXXXX, or two of them for what is beyond 16 bits.
func unicodeEscape(text []byte, r rune, digits string) []byte {
	if r > 0xffff {
		r -= 0x10000
		text = unicodeEscape(text, 0xd800|r>>10, digits)
		r = 0xdc00 | r&0x3ff
	}
	return append(text, '\\', 'u', digits[r>>12], digits[r>>8&15], digits[r>>4&15], digits[r&15])
}
