package rig

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// A value is found wherever it is in a file: between holes, across what is read at a time,
// and at its end.
func TestFormsOnAFileWithHoles(t *testing.T) {
	t.Parallel()
	const value = "canary-hole-4Tz9Qw"
	for name, at := range map[string]int64{"the beginning": 0, "after a hole": 64 << 20, "across two reads": 8<<20 + 4096 - 7, "the end": 200<<20 - int64(len(value))} {
		path := filepath.Join(t.TempDir(), "disk")
		f, err := os.Create(path)
		if err != nil {
			t.Fatal(err)
		}
		if name == "across two reads" { // which is no hole
			if _, err := f.Write(make([]byte, 9<<20)); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := f.WriteAt([]byte(value), at); err != nil {
			t.Fatal(err)
		}
		if err := f.Truncate(200 << 20); err != nil {
			t.Fatal(err)
		}
		f.Close()
		if found := FormsOn(t, path, value); !slices.Equal(found, []string{"JSON", "percent of what is special", "plain"}) {
			t.Errorf("at %s: found %v", name, found)
		}
		if found := FormsOn(t, path, "another"); len(found) != 0 {
			t.Errorf("at %s: found %v", name, found)
		}
	}
}
