package redact

import (
	"bytes"
	"encoding/hex"
	"unicode/utf8"
)

const (
	// shortest is the least length of what is looked for. Shorter values are found
	// where they mean something else.
	shortest = 6
	// manyForms is the size up to which a value has all forms. Beyond, those that do
	// not occur at that size are left out, to save memory.
	manyForms = 16 << 10
)

// form is one way in which a value may be written. What stands before and after it
// in a longer text, or last, belongs to it where it is one of those listed.
type form struct {
	text                []byte
	before, after, last [][]byte
}

// forms returns the ways in which a value may be written, and the lines of it. Some
// may be the same.
func forms(data []byte) []form {
	var all []form
	body := bytes.TrimRight(data, "\r\n")
	if len(body) < len(data) {
		all = append(all, encodings(data)...)
	}
	if len(body) < shortest { // the line end is needed to make it long enough
		return append(all, form{text: bytes.Clone(data)})
	}
	all = append(all, plainForms(body)...)
	all = append(all, encodings(body)...)
	for _, line := range lines(body) {
		all = append(all, form{text: bytes.Clone(line)})
		if utf8.Valid(body) { // else the line ends are bytes like others
			all = append(all, lineForms(line, len(body) > manyForms)...)
		}
	}
	return all
}

// plainForms returns a value as it is, and with the line ends that a terminal makes of its
// own, and text files on Windows have.
func plainForms(body []byte) []form {
	unix := bytes.ReplaceAll(body, []byte("\r\n"), []byte("\n"))
	return []form{
		{text: bytes.Clone(body)},
		{text: unix},
		{text: bytes.ReplaceAll(unix, []byte("\n"), []byte("\r\n"))},
	}
}

// encodings returns the encoded forms of a whole value.
func encodings(data []byte) []form {
	all, few := byteForms(data), len(data) > manyForms
	if !few || utf8.Valid(data) {
		all = append(all, jsonForms(data)...)
	}
	if !few {
		all = append(all, percentForms(data)...)
	}
	return all
}

// lineForms returns the encoded forms of a line, of which a value has many: without
// what may stand before and after in a longer text.
func lineForms(line []byte, few bool) []form {
	all := append(jsonForms(line), percentForms(line)...)
	if few {
		return all
	}
	for _, f := range byteForms(line) {
		all = append(all, form{text: f.text, last: f.last})
	}
	return all
}

// byteForms returns the forms for bytes of any kind.
func byteForms(data []byte) []form {
	lower := hex.AppendEncode(nil, data)
	return append(base64Forms(data), form{text: lower}, form{text: bytes.ToUpper(lower)})
}

// lines returns the lines of a value of several that are long enough, without the
// space around them. One such as ------ is no secret and would be found everywhere.
func lines(body []byte) [][]byte {
	if !bytes.ContainsRune(body, '\n') {
		return nil
	}
	var all [][]byte
	for line := range bytes.SplitSeq(body, []byte("\n")) {
		line = bytes.TrimSpace(line)
		if len(line) >= shortest && len(bytes.Trim(line, string(line[:1]))) > 0 {
			all = append(all, line)
		}
	}
	return all
}
