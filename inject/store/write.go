package store

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"time"

	"github.com/purserd/purser/failpoint"
	"github.com/purserd/purser/inject"
	"github.com/purserd/purser/inject/internal/durable"
	"github.com/purserd/purser/inject/source"
)

// startChange takes the lock of changes; the caller calls done when it has made its
// own.
func (s *Store) startChange(ctx context.Context, environment, name string) (r record, done func(), err error) {
	s.writing.Lock()
	// Only changes write these two, so that holding writing is enough to read them.
	if s.closed {
		err = errClosed
	} else {
		err = ctx.Err()
	}
	if err != nil {
		s.writing.Unlock()
		return record{}, nil, err
	}
	return s.manifest.record(environment, name), s.writing.Unlock, nil
}

// add makes a version: first its file, then the change that knows it, and has what is in
// the file, so that the file itself need not be durable yet.
func (s *Store) add(environment, name string, r record, data map[string]inject.Value, copyOf uint32) (uint32, error) {
	v := version{Version: r.Next, Created: time.Now().UTC(), Keys: sortedKeys(data), CopyOf: copyOf}
	sealed, err := s.sealVersion(environment, name, v, data)
	if err != nil {
		return 0, err
	}
	sum := sha256.Sum256(sealed)
	v.Size, v.SHA256 = int64(len(sealed)), hex.EncodeToString(sum[:])
	if err := s.keep(place{environment, name, v.Version}, sealed); err != nil {
		return 0, err
	}
	failpoint.Here("secret.sealed")
	if _, live := r.newest(); !live {
		r.Created = v.Created
	}
	r.Next++
	r.Versions = append(slices.Clone(r.Versions), v)
	committed, err := s.commit(environment, name, r, sealed)
	if !committed {
		s.discard(environment, name, v.Version)
	}
	return v.Version, err
}

func (s *Store) sealVersion(environment, name string, v version, data map[string]inject.Value) ([]byte, error) {
	c := contents{Environment: environment, Name: name, Version: v.Version, Created: v.Created}
	c.fill(data)
	defer c.wipe()
	plain, err := c.encode()
	if err != nil {
		return nil, err
	}
	defer clear(plain)
	return seal(plain, s.recipients)
}

// keep keeps a version's file for the next checkpoint, and writes it, unless changes follow
// each other closely: most versions then do not last until [Store.WriteFiles].
func (s *Store) keep(at place, sealed []byte) error {
	now := time.Now()
	later := now.Sub(s.changed) < s.apart
	s.changed = now
	s.setUnsynced(func() { s.unsynced[at] = unsynced{sealed: sealed, unwritten: later} })
	if later {
		return nil
	}
	if err := s.writeVersion(at, sealed); err != nil {
		s.discard(at.environment, at.name, at.number)
		return err
	}
	return nil
}

// WriteFiles writes the files of versions that have come so closely that they have none.
func (s *Store) WriteFiles() error {
	s.writing.Lock()
	defer s.writing.Unlock()
	if s.closed {
		return errClosed
	}
	for at, file := range s.unsynced {
		if !file.unwritten {
			continue
		}
		if err := s.writeVersion(at, file.sealed); err != nil {
			return err
		}
		file.unwritten = false
		s.setUnsynced(func() { s.unsynced[at] = file })
	}
	return nil
}

func (s *Store) writeVersion(at place, sealed []byte) error {
	err := durable.MakeDirs(s.secretDir(at.environment, at.name))
	if err == nil {
		err = os.WriteFile(s.versionPath(at.environment, at.name, at.number), sealed, 0o600)
	}
	if err != nil {
		return fmt.Errorf("writing version %d of secret %q in environment %q: %w", at.number, at.name, at.environment, err)
	}
	return nil
}

// discard removes a version that did not come to be. A failure is no matter: the
// manifest does not know the file, and the next write or Open replaces or removes it.
func (s *Store) discard(environment, name string, number uint32) {
	s.setUnsynced(func() { delete(s.unsynced, place{environment, name, number}) })
	_ = os.Remove(s.versionPath(environment, name, number))
	s.removeDirIfEmpty(environment, name)
}

// commit replaces a record, on disk and then here, and removes the files of the versions
// that are no longer in it. Sealed is the file of the newest version if that is new. With
// an error, committed tells whether the change is made nevertheless.
func (s *Store) commit(environment, name string, r record, sealed []byte, obsolete ...uint32) (committed bool, err error) {
	next := s.manifest.with(environment, name, r)
	c := changeOf(s.manifest.record(environment, name), r)
	c.Sequence, c.Environment, c.Name, c.Sealed = next.Sequence, environment, name, sealed
	committed, err = s.write(next, c)
	switch {
	case !committed:
		return false, fmt.Errorf("writing to secret store %q: %w", s.dir, err)
	case err != nil:
		err = fmt.Errorf("the change is made, but may not survive a loss of power: writing to secret store %q: %w", s.dir, err)
	}
	failpoint.Here("secret.committed")
	// Told last, when who is told can read it.
	defer s.watchers.tell(source.Name{Environment: environment, Secret: name})
	s.mu.Lock()
	defer s.mu.Unlock()
	s.manifest = next
	return true, errors.Join(err, s.removeVersions(environment, name, obsolete))
}

// write makes a change durable, in the journal, or with the manifest that follows where
// that cannot be gone on with.
func (s *Store) write(next manifest, c change) (written bool, err error) {
	if !s.journal.full() && len(s.unsynced) < mostUnsynced {
		if written, err = s.journal.add(c); !s.journal.doubtful {
			return written, err
		}
	}
	replaced, failed := s.checkpoint(next)
	if failed == nil {
		return true, nil
	}
	return replaced || written, errors.Join(err, failed)
}

// removeVersions removes the files of versions that the manifest no longer names.
// The caller holds mu, so that nobody is reading one.
func (s *Store) removeVersions(environment, name string, numbers []uint32) error {
	if len(numbers) == 0 {
		return nil
	}
	var problems []error
	for _, number := range numbers {
		delete(s.unsynced, place{environment, name, number})
		err := os.Remove(s.versionPath(environment, name, number))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			problems = append(problems, fmt.Errorf("version %d is gone from the store, but its sealed file stays until the store is next opened: %w", number, err))
		}
	}
	s.removeDirIfEmpty(environment, name)
	return errors.Join(problems...)
}
