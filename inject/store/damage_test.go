package store_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"filippo.io/age"

	"github.com/purserd/purser/inject"
	"github.com/purserd/purser/inject/keyring"
	"github.com/purserd/purser/inject/store"
)

func (p place) file(parts ...string) string {
	return filepath.Join(append([]string{p.dir}, parts...)...)
}

func read(t testing.TB, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	must(t, err)
	return data
}

func overwrite(t testing.TB, path string, data []byte) {
	t.Helper()
	must(t, os.WriteFile(path, data, 0o600))
}

func changed(data []byte, at int) []byte {
	data = bytes.Clone(data)
	data[at] ^= 1
	return data
}

// A damaged version is told apart from a missing one, by name, and spoils nothing else.
func TestDamagedVersion(t *testing.T) {
	for _, test := range []struct {
		name   string
		damage func(t *testing.T, p place, path string)
		want   string
	}{
		{"missing", func(t *testing.T, _ place, path string) { must(t, os.Remove(path)) }, "it is missing"},
		{"missing with its directory", func(t *testing.T, _ place, path string) { must(t, os.RemoveAll(filepath.Dir(path))) }, "it is missing"},
		{"swapped for another secret's", func(t *testing.T, p place, path string) { overwrite(t, path, read(t, p.file("dev", "api", "1.age"))) }, "it is not the file that was written"},
		{"swapped for another environment's", func(t *testing.T, p place, path string) {
			overwrite(t, path, read(t, p.file("prod", "db", "1.age")))
		}, "it is not the file that was written"},
		{"put back to an earlier version", func(t *testing.T, p place, path string) { overwrite(t, path, read(t, p.file("dev", "db", "1.age"))) }, "it is not the file that was written"},
		{"empty", func(t *testing.T, _ place, path string) { overwrite(t, path, nil) }, "it is not the file that was written"},
		{"cut short", func(t *testing.T, _ place, path string) { must(t, os.Truncate(path, 300)) }, "it is not the file that was written"},
		{"grown", func(t *testing.T, _ place, path string) { overwrite(t, path, append(read(t, path), 0)) }, "it is not the file that was written"},
		{"one bit", func(t *testing.T, _ place, path string) { overwrite(t, path, changed(read(t, path), 250)) }, "it is not the file that was written"},
		{"sealed by somebody else", func(t *testing.T, p place, path string) {
			overwrite(t, path, sealForeign(t, p, `{"environment":"dev","name":"db","version":2,"created_at":"2026-01-01T00:00:00Z","data":{"A":"evil"}}`))
		}, "it is not the file that was written"},
	} {
		t.Run(test.name, func(t *testing.T) {
			place := newPlace(t)
			s := place.open(t)
			put(t, s, "dev", "db", "A=1")
			put(t, s, "dev", "db", "A=2")
			put(t, s, "dev", "api", "A=3")
			put(t, s, "prod", "db", "A=4")
			path := place.file("dev", "db", "2.age")
			must(t, s.Close())
			test.damage(t, place, path)
			s = place.open(t)
			wantDamage(t, s, path, test.want)
			if test.name != "missing with its directory" {
				wantContent(t, s, "dev", "db", 1, "1 A=1")
			}
			wantContent(t, s, "dev", "api", 0, "1 A=3")
			wantContent(t, s, "prod", "db", 0, "1 A=4")
			if len(s.List("")) != 3 {
				t.Errorf("listed %v", s.List(""))
			}
			wantMendable(t, s)
		})
	}
}

func wantDamage(t *testing.T, s *store.Store, path, reason string) {
	t.Helper()
	_, err := s.Get(t.Context(), "dev", "db", 0)
	var damage *store.DamageError
	if !errors.As(err, &damage) || errors.Is(err, inject.ErrNotFound) {
		t.Fatalf("got %v", err)
	}
	if want := "version 2 of secret db in environment dev is damaged: file " + path + ": " + reason; !strings.HasPrefix(err.Error(), want) {
		t.Errorf("got %v\nwant %s", err, want)
	}
	if err := s.Verify(t.Context()); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("Verify says %v", err)
	}
}

// wantMendable replaces the damaged newest version of dev/db.
func wantMendable(t *testing.T, s *store.Store) {
	t.Helper()
	_, err := s.Put(t.Context(), "dev", "db", store.PutOptions{Data: values("B=1")})
	if err == nil || !strings.Contains(err.Error(), "replace it with all of its keys, or roll back") {
		t.Errorf("merging over damage: %v", err)
	}
	_, err = s.Put(t.Context(), "dev", "db", store.PutOptions{Data: values("B=1"), Replace: true})
	must(t, err)
	wantContent(t, s, "dev", "db", 0, "3 B=1")
	_, err = s.Delete("dev", "db", nil, false)
	must(t, err)
	must(t, s.Verify(t.Context()))
}

// sealForeign seals to the node as everybody can who knows its recipient.
func sealForeign(t testing.TB, p place, plain string) []byte {
	t.Helper()
	var sealed bytes.Buffer
	w, err := age.Encrypt(&sealed, p.keys.Recipient())
	must(t, err)
	_, err = w.Write([]byte(plain))
	must(t, err)
	must(t, w.Close())
	return sealed.Bytes()
}

func TestDamagedManifest(t *testing.T) {
	for _, test := range []struct {
		name   string
		damage func(t *testing.T, p place, path string)
		want   string
	}{
		{"missing", func(t *testing.T, _ place, path string) { must(t, os.Remove(path)) }, "it is missing, but 2 sealed versions are there, such as"},
		{"empty", func(t *testing.T, _ place, path string) { overwrite(t, path, nil) }, "it does not start as a manifest does; restore it"},
		{"another format", func(t *testing.T, _ place, path string) {
			overwrite(t, path, bytes.Replace(read(t, path), []byte("store 2"), []byte("store 3"), 1))
		}, "it has another format: a newer purser wrote it; run that one"},
		{"taken for the first format", func(t *testing.T, _ place, path string) {
			overwrite(t, path, bytes.Replace(read(t, path), []byte("store 2"), []byte("store 1"), 1))
		}, "it was changed by something other than purser"},
		{"cut short", func(t *testing.T, _ place, path string) { must(t, os.Truncate(path, 200)) }, "it was changed by something other than purser"},
		{"an entry changed", func(t *testing.T, _ place, path string) {
			overwrite(t, path, bytes.Replace(read(t, path), []byte(`"next": 3`), []byte(`"next": 4`), 1))
		}, "it was changed by something other than purser"},
		{"the MAC changed", func(t *testing.T, _ place, path string) { overwrite(t, path, changed(read(t, path), 60)) }, "it was changed by something other than purser"},
		{"something added", func(t *testing.T, _ place, path string) { overwrite(t, path, append(read(t, path), "{}\n"...)) }, "it was changed by something other than purser"},
	} {
		t.Run(test.name, func(t *testing.T) {
			place := newPlace(t)
			s := place.open(t)
			put(t, s, "dev", "db", "A=1")
			put(t, s, "dev", "db", "A=2")
			must(t, s.Close())
			path := place.file("_manifest.json")
			before := read(t, path)
			test.damage(t, place, path)
			wantOpenDamage(t, place, store.Options{}, path, test.want)
			if len(sealedFiles(t, place)) != 2 {
				t.Error("a refused store was changed")
			}
			overwrite(t, path, before)
			wantContent(t, place.open(t), "dev", "db", 0, "2 A=2")
		})
	}
}

func wantOpenDamage(t *testing.T, p place, options store.Options, path, reason string) {
	t.Helper()
	_, err := store.Open(p.dir, p.keys, options)
	var damage *store.DamageError
	if !errors.As(err, &damage) || damage.Path != path || !strings.HasPrefix(damage.Reason, reason) {
		t.Errorf("got %v\nwant %s: %s", err, path, reason)
	}
}

func TestManifestOfAnotherIdentity(t *testing.T) {
	place := newPlace(t)
	must(t, place.open(t).Close())
	other, err := keyring.Open(filepath.Join(t.TempDir(), "identity.age"))
	must(t, err)
	own := place.keys.Recipient().String()
	place.keys = other
	wantOpenDamage(t, place, store.Options{}, place.file("_manifest.json"),
		"it belongs to another identity, "+own+", and this node's is "+other.Recipient().String()+"; restore the identity")
}

func TestManifestPutBack(t *testing.T) {
	place := newPlace(t)
	s := place.open(t)
	put(t, s, "dev", "db", "A=1")
	s = place.reopen(t, s)
	old := read(t, place.file("_manifest.json"))
	put(t, s, "dev", "db", "A=2")
	put(t, s, "dev", "db", "A=3")
	seen := s.Sequence()
	must(t, s.Close())
	overwrite(t, place.file("_manifest.json"), old)
	wantOpenDamage(t, place, store.Options{}, place.file("_manifest.json"),
		"it was put back to an earlier state: version 3 of secret db in environment dev is there ("+place.file("dev", "db", "3.age")+"), and its next was to be 2")
	wantOpenDamage(t, place, store.Options{MinSequence: seen}, place.file("_manifest.json"),
		"the store was put back to an earlier state: it is at change 2 and has been at 4; restore its newest copy")
	if got := len(sealedFiles(t, place)); got != 3 {
		t.Errorf("%d files are left of 3", got)
	}
}

// A whole store put back, or taken away, is noticed by its sequence alone.
func TestMinSequence(t *testing.T) {
	place := newPlace(t)
	s := place.open(t)
	if s.Sequence() != 1 {
		t.Errorf("a new store is at %d", s.Sequence())
	}
	put(t, s, "dev", "db", "A=1")
	seen := s.Sequence()
	must(t, s.Close())
	s, err := store.Open(place.dir, place.keys, store.Options{MinSequence: seen})
	must(t, err)
	must(t, s.Close())
	wantOpenDamage(t, place, store.Options{MinSequence: seen + 1}, place.file("_manifest.json"), "the store was put back to an earlier state: it is at change 2 and has been at 3")
	must(t, os.RemoveAll(place.dir))
	wantOpenDamage(t, place, store.Options{MinSequence: seen}, place.file("_manifest.json"), "the store was put back to an earlier state: it is at change 0 and has been at 2")
}

// To put what a damaged version had mends it, also where that is known from when it was put.
func TestPutMendsDamageThatCameSince(t *testing.T) {
	for _, replace := range []bool{true, false} {
		p := newPlace(t)
		s := p.open(t)
		put(t, s, "dev", "db", "A=1", "B=1")
		s = p.reopen(t, s)
		must(t, s.CheckPut(t.Context(), "dev", "db", store.PutOptions{Data: values("A=1")}))
		must(t, os.Remove(p.file("dev", "db", "1.age")))
		options := store.PutOptions{Data: values("A=1", "B=1"), Replace: replace}
		preview, err := s.PreviewPut(t.Context(), "dev", "db", options)
		must(t, err)
		got, err := s.Put(t.Context(), "dev", "db", options)
		must(t, err)
		if !preview.Changed || !got.Changed || got.Version != 2 {
			t.Errorf("replace %t: previewed %+v, got %+v", replace, preview, got)
		}
		wantContent(t, p.reopen(t, s), "dev", "db", 0, "2 A=1 B=1")
	}
}
