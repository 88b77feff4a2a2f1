package inject

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"

	"github.com/purserd/purser/api/launchspec"
	purserv1 "github.com/purserd/purser/api/purser/v1"
	"github.com/purserd/purser/inject/redact"
)

// Redactions are the values that must not be seen in a workload's output, with what
// they are called there. Like [Value] they show "[redacted]" to everything that
// formats or encodes them.
type Redactions struct {
	mark
	values []redaction
}

type redaction struct {
	secret, key string
	value       Value
}

// redactionsOf are those of the used keys that are not exempt.
func redactionsOf(ref *purserv1.SecretRef, used []Var) []redaction {
	if !launchspec.SecretRedact(ref) {
		return nil
	}
	var all []redaction
	for _, v := range used {
		if !slices.Contains(ref.GetUnredactedKeys(), v.Key) {
			all = append(all, redaction{secret: ref.GetName(), key: v.Key, value: v.Value})
		}
	}
	return all
}

// Redactions are the used values of all secrets that are not exempt.
func (r *Resolution) Redactions() Redactions { return Redactions{values: r.redactions} }

// Add returns the values of both, each once: those of an older and of a newer version.
func (r Redactions) Add(other Redactions) Redactions {
	all := slices.Clone(r.values)
	for _, v := range other.values {
		if !slices.ContainsFunc(all, v.same) {
			all = append(all, v)
		}
	}
	return Redactions{values: all}
}

func (r redaction) same(other redaction) bool {
	return r.secret == other.secret && r.key == other.key && r.value.Equal(other.value)
}

// Any says whether there is anything to redact.
func (r Redactions) Any() bool { return len(r.values) > 0 }

// Matcher finds the values in output.
func (r Redactions) Matcher() *redact.Matcher {
	all := make([]redact.Value, len(r.values))
	for i, v := range r.values {
		all[i] = redact.Value{Secret: v.secret, Key: v.key, Reveal: v.value.Reveal}
	}
	return redact.Compile(all)
}

// Equal says whether both are the same values, in the same order.
func (r Redactions) Equal(other Redactions) bool {
	return slices.EqualFunc(r.values, other.values, redaction.same)
}

// redactionEntry is one value in a file: the secret's name, the key, the value.
type redactionEntry [3][]byte

func (r Redactions) encode() ([]byte, error) {
	all := make([]redactionEntry, len(r.values))
	for i, v := range r.values {
		all[i] = redactionEntry{[]byte(v.secret), []byte(v.key), v.value.Reveal()}
	}
	content, err := json.Marshal(all)
	for _, entry := range all {
		clear(entry[2])
	}
	return content, err
}

// Write puts the values into a file, which must be on memory that no disk sees, for
// [ReadRedactions] in another process.
func (r Redactions) Write(path string) error {
	content, err := r.encode()
	if err != nil {
		return err
	}
	defer clear(content)
	next := path + "_next"
	if err := os.WriteFile(next, content, 0o600); err != nil {
		return fmt.Errorf("handing on what is to be redacted: %w", err)
	}
	return os.Rename(next, path)
}

// ReadRedactions reads what [Redactions.Write] has written. A file that is not there is
// an error: it does not mean that there is nothing to redact.
func ReadRedactions(path string) (Redactions, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return Redactions{}, fmt.Errorf("reading what is to be redacted: %w", err)
	}
	defer clear(content)
	var all []redactionEntry
	if err := json.Unmarshal(content, &all); err != nil {
		return Redactions{}, fmt.Errorf("reading what is to be redacted from %s: not what was written", path)
	}
	var r Redactions
	for _, entry := range all {
		r.values = append(r.values, redaction{secret: string(entry[0]), key: string(entry[1]), value: NewValue(entry[2])})
		clear(entry[2])
	}
	return r, nil
}
