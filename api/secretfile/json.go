package secretfile

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// ParseJSON reads an object of strings. Numbers and booleans are taken as they are
// written.
func ParseJSON(source []byte) (map[string][]byte, error) {
	decoder := json.NewDecoder(bytes.NewReader(source))
	decoder.UseNumber()
	malformed := func() error { return fmt.Errorf("not JSON, at byte %d", decoder.InputOffset()) }
	if open, err := decoder.Token(); err != nil {
		return nil, malformed()
	} else if open != json.Delim('{') {
		return nil, errors.New("must be a JSON object of strings")
	}
	values := map[string][]byte{}
	for decoder.More() {
		key, err := decoder.Token()
		if err != nil {
			return nil, malformed()
		}
		value, err := decoder.Token()
		if err != nil {
			return nil, malformed()
		}
		if err := addJSON(values, key.(string), value); err != nil {
			return nil, err
		}
	}
	if _, err := decoder.Token(); err != nil {
		return nil, malformed()
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("more follows after the JSON object")
	}
	return values, nil
}

func addJSON(values map[string][]byte, key string, value json.Token) error {
	switch v := value.(type) {
	case string:
		return add(values, key, v)
	case json.Number:
		return add(values, key, v.String())
	case bool:
		return add(values, key, fmt.Sprint(v))
	default:
		if !IsKey(key) {
			return errNoKey
		}
		return fmt.Errorf("%s must be a string, a number or a boolean", key)
	}
}
