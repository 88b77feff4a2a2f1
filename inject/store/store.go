package store

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"filippo.io/age"
	"golang.org/x/sys/unix"

	"github.com/purserd/purser/inject"
	"github.com/purserd/purser/inject/internal/durable"
	"github.com/purserd/purser/inject/keyring"
	"github.com/purserd/purser/inject/source"
)

// ErrLocked is returned, wrapped, by [Open] when another process has the store open.
var ErrLocked = errors.New("another process has it open")

// Options of [Open]. The zero value is good.
type Options struct {
	// Recipients are further age X25519 recipients ("age1…") that new versions are
	// sealed to, so that others can recover them.
	Recipients []string
	// MinSequence is the highest [Store.Sequence] that the caller has seen. A store
	// that is behind it was put back to an earlier state, and is not opened.
	MinSequence uint64
	// Apart is how long a change has to be after the one before for its version to have a
	// file at once, and not with the next [Store.WriteFiles] or checkpoint only. Until then
	// the journal has it.
	Apart time.Duration
}

// Store is an open store. It is safe for concurrent use.
type Store struct {
	dir        string
	keys       *keyring.Keyring
	recipients []age.Recipient
	lock       *os.File

	// writing serialises changes, disk writes included. It is taken before mu, and guards
	// what follows it.
	writing sync.Mutex
	journal *journal
	newest  opened    // of the secret that was last to be changed, for the next change
	changed time.Time // when a version was written last
	apart   time.Duration
	// mu guards what follows, and the files that the manifest names: a reader holds
	// it so that no version is removed under it. Nobody holds it for a disk sync.
	mu       sync.RWMutex
	manifest manifest // replaced, never changed
	unsynced map[place]unsynced
	closed   bool
	// contested are secrets that sources have which do not own them, with these sources.
	contested map[source.Name][]string

	watchers watchers
}

var _ inject.Inventory = (*Store)(nil)

// Open opens the store in dir, which it makes when there is none, and removes what a
// crashed write left there. The error is [ErrLocked] or a [*DamageError] in those
// cases.
func Open(dir string, keys *keyring.Keyring, options Options) (*Store, error) {
	s := &Store{dir: dir, keys: keys, apart: options.Apart, unsynced: map[place]unsynced{}, contested: map[source.Name][]string{}}
	if err := s.open(options); err != nil {
		return nil, fmt.Errorf("opening secret store %q: %w", dir, errors.Join(err, s.unlock()))
	}
	return s, nil
}

func (s *Store) open(options Options) error {
	if err := s.setRecipients(options.Recipients); err != nil {
		return err
	}
	if err := durable.MakeDirs(s.dir); err != nil {
		return err
	}
	if err := s.acquire(); err != nil {
		return err
	}
	journaled, err := s.read(options.MinSequence)
	if err != nil {
		return err
	}
	unknown, err := s.unknownVersions()
	if err != nil {
		return err
	}
	if journaled {
		_, _ = s.checkpoint(s.manifest) // or the next change does it
	}
	return s.removeLeftovers(unknown)
}

func (s *Store) setRecipients(further []string) error {
	s.recipients = []age.Recipient{s.keys.Recipient()}
	for _, text := range further {
		recipient, err := age.ParseX25519Recipient(text)
		if err != nil {
			return fmt.Errorf("recipient %q is not an age X25519 recipient (age1…): %w", text, err)
		}
		s.recipients = append(s.recipients, recipient)
	}
	return nil
}

// acquire takes the lock, which the kernel releases when the process dies.
func (s *Store) acquire() error {
	dir, err := os.Open(s.dir)
	if err != nil {
		return err
	}
	s.lock = dir
	switch err := unix.Flock(int(dir.Fd()), unix.LOCK_EX|unix.LOCK_NB); {
	case errors.Is(err, unix.EWOULDBLOCK):
		return ErrLocked
	case err != nil:
		return fmt.Errorf("locking: %w", err)
	}
	return nil
}

// unlock releases the lock explicitly: a child that is just being forked still has
// the file open for a moment after it is closed here.
func (s *Store) unlock() error {
	if s.lock == nil {
		return nil
	}
	return errors.Join(unix.Flock(int(s.lock.Fd()), unix.LOCK_UN), s.lock.Close())
}

// Close waits for calls under way and lets another process open the store. Every
// later call fails with [fs.ErrClosed]. An error is no loss: the journal has it all.
func (s *Store) Close() error {
	s.writing.Lock()
	defer s.writing.Unlock()
	if !s.end() {
		return nil
	}
	return errors.Join(s.dropJournal(), s.unlock())
}

// end waits for readers, and is false when the store was closed before. The caller holds
// writing.
func (s *Store) end() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	open := !s.closed
	s.closed, s.newest = true, opened{}
	return open
}

// Sequence goes up with every change of the store, and starts at 1. It takes part in
// the detection of a store put back to an earlier state; see [Options].
func (s *Store) Sequence() uint64 {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.manifest.Sequence
}

// read reads the manifest and its journal, if there is one, or writes the first manifest of
// a new store.
func (s *Store) read(minSequence uint64) (journaled bool, err error) {
	data, err := os.ReadFile(s.manifestPath())
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return false, s.firstManifest(minSequence)
	case err != nil:
		return false, err
	}
	m, mac, err := decodeManifest(data, s.keys)
	if err != nil {
		return false, &DamageError{Path: s.manifestPath(), Reason: err.Error()}
	}
	s.manifest, s.journal = m, s.journalOf(m.Sequence, mac)
	s.journal.doubtful = bytes.HasPrefix(data, []byte(firstManifestTitle))
	if journaled, err = s.replay(); err != nil {
		return false, err
	}
	if s.manifest.Sequence < minSequence {
		return false, s.rolledBack(s.manifest.Sequence, minSequence)
	}
	return journaled, nil
}

func (s *Store) firstManifest(minSequence uint64) error {
	files, err := s.versionFiles()
	journals, unlisted := s.journals()
	switch {
	case err != nil || unlisted != nil:
		return errors.Join(err, unlisted)
	case len(files) > 0:
		return &DamageError{Path: s.manifestPath(), Reason: fmt.Sprintf(
			"it is missing, but %d sealed versions are there, such as %s; restore it with them", len(files), files[0].path)}
	case len(journals) > 0:
		return &DamageError{Path: s.manifestPath(), Reason: fmt.Sprintf("it is missing, but its journal is there, %s; restore it with that", journals[0])}
	case minSequence > 0:
		return s.rolledBack(0, minSequence)
	}
	s.manifest = manifest{Recipient: s.keys.Recipient().String(), Sequence: 1}
	s.journal = s.journalOf(0, [sha256.Size]byte{})
	_, err = s.checkpoint(s.manifest)
	return err
}

func (s *Store) rolledBack(sequence, minSequence uint64) error {
	return &DamageError{Path: s.manifestPath(), Reason: fmt.Sprintf(
		"the store was put back to an earlier state: it is at change %d and has been at %d; restore its newest copy", sequence, minSequence)}
}

func (s *Store) manifestPath() string { return filepath.Join(s.dir, manifestName) }
