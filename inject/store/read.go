package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/purserd/purser/inject"
)

// Get returns a version of a secret, or the newest for 0. The error wraps
// [inject.ErrNotFound] when there is none, and is a [*DamageError] when there is
// and its file is not what was written. The newest of a contested secret is a
// [*ConflictError].
func (s *Store) Get(ctx context.Context, environment, name string, number uint32) (*inject.Secret, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.closed {
		return nil, errClosed
	}
	r := s.manifest.record(environment, name)
	if number == 0 {
		if err := s.conflict(environment, name, r); err != nil {
			return nil, err
		}
	}
	v, ok := r.find(number)
	if !ok {
		return nil, notFound(environment, name, number)
	}
	data, err := s.load(environment, name, v)
	if err != nil {
		return nil, err
	}
	return &inject.Secret{Environment: environment, Name: name, Version: v.Version, Deleted: v.Deleted, Data: data}, nil
}

var errClosed = fmt.Errorf("secret store: %w", fs.ErrClosed)

// absence is inject.ErrNotFound in words for who named what is not there.
type absence struct{ text string }

func (a *absence) Error() string { return a.text }
func (a *absence) Unwrap() error { return inject.ErrNotFound }

func notFound(environment, name string, number uint32) error {
	if number == 0 {
		return &absence{fmt.Sprintf("no secret %s in environment %s; see purser secret list -A", name, environment)}
	}
	return &absence{fmt.Sprintf("no version %d of secret %s in environment %s; see purser secret versions -E %s %s", number, name, environment, environment, name)}
}

// load opens one version and checks it against the manifest. The caller holds mu or
// writing, so that the file stays.
func (s *Store) load(environment, name string, v version) (map[string]inject.Value, error) {
	sealed, err := s.readVersion(environment, name, v)
	if err != nil {
		return nil, err
	}
	plain, err := unseal(sealed, s.keys.Identity())
	if err != nil {
		return nil, s.damaged(environment, name, v, "age cannot open it: %v", err)
	}
	defer clear(plain)
	c, err := decodeContents(plain)
	if err != nil {
		return nil, s.damaged(environment, name, v, "%v", err)
	}
	defer c.wipe()
	if c.Environment != environment || c.Name != name || c.Version != v.Version {
		return nil, s.damaged(environment, name, v, "it holds version %d of secret %q in environment %q", c.Version, c.Name, c.Environment)
	}
	return c.values(), nil
}

// readVersion returns what was written to a version's file. Where that is not what is in it,
// the journal may have it yet: no checkpoint could mend the file, as the disk is full, say.
func (s *Store) readVersion(environment, name string, v version) ([]byte, error) {
	sealed, err := readAtMost(s.versionPath(environment, name, v.Version), v.Size+1)
	if err == nil && v.is(sealed) {
		return sealed, nil
	}
	if file, journaled := s.unsynced[place{environment, name, v.Version}]; journaled {
		return file.sealed, nil
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, s.damaged(environment, name, v, "it is missing")
	case err != nil:
		return nil, fmt.Errorf("reading version %d of secret %q in environment %q: %w", v.Version, name, environment, err)
	}
	return nil, s.damaged(environment, name, v, "it is not the file that was written: swapped, put back to an earlier state, or changed")
}

func (s *Store) damaged(environment, name string, v version, format string, args ...any) error {
	return &DamageError{
		Path: s.versionPath(environment, name, v.Version), Environment: environment, Name: name, Version: v.Version,
		Reason: fmt.Sprintf(format, args...),
	}
}

// readAtMost keeps a file that has grown from being read whole.
func readAtMost(path string, limit int64) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return io.ReadAll(io.LimitReader(file, limit))
}

// Verify opens every version and returns all damage, joined.
func (s *Store) Verify(ctx context.Context) error {
	var problems []error
	for _, info := range s.List("") {
		for _, v := range info.Versions {
			_, err := s.Get(ctx, info.Environment, info.Name, v.Version)
			if ctx.Err() != nil {
				return ctx.Err()
			}
			// A version deleted since it was listed is no damage.
			if err != nil && !errors.Is(err, inject.ErrNotFound) {
				problems = append(problems, err)
			}
		}
	}
	return errors.Join(problems...)
}
