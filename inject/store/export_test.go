package store

import (
	"errors"
	"fmt"
	"os"
)

// Kill ends the use of a store as the death of the process does.
func (s *Store) Kill() {
	_ = s.unlock()
	s.closed = true
}

// Journal is the path of the journal in use.
func (s *Store) Journal() string { return s.journal.path }

// CutPower ends the use of a store as a loss of power does that keeps nothing but what was
// synced: damage is what becomes of files that were not.
func (s *Store) CutPower(damage func(path string)) {
	for at := range s.unsynced {
		if path := s.versionPath(at.environment, at.name, at.number); exists(path) {
			damage(path)
		}
	}
	s.Kill()
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// AddLine adds a line to the journal that has its MAC, whatever is in it.
func (s *Store) AddLine(body string) error {
	j := s.journal
	mac := j.mac([]byte(body))
	file, err := j.open()
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(file, "%x %s\n", mac, body)
	return errors.Join(err, file.Close())
}

// Unsynced is how many files of versions may not be on disk.
func (s *Store) Unsynced() int { return len(s.unsynced) }
