package store_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/purserd/purser/inject/store"
)

// What was opened or written by the last change is not opened again for the next one.
func TestNewestIsNotOpenedTwice(t *testing.T) {
	place := newPlace(t)
	s := place.open(t)
	put(t, s, "dev", "db", "A=1", "B=1")
	s = place.reopen(t, s)
	must(t, s.CheckPut(t.Context(), "dev", "db", store.PutOptions{Data: values("B=2")}))
	must(t, os.Remove(filepath.Join(place.dir, "dev", "db", "1.age")))
	put(t, s, "dev", "db", "B=2")
	must(t, os.Remove(filepath.Join(place.dir, "dev", "db", "2.age")))
	put(t, s, "dev", "db", "B=3")
	wantContent(t, s, "dev", "db", 3, "3 A=1 B=3")
}

// A version that has come after the check is what a change is made of.
func TestPutAfterAnotherSinceItWasChecked(t *testing.T) {
	s := newPlace(t).open(t)
	put(t, s, "dev", "db", "A=1", "B=1")
	put(t, s, "dev", "other", "A=5")
	must(t, s.CheckPut(t.Context(), "dev", "db", store.PutOptions{Data: values("B=2")}))
	put(t, s, "dev", "db", "A=3")
	_, err := s.Rollback(t.Context(), "dev", "db", 1)
	must(t, err)
	put(t, s, "dev", "db", "B=2")
	wantContent(t, s, "dev", "db", 0, "4 A=1 B=2")
}
