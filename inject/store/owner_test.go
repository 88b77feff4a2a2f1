package store_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/purserd/purser/inject"
	"github.com/purserd/purser/inject/keyring"
	"github.com/purserd/purser/inject/store"
)

// putFrom sets a secret from a source.
func putFrom(s *store.Store, from, name string, pairs ...string) (store.PutResult, error) {
	return s.Put(context.Background(), "dev", name, store.PutOptions{Data: values(pairs...), Replace: true, Source: from,
		TakeFrom: func(owner string) bool { return owner == "gone" }})
}

// wantOwner wants a change to be refused to who does not own the secret.
func wantOwner(t *testing.T, err error, owner, other string) {
	t.Helper()
	var owned *store.OwnerError
	if !errors.As(err, &owned) || owned.Owner != owner || owned.Other != other {
		t.Errorf("got %v, want it to be refused to %q, as it is %q's", err, other, owner)
	}
}

func TestSecretBelongsToWhereItComesFrom(t *testing.T) {
	place := newPlace(t)
	s := place.open(t)
	put(t, s, "dev", "own", "A=1")
	_, err := putFrom(s, "cluster", "db", "A=1")
	must(t, err)
	for range 2 {
		_, err = s.Put(t.Context(), "dev", "db", store.PutOptions{Data: values("A=2")})
		wantOwner(t, err, "cluster", "")
		err := s.CheckPut(t.Context(), "dev", "db", store.PutOptions{Data: values("A=2")})
		wantOwner(t, err, "cluster", "")
		_, err = s.Rollback(t.Context(), "dev", "db", 0)
		wantOwner(t, err, "cluster", "")
		wantOwner(t, s.CheckRollback("dev", "db", 0), "cluster", "")
		_, err = putFrom(s, "other", "db", "A=2")
		wantOwner(t, err, "cluster", "other")
		_, err = putFrom(s, "cluster", "own", "A=2")
		wantOwner(t, err, "", "cluster")
		wantContent(t, s, "dev", "db", 0, "1 A=1")
		wantContent(t, s, "dev", "own", 0, "1 A=1")
		if info, err := s.Describe("dev", "db"); err != nil || info.Source != "cluster" {
			t.Errorf("its source is %q, %v", info.Source, err)
		}
		s = place.reopen(t, s) // the owner is remembered
	}
	result, err := putFrom(s, "cluster", "db", "A=2")
	if err != nil || result.Version != 2 {
		t.Errorf("got %+v, %v", result, err)
	}
}

// A deleted secret is nobody's, and its numbers go on.
func TestDeletedSecretChangesHands(t *testing.T) {
	s := newPlace(t).open(t)
	_, err := putFrom(s, "cluster", "db", "A=1")
	must(t, err)
	kept, err := s.Delete("dev", "db", []uint32{1}, false)
	if err != nil || len(kept) != 1 {
		t.Fatal(kept, err)
	}
	if number := put(t, s, "dev", "db", "A=1"); number != 2 {
		t.Errorf("it is version %d", number)
	}
	_, err = putFrom(s, "cluster", "db", "A=2")
	wantOwner(t, err, "", "cluster")
}

// A source that is gone has no claim. What has not changed is no new version.
func TestSecretIsTakenOver(t *testing.T) {
	place := newPlace(t)
	s := place.open(t)
	_, err := putFrom(s, "gone", "db", "A=1")
	must(t, err)
	preview, err := s.PreviewPut(t.Context(), "dev", "db", store.PutOptions{Data: values("A=1"), Replace: true, Source: "cluster", TakeFrom: func(string) bool { return true }})
	if err != nil || !preview.Changed {
		t.Errorf("got %+v, %v", preview, err)
	}
	s.Contest("dev", "db", "cluster") // as long as the other was there
	result, err := putFrom(s, "cluster", "db", "A=1")
	if err != nil || result.Changed || result.Version != 1 {
		t.Errorf("got %+v, %v", result, err)
	}
	wantContent(t, s, "dev", "db", 0, "1 A=1")
	s = place.reopen(t, s)
	if info, err := s.Describe("dev", "db"); err != nil || info.Source != "cluster" {
		t.Errorf("its source is %q, %v", info.Source, err)
	}
}

func TestPreviewSaysWhatPutWouldDo(t *testing.T) {
	s := newPlace(t).open(t)
	options := store.PutOptions{Data: values("A=1"), Replace: true, Source: "cluster"}
	for _, want := range []bool{true, false} {
		if got, err := s.PreviewPut(t.Context(), "dev", "db", options); err != nil || got.Changed != want {
			t.Errorf("got %+v, %v; want %v", got, err, want)
		}
		result, err := s.Put(t.Context(), "dev", "db", options)
		if err != nil || result.Changed != want || result.Version != 1 {
			t.Errorf("got %+v, %v; want %v", result, err, want)
		}
	}
}

// Nobody gets the newest of a secret that is in two places; who has a version keeps it.
func TestContestedSecret(t *testing.T) {
	s := newPlace(t).open(t)
	_, err := putFrom(s, "cluster", "db", "A=1")
	must(t, err)
	s.Contest("dev", "db", "second")
	s.Contest("dev", "db", "first")
	s.Contest("dev", "db", "first")
	_, err = s.Get(t.Context(), "dev", "db", 0)
	var conflict *store.ConflictError
	if !errors.As(err, &conflict) || errors.Is(err, inject.ErrNotFound) || conflict.Owner != "cluster" || !slices.Equal(conflict.Others, []string{"first", "second"}) {
		t.Errorf("got %v", err)
	}
	for _, name := range []string{"cluster", "first", "second", "db", "dev"} {
		if !strings.Contains(err.Error(), name) {
			t.Errorf("%q does not name %s", err, name)
		}
	}
	wantContent(t, s, "dev", "db", 1, "1 A=1")
	if info, err := s.Describe("dev", "db"); err != nil || info.Contested == nil {
		t.Errorf("got %+v, %v", info, err)
	}
	_, err = putFrom(s, "cluster", "db", "A=2") // the owner's goes on
	must(t, err)
	if _, err = s.Get(t.Context(), "dev", "db", 0); !errors.As(err, &conflict) {
		t.Errorf("got %v", err)
	}
	s.Settle("dev", "db", "first")
	if _, err = s.Get(t.Context(), "dev", "db", 0); !errors.As(err, &conflict) {
		t.Errorf("got %v", err)
	}
	s.Settle("dev", "db", "second")
	wantContent(t, s, "dev", "db", 0, "2 A=2")
}

// Of two places the one that is left gets it.
func TestConflictIsSettledByTheOther(t *testing.T) {
	s := newPlace(t).open(t)
	put(t, s, "dev", "db", "A=1")
	s.Contest("dev", "db", "cluster")
	if _, err := s.Delete("dev", "db", nil, false); err != nil {
		t.Fatal(err)
	}
	wantContent(t, s, "dev", "db", 0, `no secret db in environment dev; see purser secret list -A`)
	_, err := putFrom(s, "cluster", "db", "A=2")
	must(t, err)
	wantContent(t, s, "dev", "db", 0, "2 A=2")
}

// A store that was written before secrets had sources opens, and its secrets are those of
// the API.
func TestStoreOfBeforeSourcesOpens(t *testing.T) {
	s := beforeSources(t).open(t)
	wantContent(t, s, "dev", "db", 0, "2 A=2")
	wantContent(t, s, "dev", "db", 1, "1 A=1")
	if info, err := s.Describe("dev", "db"); err != nil || info.Source != "" {
		t.Errorf("its source is %q, %v", info.Source, err)
	}
	put(t, s, "dev", "db", "A=3")
}

// beforeSources is where a store is that was written before secrets had sources, and before
// there were journals.
func beforeSources(t *testing.T) place {
	t.Helper()
	dir := t.TempDir()
	must(t, os.CopyFS(dir, os.DirFS("testdata/before-sources")))
	must(t, os.Chmod(filepath.Join(dir, "identity.age"), 0o600))
	keys, err := keyring.Open(filepath.Join(dir, "identity.age"))
	must(t, err)
	return place{dir: filepath.Join(dir, "secrets"), keys: keys}
}
