package store_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/purserd/purser/inject/store"
)

// What was opened to check a change is not opened again to make it.
func TestPutWhatWasChecked(t *testing.T) {
	place := newPlace(t)
	s := place.open(t)
	put(t, s, "dev", "db", "A=1", "B=1")
	options, err := s.CheckPut(t.Context(), "dev", "db", store.PutOptions{Data: values("B=2")})
	must(t, err)
	must(t, os.Remove(filepath.Join(place.dir, "dev", "db", "1.age")))
	_, err = s.Put(t.Context(), "dev", "db", options)
	must(t, err)
	wantContent(t, s, "dev", "db", 2, "2 A=1 B=2")
}

// A version that has come after the check is what a change is made of.
func TestPutAfterAnotherSinceItWasChecked(t *testing.T) {
	s := newPlace(t).open(t)
	put(t, s, "dev", "db", "A=1", "B=1")
	options, err := s.CheckPut(t.Context(), "dev", "db", store.PutOptions{Data: values("B=2")})
	must(t, err)
	put(t, s, "dev", "db", "A=3")
	_, err = s.Put(t.Context(), "dev", "db", options)
	must(t, err)
	wantContent(t, s, "dev", "db", 3, "3 A=3 B=2")
}
