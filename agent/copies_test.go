package agent

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	purserv1 "github.com/purserd/purser/api/purser/v1"
	"github.com/purserd/purser/inject"
	"github.com/purserd/purser/inject/keyring"
	"github.com/purserd/purser/inject/store"
)

// The specs refer to no secret: that makes no difference.
func TestCopiedValuesAreRefused(t *testing.T) {
	const value, short = "a-value-of-24-bytes-long", "15-bytes-long.."
	values := inject.NewCopies(storeWith(t, map[string]string{"KEY": value, "SHORT": short}))
	for want, spec := range map[string]*purserv1.LaunchSpec{
		"":                 {Env: map[string]string{"A": short, "B": value[1:]}, Command: []string{"x"}},
		`env["A"]`:         {Env: map[string]string{"A": "x" + value + "y"}},
		"command[1]":       {Command: []string{"x", "--key=" + value}},
		"image.env[":       {Image: &purserv1.Image{Env: map[string]string{"C": value}}},
		"mounts[0].target": {Mounts: []*purserv1.Mount{{Target: proto.String("/" + value)}}},
		"labels contains":  {Labels: map[string]string{value: value}},
	} {
		spec.Environment = proto.String("dev")
		err := copied(t.Context(), spec.GetEnvironment(), spec, values)
		var refused *Refusal
		switch {
		case want == "" && err == nil:
		case want == "" || !errors.As(err, &refused) || refused.Reason != Invalid:
			t.Errorf("%s: %v", want, err)
		case !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "key KEY of secret s") || strings.Contains(err.Error(), value):
			t.Errorf("%s: %v", want, err)
		}
	}
}

func TestValuesMayBeInSpecsOfOtherEnvironments(t *testing.T) {
	const value = "a-value-of-24-bytes-long"
	values := inject.NewCopies(storeWith(t, map[string]string{"KEY": value}))
	spec := &purserv1.LaunchSpec{Environment: proto.String("prod"), Command: []string{value}}
	if err := copied(t.Context(), spec.GetEnvironment(), spec, values); err != nil {
		t.Error(err)
	}
}

// storeWith is a store with a secret s in dev.
func storeWith(t *testing.T, data map[string]string) *store.Store {
	t.Helper()
	keys, err := keyring.Open(filepath.Join(t.TempDir(), "identity.age"))
	if err != nil {
		t.Fatal(err)
	}
	s, err := store.Open(filepath.Join(t.TempDir(), "secrets"), keys, store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	values := map[string]inject.Value{}
	for key, value := range data {
		values[key] = inject.NewValue([]byte(value))
	}
	if _, err := s.Put(t.Context(), "dev", "s", store.PutOptions{Data: values}); err != nil {
		t.Fatal(err)
	}
	return s
}
