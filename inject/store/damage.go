package store

import "fmt"

// DamageError says that something in the store is missing, was swapped for
// something else, put back to an earlier state, or changed. It is never
// inject.ErrNotFound: what is damaged exists.
type DamageError struct {
	// Path of the file.
	Path string
	// Environment, Name and Version of the secret; empty for the manifest.
	Environment string
	Name        string
	Version     uint32
	// Reason in words.
	Reason string
}

// Error names the file, and the secret when it is one's.
func (e *DamageError) Error() string {
	if e.Name == "" {
		return fmt.Sprintf("manifest %s is damaged: %s", e.Path, e.Reason)
	}
	return fmt.Sprintf("version %d of secret %s in environment %s is damaged: file %s: %s",
		e.Version, e.Name, e.Environment, e.Path, e.Reason)
}
