package store

import (
	"fmt"
	"slices"
	"strings"

	"github.com/purserd/purser/inject/source"
)

// OwnerError says that a secret belongs to somebody else than who is to change it.
type OwnerError struct {
	Environment, Name string
	// Owner is the source that the secret comes from; empty when it was set through
	// the API. Other wanted to change it, and is the same kind of name.
	Owner, Other string
}

// Error names both.
func (e *OwnerError) Error() string {
	return fmt.Sprintf("secret %s in environment %s %s, not %s", e.Name, e.Environment, comes(e.Owner), from(e.Other))
}

// ConflictError says that a secret is in more than one place, so that nobody can tell
// which a launch is to get.
type ConflictError struct {
	Environment, Name string
	// Owner as in [OwnerError]; Others are the sources that have it too, sorted.
	Owner  string
	Others []string
}

// Error names all places.
func (e *ConflictError) Error() string {
	return fmt.Sprintf("secret %s in environment %s %s, and there is another of that name in source %s: remove one of them",
		e.Name, e.Environment, comes(e.Owner), strings.Join(e.Others, " and source "))
}

func comes(owner string) string {
	if owner == "" {
		return "was set by purser secret set"
	}
	return "comes from source " + owner
}

func from(other string) string {
	if other == "" {
		return "from purser secret set"
	}
	return "from source " + other
}

// mayChange refuses who does not own a secret. One without a version that is not
// deleted is nobody's.
func (r record) mayChange(environment, name, by string, takeFrom func(owner string) bool) error {
	if _, live := r.newest(); !live || r.Source == by || takeFrom != nil && takeFrom(r.Source) {
		return nil
	}
	return &OwnerError{Environment: environment, Name: name, Owner: r.Source, Other: by}
}

// Contest notes that a source has a secret which belongs to another: until it is
// settled, Get with version 0 fails with a [*ConflictError]. Versions are still found
// by number, for the workloads that run on them. It is not kept on disk: who has the
// source looks at it again.
func (s *Store) Contest(environment, name, by string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	at := source.Name{Environment: environment, Secret: name}
	if !slices.Contains(s.contested[at], by) {
		s.contested[at] = append(slices.Clone(s.contested[at]), by)
		slices.Sort(s.contested[at])
	}
}

// Settle says that a source does not have the secret any more. To put a new version
// settles what the source had contested, too.
func (s *Store) Settle(environment, name, by string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.settle(environment, name, by)
}

// settle wants mu.
func (s *Store) settle(environment, name, by string) {
	at := source.Name{Environment: environment, Secret: name}
	rest := slices.DeleteFunc(slices.Clone(s.contested[at]), func(other string) bool { return other == by })
	if s.contested[at] = rest; len(rest) == 0 {
		delete(s.contested, at)
	}
}

// conflict is the error for a secret that is contested. The caller holds mu.
func (s *Store) conflict(environment, name string, r record) error {
	others := s.contested[source.Name{Environment: environment, Secret: name}]
	if _, live := r.newest(); !live || len(others) == 0 {
		return nil
	}
	return &ConflictError{Environment: environment, Name: name, Owner: r.Source, Others: others}
}
