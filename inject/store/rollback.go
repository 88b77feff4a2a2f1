package store

import (
	"context"
	"fmt"
)

// Rollback writes a new version with the content of an old one, or of the one before
// the newest for 0, and returns its number. Versions of before the secret was last
// deleted do not count. What comes from a source is refused, with an [*OwnerError].
func (s *Store) Rollback(ctx context.Context, environment, name string, number uint32) (uint32, error) {
	r, done, err := s.startChange(ctx, environment, name)
	if err != nil {
		return 0, err
	}
	defer done()
	source, err := r.rollbackSource(environment, name, number)
	if err != nil {
		return 0, err
	}
	data, err := s.load(environment, name, source)
	if err != nil {
		return 0, err
	}
	return s.add(environment, name, r, data, source.Version)
}

// CheckRollback returns the error with which Rollback would refuse a version.
func (s *Store) CheckRollback(environment, name string, number uint32) error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	_, err := s.manifest.record(environment, name).rollbackSource(environment, name, number)
	return err
}

// rollbackSource returns the version to go back to.
func (r record) rollbackSource(environment, name string, number uint32) (version, error) {
	newest, ok := r.newest()
	if !ok {
		return version{}, notFound(environment, name, 0)
	}
	if err := r.mayChange(environment, name, "", nil); err != nil {
		return version{}, err
	}
	if number == newest.Version {
		return version{}, invalid("version", "%d is the newest of secret %s in environment %s already", number, name, environment)
	}
	if number == 0 {
		return r.before(newest)
	}
	source, ok := r.find(number)
	if !ok && number < newest.Version {
		return version{}, gone(environment, name, number)
	}
	if !ok || source.Deleted {
		return version{}, notFound(environment, name, number)
	}
	return source, nil
}

// gone is the error for a version that there was.
func gone(environment, name string, number uint32) error {
	return &absence{fmt.Sprintf("version %d of secret %s in environment %s is not kept any more ([secrets] keep_versions); see purser secret versions -E %s %s", number, name, environment, environment, name)}
}

func (r record) before(newest version) (version, error) {
	var source version
	for _, v := range r.Versions {
		if !v.Deleted && v.Version < newest.Version {
			source = v
		}
	}
	if source.Version == 0 {
		return version{}, invalid("version", "there is none before the newest, %d", newest.Version)
	}
	return source, nil
}
