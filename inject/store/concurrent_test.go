package store_test

import (
	"fmt"
	"sync"
	"testing"

	"github.com/purserd/purser/inject/store"
)

// Readers never see a version that is going away as damaged, and no write is lost.
func TestConcurrentUse(t *testing.T) {
	s := newPlace(t).open(t)
	put(t, s, "dev", "db", "START=1")
	const writers, writes = 4, 10
	stop := make(chan struct{})
	var readers, group sync.WaitGroup
	for range 2 {
		readers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if _, err := s.Get(t.Context(), "dev", "db", 0); err != nil {
					t.Error(err)
				}
				if err := s.Verify(t.Context()); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for w := range writers {
		group.Go(func() {
			for i := range writes {
				_, err := s.Put(t.Context(), "dev", "db", store.PutOptions{Data: values(fmt.Sprintf("K%d_%d=1", w, i))})
				if err != nil {
					t.Error(err)
				}
				if _, err := s.Prune("dev", "db", 2, nil); err != nil {
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
	close(stop)
	readers.Wait()
	info, err := s.Describe("dev", "db")
	must(t, err)
	if want := writers*writes + 1; info.Version != uint32(want) || len(info.Versions[0].Keys) != want {
		t.Errorf("at version %d with %d keys, want %d of each", info.Version, len(info.Versions[0].Keys), want)
	}
}
