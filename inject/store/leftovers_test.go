package store_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// Every state that a crash can leave is brought back to the last complete one, and
// the crashed operation can be done again.
func TestLeftoversOfACrash(t *testing.T) {
	for _, test := range []struct {
		name  string
		crash func(t *testing.T, p place)
	}{
		{"directories of a new secret", func(t *testing.T, p place) { must(t, os.MkdirAll(p.file("prod", "new"), 0o700)) }},
		{"a new secret's half-written version", func(t *testing.T, p place) {
			must(t, os.MkdirAll(p.file("prod", "new"), 0o700))
			overwrite(t, p.file("prod", "new", ".1.age123"), []byte("age-encryption.org/v1"))
		}},
		{"a new secret's version without its manifest", func(t *testing.T, p place) {
			must(t, os.MkdirAll(p.file("prod", "new"), 0o700))
			overwrite(t, p.file("prod", "new", "1.age"), []byte("age-encryption.org/v1"))
		}},
		{"a half-written version", func(t *testing.T, p place) { overwrite(t, p.file("dev", "db", ".3.age99"), nil) }},
		{"a version without its manifest", func(t *testing.T, p place) {
			overwrite(t, p.file("dev", "db", "3.age"), read(t, p.file("dev", "db", "2.age")))
		}},
		{"a half-written manifest", func(t *testing.T, p place) {
			overwrite(t, p.file("dev", "db", "3.age"), nil)
			overwrite(t, p.file("._manifest.json7"), []byte("purser"))
		}},
		{"a deleted secret's file", func(t *testing.T, p place) {
			sealed := read(t, p.file("dev", "gone", "1.age"))
			s := p.open(t)
			_, err := s.Delete("dev", "gone", nil, false)
			must(t, err)
			must(t, s.Close())
			must(t, os.MkdirAll(p.file("dev", "gone"), 0o700))
			overwrite(t, p.file("dev", "gone", "1.age"), sealed)
			s = p.open(t)
			put(t, s, "dev", "gone", "A=1") // as before, for what follows
			must(t, s.Close())
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			place := newPlace(t)
			s := place.open(t)
			put(t, s, "dev", "gone", "A=1")
			put(t, s, "dev", "db", "A=1")
			put(t, s, "dev", "db", "A=2")
			must(t, s.Close())
			test.crash(t, place)
			s = place.open(t)
			wantContent(t, s, "dev", "db", 0, "2 A=2")
			wantFiles(t, place, "_manifest.json", "dev/db/1.age", "dev/db/2.age", "dev/gone/")
			put(t, s, "dev", "db", "A=3")
			put(t, s, "prod", "new", "A=1")
			s = place.reopen(t, s)
			wantContent(t, s, "dev", "db", 0, "3 A=3")
			wantContent(t, s, "prod", "new", 0, "1 A=1")
			must(t, s.Verify(t.Context()))
		})
	}
}

// wantFiles compares the files; a name with a slash at its end stands for one file in
// that directory.
func wantFiles(t *testing.T, p place, want ...string) {
	t.Helper()
	var got []string
	must(t, filepath.WalkDir(p.dir, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() {
			name, _ := filepath.Rel(p.dir, path)
			if dir := filepath.Dir(name) + "/"; slices.Contains(want, dir) {
				name = dir
			}
			got = append(got, name)
		}
		return err
	}))
	if !slices.Equal(got, want) {
		t.Errorf("files %v, want %v", got, want)
	}
	if dirs, _ := filepath.Glob(p.file("prod")); dirs != nil {
		t.Errorf("%v is left behind", dirs)
	}
}

func TestForeignFilesAreLeftAlone(t *testing.T) {
	place := newPlace(t)
	s := place.open(t)
	put(t, s, "dev", "db", "A=1")
	for _, path := range []string{place.file("README"), place.file("dev", "notes.txt"), place.file("dev", "db", "1.age.bak"), place.file("dev", "db", "01.age"), place.file("dev", "db", "99999999999.age")} {
		overwrite(t, path, []byte("mine"))
		defer func() {
			if string(read(t, path)) != "mine" {
				t.Errorf("%s was touched", path)
			}
		}()
	}
	must(t, os.MkdirAll(place.file("lost+found"), 0o700))
	s = place.reopen(t, s)
	wantContent(t, s, "dev", "db", 0, "1 A=1")
}
