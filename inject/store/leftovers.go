package store

import (
	"fmt"
	"os"
	"path/filepath"
)

// removeLeftovers removes what a crash left: temporary files, versions that the manifest
// does not know yet or no longer, journals that it has taken the place of, and empty
// directories.
//
// That something cannot be removed is no reason to keep secrets from workloads: a
// leftover is never read, and the next write or Open meets it again.
func (s *Store) removeLeftovers(unknown []string) error {
	for _, path := range unknown {
		_ = os.Remove(path)
	}
	s.removeJournals()
	return s.removeTemporary()
}

// unknownVersions returns the files of versions that are not in the manifest. A
// crashed write leaves the secret's next version at most: a higher one, which no crash
// explains, proves that the manifest is older than the file, and is an error.
func (s *Store) unknownVersions() ([]string, error) {
	files, err := s.versionFiles()
	if err != nil {
		return nil, err
	}
	var unknown []string
	for _, file := range files {
		r := s.manifest.record(file.environment, file.name)
		if file.number > r.Next {
			return nil, &DamageError{Path: s.manifestPath(), Reason: fmt.Sprintf(
				"it was put back to an earlier state: version %d of secret %s in environment %s is there (%s), and its next was to be %d; restore the newest manifest",
				file.number, file.name, file.environment, file.path, r.Next)}
		}
		if _, known := r.find(file.number); !known {
			unknown = append(unknown, file.path)
		}
	}
	return unknown, nil
}

func (s *Store) removeTemporary() error {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		removeIfTemporary(filepath.Join(s.dir, entry.Name()))
	}
	err = s.eachFile(func(_, _, path string) { removeIfTemporary(path) })
	if err != nil {
		return err
	}
	return s.removeEmptyDirs()
}

func removeIfTemporary(path string) {
	if temporaryPattern.MatchString(filepath.Base(path)) {
		_ = os.Remove(path)
	}
}

func (s *Store) removeEmptyDirs() error {
	environments, err := namedDirs(s.dir)
	if err != nil {
		return err
	}
	for _, environment := range environments {
		names, err := namedDirs(filepath.Join(s.dir, environment))
		if err != nil {
			return err
		}
		for _, name := range names {
			s.removeDirIfEmpty(environment, name)
		}
		_ = os.Remove(filepath.Join(s.dir, environment))
	}
	return nil
}

// removeDirIfEmpty relies on the kernel, which removes no directory that holds
// anything.
func (s *Store) removeDirIfEmpty(environment, name string) {
	if os.Remove(s.secretDir(environment, name)) == nil {
		_ = os.Remove(filepath.Join(s.dir, environment))
	}
}
