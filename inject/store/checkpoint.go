package store

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/purserd/purser/failpoint"
	"github.com/purserd/purser/inject/internal/durable"
)

// place is where a version is.
type place struct {
	environment, name string
	number            uint32
}

// unsynced is a version whose file may not be on disk, or not as it was written.
type unsynced struct {
	sealed    []byte // what is in the file; the journal has it, too
	unwritten bool   // there is no file yet
	failed    bool   // a sync has failed, after which no other one tells anything
}

// mostUnsynced is how many a checkpoint may have to sync, which a change has to wait for.
const mostUnsynced = 200

// checkpoint has a manifest take the place of the one before and of its journal, once the
// files of all versions in it are durable. With an error, replaced tells whether it is in
// place and may not survive a loss of power.
func (s *Store) checkpoint(m manifest) (replaced bool, err error) {
	if err := s.syncVersions(m); err != nil {
		s.journal.doubtful = true
		return false, err
	}
	data, mac, err := encodeManifest(m, s.keys)
	if err == nil {
		replaced, err = writeFile(s.manifestPath(), data)
	}
	if !replaced {
		s.journal.doubtful = true
		return false, err
	}
	s.journal = s.journalOf(m.Sequence, mac)
	if err != nil {
		s.journal.doubtful = true // and the one before may be needed yet
		return true, err
	}
	failpoint.Here("secret.checkpointed")
	s.setUnsynced(func() { clear(s.unsynced) })
	s.removeJournals()
	return true, nil
}

// syncVersions makes the files durable that are not, and their names.
func (s *Store) syncVersions(m manifest) error {
	dirs := map[string]bool{}
	for at, file := range s.unsynced {
		v, kept := m.record(at.environment, at.name).find(at.number)
		if !kept {
			continue
		}
		path := s.versionPath(at.environment, at.name, at.number)
		if err := s.syncVersion(at, v, path, file); err != nil {
			return fmt.Errorf("syncing version %d of secret %q in environment %q: %w", at.number, at.name, at.environment, err)
		}
		dirs[filepath.Dir(path)] = true
	}
	for dir := range dirs {
		if err := durable.Sync(dir); err != nil {
			return err
		}
	}
	return nil
}

// syncVersion also mends a file that is not what was written: the machine has lost its power
// before it was on disk, say.
func (s *Store) syncVersion(at place, v version, path string, file unsynced) error {
	found, err := readAtMost(path, v.Size+1)
	if err == nil && v.is(found) && !file.failed && syncFile(path) == nil {
		return nil
	}
	s.setUnsynced(func() { s.unsynced[at] = unsynced{sealed: file.sealed, failed: true} })
	if err := durable.MakeDirs(filepath.Dir(path)); err != nil {
		return err
	}
	_, err = writeFile(path, file.sealed)
	return err
}

// setUnsynced has the unsynced versions changed. The caller holds writing, and not mu.
func (s *Store) setUnsynced(change func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change()
}

func syncFile(path string) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(file.Sync(), file.Close())
}

// is tells whether a file is the version's.
func (v version) is(sealed []byte) bool {
	sum := sha256.Sum256(sealed)
	return hex.EncodeToString(sum[:]) == v.SHA256
}

// dropJournal has a manifest take the place of the journal, if there is anything in it.
func (s *Store) dropJournal() error {
	if !s.journal.inUse() {
		return nil
	}
	_, err := s.checkpoint(s.manifest)
	return err
}

// removeJournals removes those that the manifest has taken the place of, once it is sure
// that it has: while this one is doubtful it may be the manifest before that is on disk.
func (s *Store) removeJournals() {
	stale, _ := s.journals()
	if s.journal.inUse() {
		stale = slices.DeleteFunc(stale, func(path string) bool { return path == s.journal.path })
	}
	if len(stale) == 0 || s.journal.doubtful || durable.Sync(s.dir) != nil {
		return
	}
	for _, path := range stale {
		_ = os.Remove(path)
	}
}

// journals are the paths of all that are there.
func (s *Store) journals() ([]string, error) {
	entries, err := os.ReadDir(s.dir)
	var paths []string
	for _, entry := range entries {
		if journalPattern.MatchString(entry.Name()) {
			paths = append(paths, filepath.Join(s.dir, entry.Name()))
		}
	}
	return paths, err
}

// replay brings the manifest up to date with its journal, if there is one.
func (s *Store) replay() (found bool, err error) {
	return s.journal.replay(func(c change) error {
		if c.Sequence != s.manifest.Sequence+1 {
			return fmt.Errorf("it goes on from change %d to %d", s.manifest.Sequence, c.Sequence)
		}
		r := c.apply(s.manifest.record(c.Environment, c.Name))
		if err := checkRecord(c.Environment, c.Name, r); err != nil {
			return err
		}
		s.manifest = s.manifest.with(c.Environment, c.Name, r)
		if at, is := c.version(); is {
			s.unsynced[at] = unsynced{sealed: c.Sealed}
		}
		return nil
	})
}
