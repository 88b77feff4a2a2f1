package inject_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	purserv1 "github.com/purserd/purser/api/purser/v1"
	"github.com/purserd/purser/inject"
)

// memory is a Source of one environment: by name, the versions that there are.
type memory map[string][]inject.Secret

func (m memory) Get(_ context.Context, environment, name string, version uint32) (*inject.Secret, error) {
	for _, secret := range slices.Backward(m[name]) {
		if environment == "dev" && (secret.Version == version || version == 0 && !secret.Deleted) {
			return &secret, nil
		}
	}
	return nil, fmt.Errorf("secret %s: %w", name, inject.ErrNotFound)
}

func version(number uint32, pairs ...string) inject.Secret {
	secret := inject.Secret{Environment: "dev", Version: number, Data: map[string]inject.Value{}}
	for _, pair := range pairs {
		key, value, _ := strings.Cut(pair, "=")
		secret.Data[key] = inject.NewValue([]byte(value))
	}
	return secret
}

func deleted(secret inject.Secret) inject.Secret { secret.Deleted = true; return secret }

func ref(name string, change ...func(*purserv1.SecretRef)) *purserv1.SecretRef {
	ref := &purserv1.SecretRef{Name: &name}
	for _, f := range change {
		f(ref)
	}
	return ref
}

func optional(r *purserv1.SecretRef) { r.Optional = proto.Bool(true) }

func atVersion(number uint32) func(*purserv1.SecretRef) {
	return func(r *purserv1.SecretRef) { r.Version = &number }
}

func required(keys ...string) func(*purserv1.SecretRef) {
	return func(r *purserv1.SecretRef) { r.RequiredKeys = keys }
}

func renamed(keys map[string]string) func(*purserv1.SecretRef) {
	return func(r *purserv1.SecretRef) { r.Keys = keys }
}

func prefixed(prefix string) func(*purserv1.SecretRef) {
	return func(r *purserv1.SecretRef) { r.Prefix = &prefix }
}

func pin(secret string, version uint32) *purserv1.Pin {
	return &purserv1.Pin{Secret: secret, Version: version}
}

var source = memory{
	"db":      {version(1, "USER=u1", "PASS=p1"), version(3, "USER=u3", "PASS=p3", "HOST=h3")},
	"gone":    {deleted(version(2, "A=a2"))},
	"api":     {version(1, "TOKEN=t1")},
	"purser":  {version(1, "NAME=x", "OK=y")},
	"strange": {version(1, "NUL=a\x00b", "LONG="+strings.Repeat("x", inject.MaxEnvString), "FINE=f")},
}

func TestResolve(t *testing.T) {
	for _, test := range []struct {
		name string
		refs []*purserv1.SecretRef
		pins []*purserv1.Pin
		want string // the pins, then the variables
	}{
		{name: "nothing", want: ""},
		{name: "newest", refs: []*purserv1.SecretRef{ref("db")}, want: "db@3 HOST=h3 PASS=p3 USER=u3"},
		{name: "exact version", refs: []*purserv1.SecretRef{ref("db", atVersion(1))}, want: "db@1 PASS=p1 USER=u1"},
		{name: "pinned", refs: []*purserv1.SecretRef{ref("db")}, pins: []*purserv1.Pin{pin("db", 1)}, want: "db@1 PASS=p1 USER=u1"},
		{name: "exact version wins over the pin", refs: []*purserv1.SecretRef{ref("db", atVersion(3))}, pins: []*purserv1.Pin{pin("db", 1)}, want: "db@3 HOST=h3 PASS=p3 USER=u3"},
		{name: "others' pins", refs: []*purserv1.SecretRef{ref("db")}, pins: []*purserv1.Pin{pin("api", 1)}, want: "db@3 HOST=h3 PASS=p3 USER=u3"},
		{name: "listed order", refs: []*purserv1.SecretRef{ref("db"), ref("api")}, want: "db@3 HOST=h3 PASS=p3 USER=u3 api@1 TOKEN=t1"},
		{name: "subset and rename", refs: []*purserv1.SecretRef{ref("db", renamed(map[string]string{"USER": "PGUSER"}))}, want: "db@3 PGUSER=u3"},
		{name: "prefix", refs: []*purserv1.SecretRef{ref("api", prefixed("X_"))}, want: "api@1 X_TOKEN=t1"},
		{name: "prefix of renamed", refs: []*purserv1.SecretRef{ref("api", prefixed("X_"), renamed(map[string]string{"TOKEN": "T"}))}, want: "api@1 X_T=t1"},
		{name: "optional and there", refs: []*purserv1.SecretRef{ref("api", optional)}, want: "api@1 TOKEN=t1"},
		{name: "optional and absent", refs: []*purserv1.SecretRef{ref("no", optional), ref("api")}, want: "no@0 api@1 TOKEN=t1"},
		{name: "optional, absent, exact version", refs: []*purserv1.SecretRef{ref("no", optional, atVersion(2))}, want: "no@0"},
		{name: "optional and deleted", refs: []*purserv1.SecretRef{ref("gone", optional, atVersion(2))}, want: "gone@0"},
		{name: "optional stays absent", refs: []*purserv1.SecretRef{ref("api", optional)}, pins: []*purserv1.Pin{pin("api", 0)}, want: "api@0"},
		{name: "no longer optional", refs: []*purserv1.SecretRef{ref("api")}, pins: []*purserv1.Pin{pin("api", 0)}, want: "api@1 TOKEN=t1"},
		{name: "deleted and pinned", refs: []*purserv1.SecretRef{ref("gone")}, pins: []*purserv1.Pin{pin("gone", 2)}, want: "gone@2 A=a2"},
		{name: "deleted, exact version, pinned", refs: []*purserv1.SecretRef{ref("gone", atVersion(2))}, pins: []*purserv1.Pin{pin("gone", 2)}, want: "gone@2 A=a2"},
		{name: "unfit keys that are not used", refs: []*purserv1.SecretRef{ref("strange", renamed(map[string]string{"FINE": "FINE"}))}, want: "strange@1 FINE=f"},
	} {
		t.Run(test.name, func(t *testing.T) {
			resolution, err := inject.Resolve(t.Context(), source, inject.Request{Environment: "dev", Refs: test.refs, Pins: test.pins})
			if err != nil {
				t.Fatal(err)
			}
			if got := summary(resolution); got != test.want {
				t.Errorf("got  %s\nwant %s", got, test.want)
			}
		})
	}
}

func summary(resolution *inject.Resolution) string {
	var words []string
	secrets := resolution.Secrets
	for _, pin := range resolution.Pins {
		words = append(words, fmt.Sprintf("%s@%d", pin.GetSecret(), pin.GetVersion()))
		if len(secrets) == 0 || secrets[0].Name != pin.GetSecret() {
			continue
		}
		for _, v := range secrets[0].Vars {
			words = append(words, v.Name+"="+string(v.Value.Reveal()))
		}
		secrets = secrets[1:]
	}
	return strings.Join(words, " ")
}

func TestResolveNamesAllThatIsMissing(t *testing.T) {
	for _, test := range []struct {
		name string
		refs []*purserv1.SecretRef
		pins []*purserv1.Pin
		of   string
		want []string
	}{
		{
			name: "required keys",
			refs: []*purserv1.SecretRef{ref("db", required("USER", "PORT", "CERT"))},
			want: []string{"environment dev: secret db lacks keys CERT, PORT; add each with: purser secret set -E dev db CERT=-"},
		},
		{
			name: "one key of keys",
			refs: []*purserv1.SecretRef{ref("db", renamed(map[string]string{"USER": "U", "PORT": "P"}))},
			want: []string{"environment dev: secret db lacks key PORT; add it with: purser secret set -E dev db PORT=-"},
		},
		{
			name: "keys of an optional secret that is there",
			refs: []*purserv1.SecretRef{ref("api", optional, required("OTHER"))},
			want: []string{"environment dev: secret api lacks key OTHER; add it with: purser secret set -E dev api OTHER=-"},
		},
		{
			name: "secrets, with and without keys, and the rest",
			refs: []*purserv1.SecretRef{ref("no"), ref("nor", required("B", "A"), renamed(map[string]string{"C": "D"})), ref("api"), ref("db", required("X"))},
			want: []string{
				"environment dev: secret no does not exist; make it with: purser secret set -E dev no KEY=-",
				"environment dev: secret nor does not exist, so lacks keys A, B, C; make it with: purser secret set -E dev nor A=-",
				"environment dev: secret db lacks key X; add it with: purser secret set -E dev db X=-",
			},
		},
		{
			name: "version",
			refs: []*purserv1.SecretRef{ref("db", atVersion(2))},
			want: []string{"environment dev: secret db has no version 2, its newest is 3; see: purser secret versions -E dev db"},
		},
		{
			name: "version of an optional secret that is there",
			refs: []*purserv1.SecretRef{ref("db", optional, atVersion(9))},
			want: []string{"environment dev: secret db has no version 9, its newest is 3; see: purser secret versions -E dev db"},
		},
		{
			name: "version of a secret that is not there",
			refs: []*purserv1.SecretRef{ref("no", atVersion(9))},
			want: []string{"environment dev: secret no does not exist; make it with: purser secret set -E dev no KEY=-"},
		},
		{
			name: "pinned version, optional or not",
			refs: []*purserv1.SecretRef{ref("db", optional), ref("lost"), ref("api", atVersion(7))},
			pins: []*purserv1.Pin{pin("db", 2), pin("lost", 1), pin("api", 7)},
			of:   "a/f",
			want: []string{
				"environment dev: secret db no longer has version 2, to which a/f is pinned; to move it to version 3: purser restart --secrets -E dev a/f",
				"environment dev: secret lost no longer has version 1, to which a/f is pinned, nor any other; set it with: purser secret set -E dev lost KEY=-, and then: purser restart --secrets -E dev a/f",
				"environment dev: secret api no longer has version 7, which the spec names; have it name another one, or none for the newest, and deploy it",
			},
		},
		{
			name: "version of an earlier revision",
			refs: []*purserv1.SecretRef{ref("db")},
			pins: []*purserv1.Pin{pin("db", 2)},
			want: []string{"environment dev: secret db no longer has version 2, on which this revision ran; deploy a file instead, which takes the newest, or see: purser secret versions -E dev db"},
		},
		{
			name: "version kept of a deleted secret, for one that is not pinned to it",
			refs: []*purserv1.SecretRef{ref("gone", atVersion(2))},
			want: []string{"environment dev: secret gone does not exist; make it with: purser secret set -E dev gone KEY=-"},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := inject.Resolve(t.Context(), source, inject.Request{Environment: "dev", Refs: test.refs, Pins: test.pins, Workload: test.of})
			var missing *inject.MissingError
			if !errors.As(err, &missing) {
				t.Fatalf("got %v", err)
			}
			if got, want := missing.Error(), strings.Join(test.want, "\n"); got != want {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
		})
	}
}

func TestSecretsDoNotCrossEnvironments(t *testing.T) {
	_, err := inject.Resolve(t.Context(), source, inject.Request{Environment: "prod", Refs: []*purserv1.SecretRef{ref("db")}})
	var missing *inject.MissingError
	if !errors.As(err, &missing) || missing.Environment != "prod" {
		t.Errorf("got %v", err)
	}
}

func TestResolveNamesAllThatCannotBeDelivered(t *testing.T) {
	_, err := inject.Resolve(t.Context(), source, inject.Request{Environment: "dev", Refs: []*purserv1.SecretRef{
		ref("strange"),
		ref("purser", prefixed("PURSER_"), renamed(map[string]string{"NAME": "N"})),
		ref("db", renamed(map[string]string{"USER": "SAME", "PASS": "SAME"})),
		ref("api", prefixed("1")),
		ref("no"),
	}})
	var problems *inject.UndeliverableError
	if !errors.As(err, &problems) {
		t.Fatalf("got %v", err)
	}
	want := strings.Join([]string{
		"environment dev: key LONG of secret strange cannot be the environment variable LONG: its value has 131072 bytes, the limit is 131066 (128 KiB less the name)",
		"environment dev: key NUL of secret strange cannot be the environment variable NUL: its value contains a NUL byte",
		"environment dev: key NAME of secret purser cannot be the environment variable PURSER_N: names that start with PURSER_ are set by purser alone",
		"environment dev: key USER of secret db cannot be the environment variable SAME: key PASS has that name too",
		"environment dev: key TOKEN of secret api cannot be the environment variable 1TOKEN: its name may have letters, digits and _ only, and no digit first",
	}, "\n")
	if got := problems.Error(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	var missing *inject.MissingError
	if !errors.As(err, &missing) || len(missing.Missing) != 1 {
		t.Errorf("what is missing as well is not told: %v", err)
	}
}

// failing is a Source that cannot tell what it has.
type failing struct{ err error }

func (f failing) Get(context.Context, string, string, uint32) (*inject.Secret, error) {
	return nil, f.err
}

func TestFailingSourceIsNotAMissingSecret(t *testing.T) {
	cause := errors.New("the disk is on fire")
	_, err := inject.Resolve(t.Context(), failing{cause}, inject.Request{Environment: "dev", Refs: []*purserv1.SecretRef{ref("db", optional)}})
	var missing *inject.MissingError
	if !errors.Is(err, cause) || errors.As(err, &missing) {
		t.Fatalf("got %v", err)
	}
	if want := `resolving secret "db" in environment "dev": the disk is on fire`; err.Error() != want {
		t.Errorf("got %v", err)
	}
}

// A workload gets the same variables from its pins, whatever is written later.
func TestPinsKeepAWorkloadWhereItIs(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		source, refs, first := drawResolved(t)
		for i, pin := range first.Pins {
			if pin.GetSecret() != refs[i].GetName() {
				t.Fatalf("pin %d is of %s, reference of %s", i, pin.GetSecret(), refs[i].GetName())
			}
		}
		for name, versions := range drawSource(t, 5) {
			source[name] = append(source[name], versions...)
		}
		second, err := inject.Resolve(context.Background(), source, inject.Request{Environment: "dev", Refs: refs, Pins: first.Pins})
		if err != nil {
			t.Fatal(err)
		}
		if a, b := summary(first), summary(second); a != b {
			t.Fatalf("first  %s\nsecond %s", a, b)
		}
	})
}

// Every variable is a key of the chosen version under the name that was asked for,
// and every key that was asked for is a variable.
func TestResolveDeliversWhatIsAskedFor(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		source, refs, resolution := drawResolved(t)
		byName := map[string]inject.Resolved{}
		for _, secret := range resolution.Secrets {
			byName[secret.Name] = secret
		}
		for _, ref := range refs {
			versions := source[ref.GetName()]
			if len(versions) == 0 {
				continue
			}
			data := versions[len(versions)-1].Data
			got := map[string]string{}
			for _, v := range byName[ref.GetName()].Vars {
				got[v.Name] = string(v.Value.Reveal())
			}
			if want := expectedVars(ref, data); !maps.Equal(got, want) {
				t.Fatalf("secret %s: got %v, want %v", ref.GetName(), got, want)
			}
		}
	})
}

func expectedVars(ref *purserv1.SecretRef, data map[string]inject.Value) map[string]string {
	want := map[string]string{}
	for key, value := range data {
		if len(ref.GetKeys()) == 0 {
			want[ref.GetPrefix()+key] = string(value.Reveal())
		} else if name, ok := ref.GetKeys()[key]; ok {
			want[ref.GetPrefix()+name] = string(value.Reveal())
		}
	}
	return want
}

var keyNames = []string{"A", "B", "C", "D"}

// drawResolved draws references, of which nothing is missing, to what a source has.
func drawResolved(t *rapid.T) (memory, []*purserv1.SecretRef, *inject.Resolution) {
	type drawn struct {
		source     memory
		refs       []*purserv1.SecretRef
		resolution *inject.Resolution
	}
	d := rapid.Custom(func(t *rapid.T) (d drawn) {
		d.source, d.refs = drawSource(t, 1), drawRefs(t)
		d.resolution, _ = inject.Resolve(context.Background(), d.source, inject.Request{Environment: "dev", Refs: d.refs})
		return d
	}).Filter(func(d drawn) bool { return d.resolution != nil }).Draw(t, "resolved")
	return d.source, d.refs, d.resolution
}

func drawSource(t *rapid.T, from uint32) memory {
	source := memory{}
	for _, name := range []string{"s", "t", "u"} {
		for i := range rapid.Uint32Range(0, 3).Draw(t, "versions") {
			keys := rapid.SliceOfNDistinct(rapid.SampledFrom(keyNames), 1, 4, rapid.ID[string]).Draw(t, "keys")
			for j, key := range keys {
				keys[j] = key + "=" + rapid.StringMatching(`[a-z]{0,5}`).Draw(t, "value")
			}
			source[name] = append(source[name], version(from+i, keys...))
		}
	}
	return source
}

func drawRefs(t *rapid.T) []*purserv1.SecretRef {
	var refs []*purserv1.SecretRef
	for _, name := range rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"s", "t", "u"}), 0, 3, rapid.ID[string]).Draw(t, "refs") {
		r := ref(name, optional)
		if rapid.Bool().Draw(t, "prefixed") {
			prefixed("P_")(r)
		}
		if rapid.Bool().Draw(t, "renamed") {
			renamed(map[string]string{rapid.SampledFrom(keyNames).Draw(t, "key"): "NEW"})(r)
		}
		refs = append(refs, r)
	}
	return refs
}
