package cli

import (
	"bytes"
	"errors"
	"io"
	"testing"
	"testing/iotest"

	"pgregory.net/rapid"
)

func TestParseDetachKeys(t *testing.T) {
	for text, want := range map[string]string{
		"ctrl-p,ctrl-q": "\x10\x11", "a": "a", "ctrl-@,ctrl-_": "\x00\x1f", "CTRL-A,~": "\x01~", "": "",
	} {
		if got, err := parseDetachKeys(text); err != nil || string(got) != want {
			t.Errorf("%q: %q, %v", text, got, err)
		}
	}
	for _, text := range []string{"ctrl-", "ctrl-1", "ctrl-pq", "ab", ",", "ä", " "} {
		if got, err := parseDetachKeys(text); err == nil {
			t.Errorf("%q is %q", text, got)
		}
	}
}

// However the keys arrive, all is passed up to where they are first typed whole.
func TestDetachReader(t *testing.T) {
	letter := rapid.ByteRange('a', 'b') // so that starts of the keys abound
	rapid.Check(t, func(t *rapid.T) {
		keys := rapid.SliceOfN(letter, 0, 4).Draw(t, "keys")
		typed := rapid.SliceOfN(letter, 0, 40).Draw(t, "typed")
		var from io.Reader = bytes.NewReader(typed)
		if rapid.Bool().Draw(t, "one by one") {
			from = iotest.OneByteReader(from)
		}
		got, err := io.ReadAll(&detachReader{from: from, keys: keys})
		at := bytes.Index(typed, keys)
		if len(keys) == 0 || at < 0 {
			if err != nil || !bytes.Equal(got, typed) {
				t.Errorf("got %q, %v", got, err)
			}
			return
		}
		if !errors.Is(err, errDetached) || !bytes.Equal(got, typed[:at]) {
			t.Errorf("got %q, %v; want %q", got, err, typed[:at])
		}
	})
}
