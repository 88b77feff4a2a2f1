package store

import (
	"fmt"
	"path/filepath"
	"strings"
)

// DamageError says that something in the store is missing, was swapped for
// something else, put back to an earlier state, or changed. It is never
// inject.ErrNotFound: what is damaged exists.
type DamageError struct {
	// Path of the file.
	Path string
	// Environment, Name and Version of the secret; empty for the manifest and its journal.
	Environment string
	Name        string
	Version     uint32
	// Reason in words.
	Reason string
}

// Error names the file, and the secret when it is one's.
func (e *DamageError) Error() string {
	if e.Name == "" {
		what := "manifest"
		if strings.HasPrefix(filepath.Base(e.Path), journalPrefix) {
			what = "journal"
		}
		return fmt.Sprintf("%s %s is damaged: %s", what, e.Path, e.Reason)
	}
	return fmt.Sprintf("version %d of secret %s in environment %s is damaged: file %s: %s",
		e.Version, e.Name, e.Environment, e.Path, e.Reason)
}
