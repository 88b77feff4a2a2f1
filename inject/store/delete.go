package store

import (
	"context"
	"fmt"
	"slices"
)

// Delete ends a secret: new launches no longer find it. The versions in pinned are
// kept, marked as deleted, unless destroy is set; it returns their numbers, oldest
// first. Deleting again lets go of those that are no longer pinned.
//
// A sealed file that is removed may be found on the disk for some time, and unless destroy
// is set in the journal until the next checkpoint; what it is sealed with is the protection.
func (s *Store) Delete(environment, name string, pinned []uint32, destroy bool) (kept []uint32, err error) {
	r, done, err := s.startChange(context.Background(), environment, name)
	if err != nil {
		return nil, err
	}
	defer done()
	if len(r.Versions) == 0 {
		return nil, notFound(environment, name, 0)
	}
	if destroy {
		pinned = nil
	}
	remaining, obsolete := r.split(func(v version) bool { return slices.Contains(pinned, v.Version) })
	for i := range remaining {
		remaining[i].Deleted = true
		kept = append(kept, remaining[i].Version)
	}
	if _, live := r.newest(); !live && len(obsolete) == 0 {
		return kept, nil
	}
	r.Versions, s.newest = remaining, opened{}
	if _, err := s.commit(environment, name, r, nil, obsolete...); err != nil {
		return nil, fmt.Errorf("deleting secret %q in environment %q: %w", name, environment, err)
	}
	if !destroy {
		return kept, nil
	}
	if err := s.dropJournal(); err != nil {
		return nil, fmt.Errorf("secret %q in environment %q is destroyed, but sealed versions may stay in journals in %q until there is another change: %w", name, environment, s.dir, err)
	}
	return kept, nil
}

// Prune removes old versions of a secret and returns their numbers, oldest first. It
// keeps the newest ones, as many as keep says and at least one, and those in pinned;
// of versions marked as deleted it keeps the pinned ones alone.
func (s *Store) Prune(environment, name string, keep int, pinned []uint32) (removed []uint32, err error) {
	r, done, err := s.startChange(context.Background(), environment, name)
	if err != nil {
		return nil, err
	}
	defer done()
	newest := r.newestLive(max(keep, 1))
	remaining, removed := r.split(func(v version) bool {
		return slices.Contains(newest, v.Version) || slices.Contains(pinned, v.Version)
	})
	if len(removed) == 0 {
		return nil, nil
	}
	r.Versions = remaining
	if _, err := s.commit(environment, name, r, nil, removed...); err != nil {
		return nil, fmt.Errorf("pruning secret %q in environment %q: %w", name, environment, err)
	}
	return removed, nil
}

// split returns copies of the versions to keep, and the numbers of the others.
func (r record) split(keep func(version) bool) (kept []version, others []uint32) {
	for _, v := range r.Versions {
		if keep(v) {
			kept = append(kept, v)
		} else {
			others = append(others, v.Version)
		}
	}
	return kept, others
}

// newestLive returns the numbers of the newest count versions that are not deleted.
func (r record) newestLive(count int) []uint32 {
	var numbers []uint32
	for _, v := range slices.Backward(r.Versions) {
		if !v.Deleted && len(numbers) < count {
			numbers = append(numbers, v.Version)
		}
	}
	return numbers
}
