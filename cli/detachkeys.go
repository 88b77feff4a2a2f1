package cli

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
)

// defaultDetachKeys are docker's.
const defaultDetachKeys = "ctrl-p,ctrl-q"

func detachKeysFlag(cmd *cobra.Command, keys *string) {
	cmd.Flags().StringVar(keys, "detach-keys", defaultDetachKeys, "`KEYS` that leave a terminal: letters or ctrl-LETTER, separated by commas; none when empty")
}

// parseDetachKeys reads what --detach-keys takes: characters, and ctrl- with a
// letter or one of @ [ \ ] ^ _.
func parseDetachKeys(text string) ([]byte, error) {
	if text == "" {
		return nil, nil
	}
	var keys []byte
	for _, word := range strings.Split(text, ",") {
		key, ok := parseKey(word)
		if !ok {
			return nil, fmt.Errorf("--detach-keys %q: %q is no key: must be characters or ctrl-LETTER, separated by commas, such as %s", text, word, defaultDetachKeys)
		}
		keys = append(keys, key)
	}
	return keys, nil
}

func parseKey(word string) (byte, bool) {
	if name, ok := strings.CutPrefix(strings.ToLower(word), "ctrl-"); ok && len(name) == 1 {
		// The control characters are the upper-case letters, and what is around
		// them, less 64.
		c := strings.ToUpper(name)[0]
		return c - '@', c >= '@' && c <= '_'
	}
	if len(word) != 1 || word[0] <= ' ' || word[0] >= 0x7f {
		return 0, false
	}
	return word[0], true
}

// errDetached is where a person typed the keys that leave.
var errDetached = errors.New("the keys to detach were typed")

// detachReader reads what is typed until the keys that leave are typed. A start of
// them is held back until what follows shows that they are not meant.
type detachReader struct {
	from io.Reader
	keys []byte
	held []byte
}

func (r *detachReader) Read(p []byte) (int, error) {
	if len(p) <= len(r.keys) {
		return 0, io.ErrShortBuffer
	}
	for {
		typed := make([]byte, len(p)-len(r.keys))
		n, err := r.from.Read(typed)
		passed, left := r.pass(typed[:n])
		if left {
			return copy(p, passed), errDetached
		}
		if err != nil {
			passed, r.held = append(passed, r.held...), nil
		}
		if len(passed) > 0 || err != nil {
			return copy(p, passed), err
		}
	}
}

// pass returns what of it is for the program, and whether the keys are complete.
func (r *detachReader) pass(typed []byte) (passed []byte, left bool) {
	for _, c := range typed {
		r.held = append(r.held, c)
		for !bytes.HasPrefix(r.keys, r.held) {
			passed, r.held = append(passed, r.held[0]), r.held[1:]
		}
		if len(r.keys) > 0 && len(r.held) == len(r.keys) {
			return passed, true
		}
	}
	return passed, false
}
