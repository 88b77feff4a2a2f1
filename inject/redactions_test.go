package inject

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	purserv1 "github.com/purserd/purser/api/purser/v1"
)

func TestRedactionsOf(t *testing.T) {
	secret := &Secret{Version: 1, Data: map[string]Value{}}
	for _, key := range []string{"USER", "PASSWORD", "UNUSED"} {
		secret.Data[key] = NewValue([]byte("value of " + key))
	}
	for name, c := range map[string]struct {
		ref  *purserv1.SecretRef
		want string
	}{
		"all":           {&purserv1.SecretRef{}, "PASSWORD UNUSED USER"},
		"the used keys": {&purserv1.SecretRef{Keys: map[string]string{"USER": "U", "PASSWORD": "P"}}, "PASSWORD USER"},
		"but for a key": {&purserv1.SecretRef{UnredactedKeys: []string{"USER", "NOT_THERE"}}, "PASSWORD UNUSED"},
		"none":          {&purserv1.SecretRef{Redact: new(false)}, ""},
		"as default":    {&purserv1.SecretRef{Redact: new(true)}, "PASSWORD UNUSED USER"},
	} {
		t.Run(name, func(t *testing.T) {
			c.ref.Name = new("s")
			r, err := Resolve(t.Context(), oneSecret{secret}, Request{Environment: "dev", Refs: []*purserv1.SecretRef{c.ref}})
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, key := range []string{"PASSWORD", "UNUSED", "USER"} {
				out := string(r.Redactions().Matcher().Stream().Append(nil, []byte("value of "+key+"\n")))
				switch out {
				case "[secret:s/" + key + "]\n":
					got = append(got, key)
				case "value of " + key + "\n":
				default:
					t.Errorf("%s became %q", key, out)
				}
			}
			if strings.Join(got, " ") != c.want {
				t.Errorf("redacted are %v, want %s", got, c.want)
			}
		})
	}
}

func TestRedactionsInAFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "values")
	if _, err := ReadRedactions(path); err == nil {
		t.Error("a file that is not there is taken for nothing to redact")
	}
	values := Redactions{values: []redaction{
		{"s", "A", NewValue([]byte("\x00\xff\n binary"))}, {"s", "B", NewValue(nil)},
	}}
	if err := values.Write(path); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	got, err := ReadRedactions(path)
	if err != nil || !got.Equal(values) {
		t.Errorf("got %d values, %v", len(got.values), err)
	}
	if shown := fmt.Sprintf("%v %+v %#v", got, got, got); strings.Contains(shown, "binary") {
		t.Errorf("shows %s", shown)
	}
	if err := os.WriteFile(path, []byte(`{"not": "it", "value": "secretive"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadRedactions(path); err == nil || strings.Contains(err.Error(), "secretive") {
		t.Errorf("of another file: %v", err)
	}
}

func TestRedactionsOfTwoVersions(t *testing.T) {
	older := Redactions{values: []redaction{{"s", "A", NewValue([]byte("older value"))}, {"s", "B", NewValue([]byte("same value"))}}}
	newer := Redactions{values: []redaction{{"s", "A", NewValue([]byte("newer value"))}, {"s", "B", NewValue([]byte("same value"))}}}
	both := older.Add(newer)
	if len(both.values) != 3 || both.Equal(older) || !older.Add(older).Equal(older) {
		t.Errorf("%d values", len(both.values))
	}
	out := string(both.Matcher().Stream().Append(nil, []byte("older value, newer value, same value\n")))
	if out != "[secret:s/A], [secret:s/A], [secret:s/B]\n" {
		t.Errorf("got %q", out)
	}
}

// oneSecret has one secret.
type oneSecret struct{ secret *Secret }

func (o oneSecret) Get(context.Context, string, string, uint32) (*Secret, error) {
	return o.secret, nil
}
