package secretfile

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// byteOrderMark is what some editors begin a file with.
const byteOrderMark = "\uFEFF"

// ParseJSON reads an object of strings. Numbers and booleans are taken as they are
// written.
func ParseJSON(source []byte) (map[string][]byte, error) { return ParseJSONAs(source, Names{}) }

// ParseJSONAs is ParseJSON with keys made of the names.
func ParseJSONAs(source []byte, names Names) (map[string][]byte, error) {
	if !utf8.Valid(source) {
		return nil, errors.New("not UTF-8, which JSON is; a value of bytes can be stored encoded, in base64 for example")
	}
	source = bytes.TrimPrefix(source, []byte(byteOrderMark))
	decoder := json.NewDecoder(bytes.NewReader(source))
	decoder.UseNumber()
	malformed := func() error { return fmt.Errorf("not JSON, at byte %d", decoder.InputOffset()) }
	if open, err := decoder.Token(); err != nil {
		return nil, malformed()
	} else if open != json.Delim('{') {
		return nil, errors.New("must be a JSON object of strings")
	}
	all := newPairs(names)
	for decoder.More() {
		name, err := decoder.Token()
		if err != nil {
			return nil, malformed()
		}
		before := decoder.InputOffset()
		value, err := decoder.Token()
		if err != nil {
			return nil, malformed()
		}
		if err := all.addJSON(name.(string), value, source[before:decoder.InputOffset()]); err != nil {
			return nil, err
		}
	}
	if _, err := decoder.Token(); err != nil {
		return nil, malformed()
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("more follows after the JSON object")
	}
	return all.values, nil
}

// addJSON adds a value, which is written like that.
func (p pairs) addJSON(name string, value json.Token, written []byte) error {
	key, ok := p.names.Key(name)
	if !ok {
		return errNoKey
	}
	switch v := value.(type) {
	case string:
		if !faithful(v, written) {
			return fmt.Errorf("%s has half of a surrogate pair (\\ud800 to \\udfff), which is no text", key)
		}
		return p.add(name, v)
	case json.Number:
		return p.add(name, v.String())
	case bool:
		return p.add(name, fmt.Sprint(v))
	default:
		return fmt.Errorf("%s must be a string, a number or a boolean", key)
	}
}

// faithful says whether a string is what is written: the decoder puts U+FFFD in the place
// of what is no text, without a word.
func faithful(value string, written []byte) bool {
	const replacement = "\uFFFD"
	have := strings.Count(value, replacement)
	return have == 0 || have <= bytes.Count(written, []byte(replacement))+bytes.Count(bytes.ToLower(written), []byte(`\ufffd`))
}
