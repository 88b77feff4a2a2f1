package store_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/purserd/purser/inject"
)

func TestDelete(t *testing.T) {
	for _, test := range []struct {
		name    string
		pinned  []uint32
		destroy bool
		kept    []uint32
	}{
		{"unused", nil, false, nil},
		{"pinned", []uint32{1, 3}, false, []uint32{1, 3}},
		{"pinned to what is gone already", []uint32{7}, false, nil},
		{"pinned and destroyed", []uint32{1, 3}, true, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			place := newPlace(t)
			s := place.open(t)
			for i := range 3 {
				put(t, s, "dev", "db", fmt.Sprintf("A=%d", i+1))
			}
			kept, err := s.Delete("dev", "db", test.pinned, test.destroy)
			must(t, err)
			for range 2 {
				if !slices.Equal(kept, test.kept) {
					t.Errorf("kept %v", kept)
				}
				wantContent(t, s, "dev", "db", 0, `no secret db in environment dev; see purser secret list -A`)
				for i := range uint32(3) {
					secret, err := s.Get(t.Context(), "dev", "db", i+1)
					if !slices.Contains(kept, i+1) {
						if !errors.Is(err, inject.ErrNotFound) {
							t.Errorf("version %d: got %v", i+1, err)
						}
					} else if err != nil || !secret.Deleted {
						t.Errorf("version %d: got %+v, %v", i+1, secret, err)
					}
				}
				wantDeleted(t, s.List("dev"), len(kept))
				if got := len(sealedFiles(t, place)); got != len(kept) {
					t.Errorf("%d sealed files are there", got)
				}
				s = place.reopen(t, s)
			}
			// A number is never used twice, and nothing old is merged in.
			put(t, s, "dev", "db", "B=4")
			wantContent(t, s, "dev", "db", 0, "4 B=4")
		})
	}
}

func wantDeleted[I any](t *testing.T, listed []I, kept int) {
	t.Helper()
	if (len(listed) == 1) != (kept > 0) {
		t.Errorf("%d versions are kept, and listed is %v", kept, listed)
	}
}

// sealedFiles fails for anything in the store that no version explains.
func sealedFiles(t testing.TB, place place) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(place.dir, "*", "*", "*"))
	must(t, err)
	for _, path := range files {
		if filepath.Ext(path) != ".age" {
			t.Errorf("%s is left behind", path)
		}
		if info, err := os.Stat(path); err != nil || info.Mode() != 0o600 {
			t.Errorf("%s: mode %v, %v", path, info.Mode(), err)
		}
	}
	return files
}

func TestDeleteAgainLetsGo(t *testing.T) {
	s := newPlace(t).open(t)
	put(t, s, "dev", "db", "A=1")
	put(t, s, "dev", "db", "A=2")
	for _, step := range []struct{ pinned, kept []uint32 }{{[]uint32{1, 2}, []uint32{1, 2}}, {[]uint32{1, 2}, []uint32{1, 2}}, {[]uint32{2}, []uint32{2}}, {nil, nil}} {
		kept, err := s.Delete("dev", "db", step.pinned, false)
		must(t, err)
		if !slices.Equal(kept, step.kept) {
			t.Errorf("kept %v, want %v", kept, step.kept)
		}
	}
	if _, err := s.Delete("dev", "db", nil, false); !errors.Is(err, inject.ErrNotFound) {
		t.Errorf("got %v", err)
	}
}

func TestDescribeOfADeletedSecret(t *testing.T) {
	s := newPlace(t).open(t)
	put(t, s, "dev", "db", "A=1")
	put(t, s, "dev", "db", "A=2")
	_, err := s.Delete("dev", "db", []uint32{1}, false)
	must(t, err)
	info, err := s.Describe("dev", "db")
	must(t, err)
	if !info.Deleted || info.Version != 0 || len(info.Versions) != 1 || !info.Versions[0].Deleted || info.Updated.IsZero() {
		t.Errorf("deleted: %+v", info)
	}
	put(t, s, "dev", "db", "A=3")
	info, err = s.Describe("dev", "db")
	must(t, err)
	if info.Deleted || info.Version != 3 || len(info.Versions) != 2 || info.Versions[0].Deleted || !info.Versions[1].Deleted || !info.Created.Equal(info.Updated) {
		t.Errorf("revived: %+v", info)
	}
}

func TestPrune(t *testing.T) {
	for _, test := range []struct {
		name    string
		keep    int
		pinned  []uint32
		removed []uint32
	}{
		{"more than there are", 10, nil, nil},
		{"some", 2, nil, []uint32{1, 2, 3}},
		{"but the pinned", 2, []uint32{2}, []uint32{1, 3}},
		{"never the newest", 0, nil, []uint32{1, 2, 3, 4}},
		{"nor for a negative number", -1, []uint32{1}, []uint32{2, 3, 4}},
	} {
		t.Run(test.name, func(t *testing.T) {
			place := newPlace(t)
			s := place.open(t)
			for i := range 5 {
				put(t, s, "dev", "db", fmt.Sprintf("A=%d", i+1))
			}
			removed, err := s.Prune("dev", "db", test.keep, test.pinned)
			must(t, err)
			if !slices.Equal(removed, test.removed) {
				t.Errorf("removed %v, want %v", removed, test.removed)
			}
			if got := len(sealedFiles(t, place)); got != 5-len(removed) {
				t.Errorf("%d files", got)
			}
			s = place.reopen(t, s)
			wantContent(t, s, "dev", "db", 0, "5 A=5")
			must(t, s.Verify(t.Context()))
		})
	}
}

func TestPruneOfDeletedVersions(t *testing.T) {
	place := newPlace(t)
	s := place.open(t)
	put(t, s, "dev", "db", "A=1")
	put(t, s, "dev", "db", "A=2")
	_, err := s.Delete("dev", "db", []uint32{1, 2}, false)
	must(t, err)
	put(t, s, "dev", "db", "A=3")
	removed, err := s.Prune("dev", "db", 10, []uint32{2})
	must(t, err)
	if !slices.Equal(removed, []uint32{1}) {
		t.Errorf("removed %v", removed)
	}
	_, err = s.Delete("dev", "db", []uint32{2}, false)
	must(t, err)
	if kept := s.Kept("dev"); !slices.Equal(kept, []inject.Version{{Secret: "db", Number: 2}}) {
		t.Errorf("kept %v", kept)
	}
	if removed, err := s.Prune("dev", "db", 10, nil); err != nil || !slices.Equal(removed, []uint32{2}) {
		t.Errorf("removed %v, %v", removed, err)
	}
	if len(s.List("")) != 0 || len(s.Environments()) != 0 {
		t.Errorf("listed %v", s.List(""))
	}
	// The directories go with the last version.
	s = place.reopen(t, s)
	if entries, err := os.ReadDir(place.dir); err != nil || len(entries) != 1 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
	if removed, err := s.Prune("dev", "no", 1, nil); err != nil || removed != nil {
		t.Errorf("a secret that never was: %v, %v", removed, err)
	}
}
