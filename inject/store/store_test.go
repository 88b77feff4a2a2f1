package store_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/purserd/purser/inject"
	"github.com/purserd/purser/inject/keyring"
	"github.com/purserd/purser/inject/store"
)

// place is where a test keeps a store between opening it and opening it again.
type place struct {
	dir  string
	keys *keyring.Keyring
}

func newPlace(t testing.TB) place {
	t.Helper()
	dir := t.TempDir()
	keys, err := keyring.Open(filepath.Join(dir, "identity.age"))
	must(t, err)
	return place{dir: filepath.Join(dir, "secrets"), keys: keys}
}

// open opens the store for the rest of the test; closing it before is fine.
func (p place) open(t testing.TB) *store.Store {
	t.Helper()
	s, err := store.Open(p.dir, p.keys, store.Options{})
	must(t, err)
	t.Cleanup(func() { must(t, s.Close()) })
	return s
}

func (p place) reopen(t testing.TB, s *store.Store) *store.Store {
	t.Helper()
	must(t, s.Close())
	return p.open(t)
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func values(pairs ...string) map[string]inject.Value {
	data := map[string]inject.Value{}
	for _, pair := range pairs {
		key, value, _ := strings.Cut(pair, "=")
		data[key] = inject.NewValue([]byte(value))
	}
	return data
}

func put(t testing.TB, s *store.Store, environment, name string, pairs ...string) uint32 {
	t.Helper()
	result, err := s.Put(t.Context(), environment, name, store.PutOptions{Data: values(pairs...)})
	must(t, err)
	return result.Version
}

// content is a version as text: its number, then its pairs in order.
func content(t testing.TB, s *store.Store, environment, name string, version uint32) string {
	t.Helper()
	secret, err := s.Get(context.Background(), environment, name, version)
	if err != nil {
		return err.Error()
	}
	var words []string
	for key, value := range secret.Data {
		words = append(words, key+"="+string(value.Reveal()))
	}
	slices.Sort(words)
	return fmt.Sprintf("%d %s", secret.Version, strings.Join(words, " "))
}

func wantContent(t testing.TB, s *store.Store, environment, name string, version uint32, want string) {
	t.Helper()
	if got := content(t, s, environment, name, version); got != want {
		t.Errorf("version %d of %s in %s: got %s, want %s", version, name, environment, got, want)
	}
}

func TestPut(t *testing.T) {
	for _, test := range []struct {
		name    string
		options store.PutOptions
		want    string
		changed bool
	}{
		{"merged over the newest", store.PutOptions{Data: values("B=2", "C=3")}, "2 A=1 B=2 C=3", true},
		{"a key overwritten", store.PutOptions{Data: values("A=9")}, "2 A=9 B=1", true},
		{"a key removed", store.PutOptions{Remove: []string{"A"}}, "2 B=1", true},
		{"one set, one removed", store.PutOptions{Data: values("C=3"), Remove: []string{"A"}}, "2 B=1 C=3", true},
		{"replaced", store.PutOptions{Data: values("C=3"), Replace: true}, "2 C=3", true},
		{"an empty value", store.PutOptions{Data: values("A=")}, "2 A= B=1", true},
		{"the same", store.PutOptions{Data: values("A=1")}, "1 A=1 B=1", false},
		{"the same, replaced", store.PutOptions{Data: values("A=1", "B=1"), Replace: true}, "1 A=1 B=1", false},
		{"nothing", store.PutOptions{}, "1 A=1 B=1", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			place := newPlace(t)
			s := place.open(t)
			put(t, s, "dev", "db", "A=1", "B=1")
			before := s.Sequence()
			result, err := s.Put(t.Context(), "dev", "db", test.options)
			must(t, err)
			if got := fmt.Sprint(result.Version) + " " + strings.Join(result.Keys, " "); got != withoutValues(test.want) || result.Changed != test.changed {
				t.Errorf("result %+v", result)
			}
			if (s.Sequence() != before) != test.changed {
				t.Errorf("sequence was %d and is %d", before, s.Sequence())
			}
			wantContent(t, s, "dev", "db", 0, test.want)
			wantContent(t, s, "dev", "db", 1, "1 A=1 B=1")
			s = place.reopen(t, s)
			wantContent(t, s, "dev", "db", 0, test.want)
			wantContent(t, s, "dev", "db", 1, "1 A=1 B=1")
		})
	}
}

func withoutValues(content string) string {
	words := strings.Fields(content)
	for i, word := range words {
		words[i], _, _ = strings.Cut(word, "=")
	}
	return strings.Join(words, " ")
}

func TestPutRefuses(t *testing.T) {
	long := strings.Repeat("k", 257)
	big := strings.Repeat("x", store.MaxValue)
	for _, test := range []struct {
		name              string
		environment, secr string
		options           store.PutOptions
		want              string
	}{
		{"names", "../dev", ".db", store.PutOptions{Data: values("A=1")}, `environment: "../dev" must be 1 to 64 letters, digits and ._- starting with a letter or digit
name: ".db" must be 1 to 64 letters, digits and ._- starting with a letter or digit`},
		{"no name", "", strings.Repeat("n", 65), store.PutOptions{Data: values("A=1")}, `environment: "" must be 1 to 64 letters, digits and ._- starting with a letter or digit
name: "` + strings.Repeat("n", 65) + `" must be 1 to 64 letters, digits and ._- starting with a letter or digit`},
		{"keys", "dev", "db", store.PutOptions{Data: values("1A=1", "A-B=2", "=3", long+"=4")}, `data[""]: a key must be 1 to 256 letters, digits and _ not starting with a digit
data["1A"]: a key must be 1 to 256 letters, digits and _ not starting with a digit
data["A-B"]: a key must be 1 to 256 letters, digits and _ not starting with a digit
data["` + long + `"]: a key must be 1 to 256 letters, digits and _ not starting with a digit`},
		{"value", "dev", "db", store.PutOptions{Data: values("A=" + big + "x")}, `data["A"]: the value has 1048577 bytes, the limit is 1048576 (1 MiB)`},
		{"secret, with what is there", "dev", "db", store.PutOptions{Data: values("A=" + big)}, `data: the values have 1048577 bytes together, the limit is 1048576 (1 MiB)`},
		{"absent key removed", "dev", "db", store.PutOptions{Remove: []string{"X", "HERE", "Y"}}, `remove: secret db in environment dev has no key "X"
remove: secret db in environment dev has no key "Y"`},
		{"key removed of a new secret", "dev", "new", store.PutOptions{Remove: []string{"X"}, Data: values("A=1")}, `remove: secret new in environment dev has no key "X", as there is no such secret`},
		{"key removed while replacing", "dev", "db", store.PutOptions{Remove: []string{"HERE"}, Data: values("A=1"), Replace: true}, `remove: secret db in environment dev has no key "HERE", as all of it is replaced`},
		{"set and removed", "dev", "db", store.PutOptions{Remove: []string{"HERE"}, Data: values("HERE=2")}, `data["HERE"]: the key is set and removed at once`},
		{"last key removed", "dev", "db", store.PutOptions{Remove: []string{"HERE"}}, `data: the secret would be left without a key; to end it: purser secret delete -E dev db`},
		{"nothing in a new secret", "dev", "new", store.PutOptions{}, `data: the secret would be left without a key; to end it: purser secret delete -E dev new`},
		{"nothing in a replaced one", "dev", "db", store.PutOptions{Replace: true}, `data: the secret would be left without a key; to end it: purser secret delete -E dev db`},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newPlace(t).open(t)
			put(t, s, "dev", "db", "HERE=1")
			before := s.Sequence()
			checked := s.CheckPut(t.Context(), test.environment, test.secr, test.options)
			_, err := s.Put(t.Context(), test.environment, test.secr, test.options)
			if checked == nil || checked.Error() != err.Error() {
				t.Errorf("checked: %v", checked)
			}
			var invalid *store.InvalidError
			if !errors.As(err, &invalid) {
				t.Fatalf("got %v", err)
			}
			if err.Error() != test.want {
				t.Errorf("got\n%s\nwant\n%s", err, test.want)
			}
			if s.Sequence() != before || len(s.List("")) != 1 {
				t.Errorf("something was written")
			}
			wantContent(t, s, "dev", "db", 0, "1 HERE=1")
		})
	}
}

func TestValuesComeBackAsTheyWere(t *testing.T) {
	place := newPlace(t)
	s := place.open(t)
	want := map[string][]byte{
		"EMPTY": {}, "BINARY": {0xff, 0x00, 0xfe}, "NUL": []byte("a\x00b"), "LINES": []byte("-----BEGIN-----\r\n\tx\n"),
		"HTML": []byte("<a href='?x=1&y=2'>"), "UNICODE": []byte("Zürich \u2028 \U0001F511 \ufffd"), "LARGE": []byte(strings.Repeat("é", 400_000)),
	}
	data := map[string]inject.Value{}
	for key, value := range want {
		data[key] = inject.NewValue(value)
	}
	_, err := s.Put(t.Context(), "dev", "s", store.PutOptions{Data: data})
	must(t, err)
	secret, err := place.reopen(t, s).Get(t.Context(), "dev", "s", 0)
	must(t, err)
	for key, value := range want {
		if got := secret.Data[key].Reveal(); string(got) != string(value) {
			t.Errorf("%s: %d bytes came back as %d others", key, len(value), len(got))
		}
	}
	if len(secret.Data) != len(want) {
		t.Errorf("%d keys came back as %d", len(want), len(secret.Data))
	}
}

func TestEnvironmentsAreApart(t *testing.T) {
	s := newPlace(t).open(t)
	put(t, s, "dev", "db", "A=dev")
	put(t, s, "prod", "db", "A=prod")
	put(t, s, "prod", "db", "A=prod2")
	put(t, s, "prod", "api", "B=1")
	wantContent(t, s, "dev", "db", 0, "1 A=dev")
	wantContent(t, s, "prod", "db", 0, "2 A=prod2")
	wantContent(t, s, "dev", "api", 0, `no secret api in environment dev; see purser secret list -A`)
	if got := s.Environments(); !slices.Equal(got, []string{"dev", "prod"}) {
		t.Errorf("environments %v", got)
	}
	var listed []string
	for _, info := range s.List("") {
		listed = append(listed, info.Environment+"/"+info.Name)
	}
	if want := []string{"dev/db", "prod/api", "prod/db"}; !slices.Equal(listed, want) {
		t.Errorf("listed %v", listed)
	}
	if got := s.List("prod"); len(got) != 2 {
		t.Errorf("prod has %v", got)
	}
	if got := s.List("staging"); len(got) != 0 {
		t.Errorf("staging has %v", got)
	}
}

func TestDescribe(t *testing.T) {
	place := newPlace(t)
	s := place.open(t)
	put(t, s, "dev", "db", "B=1", "A=1")
	put(t, s, "dev", "db", "C=1")
	if _, err := s.Rollback(t.Context(), "dev", "db", 0); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		info, err := s.Describe("dev", "db")
		must(t, err)
		if info.Environment != "dev" || info.Name != "db" || info.Version != 3 || info.Deleted {
			t.Errorf("info %+v", info)
		}
		var got []string
		for _, v := range info.Versions {
			got = append(got, fmt.Sprint(v.Version, v.Keys, v.CopyOf))
		}
		if want := []string{"3 [A B] 1", "2 [A B C] 0", "1 [A B] 0"}; !slices.Equal(got, want) {
			t.Errorf("versions %v, want %v", got, want)
		}
		if !info.Created.Equal(info.Versions[2].Created) || !info.Updated.Equal(info.Versions[0].Created) || !info.Updated.After(info.Created) {
			t.Errorf("times %v", info)
		}
		s = place.reopen(t, s)
	}
	if _, err := s.Describe("dev", "no"); !errors.Is(err, inject.ErrNotFound) {
		t.Errorf("got %v", err)
	}
}

func TestGetOfWhatIsNotThere(t *testing.T) {
	s := newPlace(t).open(t)
	put(t, s, "dev", "db", "A=1")
	for _, test := range []struct {
		environment, name string
		version           uint32
		want              string
	}{
		{"dev", "no", 0, `no secret no in environment dev; see purser secret list -A`},
		{"no", "db", 0, `no secret db in environment no; see purser secret list -A`},
		{"dev", "db", 2, `no version 2 of secret db in environment dev; see purser secret versions -E dev db`},
		{"..", "..", 0, `no secret .. in environment ..; see purser secret list -A`},
	} {
		_, err := s.Get(t.Context(), test.environment, test.name, test.version)
		if !errors.Is(err, inject.ErrNotFound) || err.Error() != test.want {
			t.Errorf("got %v, want %s", err, test.want)
		}
	}
}

func TestRollback(t *testing.T) {
	place := newPlace(t)
	s := place.open(t)
	for i := range 3 {
		put(t, s, "dev", "db", fmt.Sprintf("A=%d", i+1))
	}
	for _, step := range []struct {
		to   uint32
		want string
	}{{0, "4 A=2"}, {1, "5 A=1"}, {4, "6 A=2"}} {
		version, err := s.Rollback(t.Context(), "dev", "db", step.to)
		must(t, err)
		wantContent(t, s, "dev", "db", 0, step.want)
		wantContent(t, s, "dev", "db", version, step.want)
	}
	wantContent(t, place.reopen(t, s), "dev", "db", 0, "6 A=2")
}

func TestRollbackRefuses(t *testing.T) {
	s := newPlace(t).open(t)
	put(t, s, "dev", "one", "A=1")
	put(t, s, "dev", "revived", "A=1")
	_, err := s.Delete("dev", "revived", []uint32{1}, false)
	must(t, err)
	put(t, s, "dev", "revived", "A=2")
	for i := range 3 {
		put(t, s, "dev", "long", fmt.Sprintf("A=%d", i))
	}
	_, err = s.Prune("dev", "long", 1, nil)
	must(t, err)
	for _, test := range []struct {
		name    string
		version uint32
		want    string
	}{
		{"no", 0, `no secret no in environment dev; see purser secret list -A`},
		{"one", 0, `version: there is none before the newest, 1`},
		{"one", 1, `version: 1 is the newest of secret one in environment dev already`},
		{"one", 5, `no version 5 of secret one in environment dev; see purser secret versions -E dev one`},
		{"long", 2, `version 2 of secret long in environment dev is not kept any more ([secrets] keep_versions); see purser secret versions -E dev long`},
		{"revived", 0, `version: there is none before the newest, 2`},
		{"revived", 1, `no version 1 of secret revived in environment dev; see purser secret versions -E dev revived`},
	} {
		if err := s.CheckRollback("dev", test.name, test.version); err == nil || err.Error() != test.want {
			t.Errorf("%s to %d, checked: got %v, want %s", test.name, test.version, err, test.want)
		}
		if _, err := s.Rollback(t.Context(), "dev", test.name, test.version); err == nil || err.Error() != test.want {
			t.Errorf("%s to %d: got %v, want %s", test.name, test.version, err, test.want)
		}
	}
}

func TestOneProcessAtATime(t *testing.T) {
	place := newPlace(t)
	s := place.open(t)
	if _, err := store.Open(place.dir, place.keys, store.Options{}); !errors.Is(err, store.ErrLocked) || !strings.Contains(err.Error(), place.dir) {
		t.Errorf("got %v", err)
	}
	place.reopen(t, s)
}

func TestClosedStore(t *testing.T) {
	s := newPlace(t).open(t)
	put(t, s, "dev", "db", "A=1")
	must(t, s.Close())
	must(t, s.Close())
	_, getErr := s.Get(t.Context(), "dev", "db", 0)
	_, putErr := s.Put(t.Context(), "dev", "db", store.PutOptions{Data: values("A=2")})
	_, deleteErr := s.Delete("dev", "db", nil, false)
	for name, err := range map[string]error{"Get": getErr, "Put": putErr, "Delete": deleteErr} {
		if !errors.Is(err, fs.ErrClosed) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestCancelledCallsDoNothing(t *testing.T) {
	s := newPlace(t).open(t)
	put(t, s, "dev", "db", "A=1")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, getErr := s.Get(ctx, "dev", "db", 0)
	_, putErr := s.Put(ctx, "dev", "db", store.PutOptions{Data: values("A=2")})
	_, rollbackErr := s.Rollback(ctx, "dev", "db", 0)
	for name, err := range map[string]error{"Get": getErr, "Put": putErr, "Rollback": rollbackErr, "Verify": s.Verify(ctx)} {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	wantContent(t, s, "dev", "db", 0, "1 A=1")
}

func TestRecipientsAreChecked(t *testing.T) {
	place := newPlace(t)
	for _, recipient := range []string{"", "age1nonsense", "ssh-ed25519 AAAA", "age1pq1xyz"} {
		_, err := store.Open(place.dir, place.keys, store.Options{Recipients: []string{recipient}})
		if err == nil || !strings.Contains(err.Error(), "is not an age X25519 recipient") {
			t.Errorf("%q: got %v", recipient, err)
		}
	}
}
