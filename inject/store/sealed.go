package store

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"
	"unicode/utf8"

	"filippo.io/age"

	"github.com/purserd/purser/inject"
)

// contents is what a version's file holds once it is opened. It is JSON so that a
// person can read it after age -d, and says which version it is so that a file under
// another's name is noticed.
type contents struct {
	Environment string    `json:"environment"`
	Name        string    `json:"name"`
	Version     uint32    `json:"version"`
	Created     time.Time `json:"created_at"`
	// Data holds the values that are valid UTF-8, which JSON keeps as they are.
	Data map[string]text `json:"data,omitempty"`
	// Binary holds the others, in base64.
	Binary map[string][]byte `json:"binary,omitempty"`
}

// text is a string of JSON that can be wiped.
type text []byte

// MarshalText implements [encoding.TextMarshaler].
func (t text) MarshalText() ([]byte, error) { return t, nil }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (t *text) UnmarshalText(b []byte) error {
	*t = bytes.Clone(b)
	return nil
}

// fill spreads the values over Data and Binary.
func (c *contents) fill(data map[string]inject.Value) {
	c.Data, c.Binary = map[string]text{}, map[string][]byte{}
	for key, value := range data {
		if plain := value.Reveal(); utf8.Valid(plain) {
			c.Data[key] = plain
		} else {
			c.Binary[key] = plain
		}
	}
}

func (c *contents) values() map[string]inject.Value {
	values := make(map[string]inject.Value, len(c.Data)+len(c.Binary))
	for key, value := range c.Data {
		values[key] = inject.NewValue(value)
	}
	for key, value := range c.Binary {
		values[key] = inject.NewValue(value)
	}
	return values
}

// wipe clears the values. What encoding/json and age keep of them in buffers of
// their own is out of reach.
func (c *contents) wipe() {
	for _, value := range c.Data {
		clear(value)
	}
	for _, value := range c.Binary {
		clear(value)
	}
}

func (c *contents) encode() ([]byte, error) {
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false) // a URL's & stays one, for the reader of age -d
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(c); err != nil {
		// Not wrapped: nothing that has seen the values may be quoted.
		return nil, errors.New("encoding the version failed")
	}
	return out.Bytes(), nil
}

// decodeContents returns errors that quote nothing of the plaintext.
func decodeContents(plain []byte) (*contents, error) {
	var c contents
	if err := decodeStrictly(plain, &c); err != nil {
		return nil, errors.New("it does not hold what purser writes")
	}
	for key := range c.Binary {
		if _, twice := c.Data[key]; twice {
			return nil, fmt.Errorf("it has key %q twice", key)
		}
	}
	if len(c.Data)+len(c.Binary) == 0 {
		return nil, errors.New("it has no key")
	}
	for _, key := range slices.AppendSeq(slices.Collect(maps.Keys(c.Data)), maps.Keys(c.Binary)) {
		if !validKey(key) {
			return nil, fmt.Errorf("it has a key %q, which is none", key)
		}
	}
	return &c, nil
}

// seal encrypts to the node and the further recipients.
func seal(plain []byte, recipients []age.Recipient) ([]byte, error) {
	var sealed bytes.Buffer
	w, err := age.Encrypt(&sealed, recipients...)
	if err != nil {
		return nil, fmt.Errorf("sealing: %w", err)
	}
	_, err = w.Write(plain)
	if err := errors.Join(err, w.Close()); err != nil {
		return nil, fmt.Errorf("sealing: %w", err)
	}
	return sealed.Bytes(), nil
}

func unseal(sealed []byte, identity age.Identity) ([]byte, error) {
	r, err := age.Decrypt(bytes.NewReader(sealed), identity)
	if err != nil {
		return nil, err
	}
	// Large enough from the start: growing would leave a copy behind.
	plain := bytes.NewBuffer(make([]byte, 0, len(sealed)+bytes.MinRead))
	if _, err := plain.ReadFrom(r); err != nil {
		clear(plain.Bytes())
		return nil, err
	}
	return plain.Bytes(), nil
}
