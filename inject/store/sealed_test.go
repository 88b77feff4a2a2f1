package store

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/purserd/purser/inject"
	"github.com/purserd/purser/inject/keyring"
)

// The contents are checked for themselves too, should a manifest ever vouch for the
// wrong file.
func TestVouchedForWrongContents(t *testing.T) {
	for _, test := range []struct{ name, plain, want string }{
		{"another secret", `{"environment":"dev","name":"api","version":1,"created_at":"2026-01-01T00:00:00Z","data":{"A":"1"}}`, `it holds version 1 of secret "api" in environment "dev"`},
		{"another environment", `{"environment":"prod","name":"db","version":1,"created_at":"2026-01-01T00:00:00Z","data":{"A":"1"}}`, `it holds version 1 of secret "db" in environment "prod"`},
		{"another version", `{"environment":"dev","name":"db","version":2,"created_at":"2026-01-01T00:00:00Z","data":{"A":"1"}}`, `it holds version 2 of secret "db" in environment "dev"`},
		{"not JSON", `hunter2`, `it does not hold what purser writes`},
		{"no key", `{"environment":"dev","name":"db","version":1,"created_at":"2026-01-01T00:00:00Z"}`, `it has no key`},
		{"a key twice", `{"environment":"dev","name":"db","version":1,"created_at":"2026-01-01T00:00:00Z","data":{"A":"1"},"binary":{"A":"MQ=="}}`, `it has key "A" twice`},
		{"no key's name", `{"environment":"dev","name":"db","version":1,"created_at":"2026-01-01T00:00:00Z","data":{"A=B":"1"}}`, `it has a key "A=B", which is none`},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := openTemporary(t)
			vouch(t, s, mustSeal(t, s, test.plain))
			wantReason(t, s, test.want)
		})
	}
	t.Run("not sealed", func(t *testing.T) {
		s := openTemporary(t)
		vouch(t, s, []byte("plain"))
		wantReason(t, s, "age cannot open it: ")
	})
	t.Run("sealed to somebody else", func(t *testing.T) {
		s := openTemporary(t)
		vouch(t, s, mustSeal(t, openTemporary(t), `{}`))
		wantReason(t, s, "age cannot open it: ")
	})
}

func openTemporary(t testing.TB) *Store {
	t.Helper()
	dir := t.TempDir()
	keys, err := keyring.Open(filepath.Join(dir, "identity.age"))
	if err != nil {
		t.Fatal(err)
	}
	s, err := Open(filepath.Join(dir, "secrets"), keys, Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func mustSeal(t testing.TB, s *Store, plain string) []byte {
	t.Helper()
	sealed, err := seal([]byte(plain), s.recipients)
	if err != nil {
		t.Fatal(err)
	}
	return sealed
}

// vouch makes the file version 1 of dev/db, with all that the manifest has to say.
func vouch(t testing.TB, s *Store, sealed []byte) {
	t.Helper()
	sum := sha256.Sum256(sealed)
	if err := s.writeVersion(place{"dev", "db", 1}, sealed); err != nil {
		t.Fatal(err)
	}
	v := version{Version: 1, Created: time.Unix(0, 0), Keys: []string{"A"}, Size: int64(len(sealed)), SHA256: hex.EncodeToString(sum[:])}
	if _, err := s.commit("dev", "db", record{Next: 2, Versions: []version{v}}, nil); err != nil {
		t.Fatal(err)
	}
}

func wantReason(t *testing.T, s *Store, want string) {
	t.Helper()
	_, err := s.Get(t.Context(), "dev", "db", 0)
	damage, ok := err.(*DamageError)
	if !ok || !strings.HasPrefix(damage.Reason, want) || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("got %v, want %s", err, want)
	}
}

func TestManifestCheck(t *testing.T) {
	one := []version{{Version: 1}}
	for _, test := range []struct {
		name, environment, secret string
		record                    record
		want                      string
	}{
		{"path as name", "dev", "../../etc", record{Next: 2, Versions: one}, `it has a secret "../../etc" in an environment "dev", which are no names`},
		{"path as environment", "..", "db", record{Next: 2, Versions: one}, `it has a secret "db" in an environment "..", which are no names`},
		{"next is used", "dev", "db", record{Next: 1, Versions: one}, "its secret db in environment dev has version 1 and 1 for the next one"},
		{"order", "dev", "db", record{Next: 9, Versions: []version{{Version: 2}, {Version: 2}}}, "its secret db in environment dev has version 2 after 2"},
		{"version 0", "dev", "db", record{Next: 9, Versions: []version{{}}}, "its secret db in environment dev has version 0 after 0"},
	} {
		t.Run(test.name, func(t *testing.T) {
			keys := openTemporary(t).keys
			data, _, err := encodeManifest(manifest{}.with(test.environment, test.secret, test.record), keys)
			if err != nil {
				t.Fatal(err)
			}
			if _, _, err := decodeManifest(data, keys); err == nil || err.Error() != test.want {
				t.Errorf("got %v, want %s", err, test.want)
			}
		})
	}
}

// FuzzContents feeds what comes out of age.
func FuzzContents(f *testing.F) {
	f.Add([]byte(`{"environment":"dev","name":"db","version":1,"created_at":"2026-01-01T00:00:00Z","data":{"A":"1"},"binary":{"B":"/w=="}}`))
	f.Add([]byte(`{"data":{"A":"\ud800"}}`))
	f.Add([]byte(`{"data":null}{}`))
	f.Add([]byte(`null`))
	f.Fuzz(func(t *testing.T, plain []byte) {
		c, err := decodeContents(plain)
		if err != nil {
			return
		}
		values := c.values()
		again := contents{Environment: c.Environment, Name: c.Name, Version: c.Version, Created: c.Created}
		again.fill(values)
		encoded, err := again.encode()
		if err != nil {
			return // a time that JSON cannot write
		}
		c, err = decodeContents(encoded)
		if err != nil {
			t.Fatalf("%s: %v", encoded, err)
		}
		for key, value := range c.values() {
			if !value.Equal(values[key]) {
				t.Errorf("key %q changed", key)
			}
		}
	})
}

// FuzzManifest feeds manifests with and without a good MAC.
func FuzzManifest(f *testing.F) {
	keys := openTemporary(f).keys
	whole, _, err := encodeManifest(manifest{}.with("dev", "db", record{Next: 2, Versions: []version{{Version: 1, Keys: []string{"A"}}}}), keys)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole)
	_, body, _ := bytes.Cut(whole, []byte("\n"))
	f.Add(body)
	f.Add([]byte(manifestTitle + "00\n{}"))
	f.Add([]byte(`{"recipient":"age1other"}`))
	f.Add([]byte(`null`))
	f.Fuzz(func(t *testing.T, data []byte) {
		if _, _, err := decodeManifest(data, keys); err == nil && !bytes.Equal(data, whole) && !bytes.Equal(data, bytes.TrimSuffix(whole, []byte("\n"))) {
			t.Errorf("accepted a forged manifest: %q", data)
		}
		mac := manifestMAC(manifestTitle, data, keys)
		signed := append([]byte(manifestTitle+hex.EncodeToString(mac[:])+"\n"), data...)
		m, _, err := decodeManifest(signed, keys)
		if err != nil {
			return
		}
		for environment, records := range m.Environments {
			for name := range records {
				if strings.ContainsAny(environment+name, "/\x00") {
					t.Errorf("a name is a path: %q %q", environment, name)
				}
			}
		}
	})
}

// FuzzVersionFile feeds what lies on the disk as a version.
func FuzzVersionFile(f *testing.F) {
	s := openTemporary(f)
	f.Add(mustSeal(f, s, `{"environment":"dev","name":"db","version":1,"created_at":"2026-01-01T00:00:00Z","data":{"A":"1"}}`))
	f.Add([]byte("age-encryption.org/v1\n"))
	f.Fuzz(func(t *testing.T, sealed []byte) {
		plain, err := unseal(sealed, s.keys.Identity())
		if err == nil {
			_, _ = decodeContents(plain)
		}
	})
}

func BenchmarkGet(b *testing.B) {
	s := openTemporary(b)
	data := map[string]inject.Value{"A": inject.NewValue([]byte("sk-0123456789012345678901234567890123456789"))}
	if _, err := s.Put(b.Context(), "dev", "db", PutOptions{Data: data}); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := s.Get(b.Context(), "dev", "db", 0); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkPut(b *testing.B) {
	s := openTemporary(b)
	for i := 0; b.Loop(); i++ {
		data := map[string]inject.Value{"A": inject.NewValue([]byte(time.Unix(int64(i), 0).String()))}
		if _, err := s.Put(b.Context(), "dev", "db", PutOptions{Data: data}); err != nil {
			b.Fatal(err)
		}
		if _, err := s.Prune("dev", "db", 10, nil); err != nil {
			b.Fatal(err)
		}
	}
}
