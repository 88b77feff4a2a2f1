package store

import (
	"maps"
	"slices"
	"time"

	"github.com/purserd/purser/inject"
)

// Info describes a secret, without its values.
type Info struct {
	Environment string
	Name        string
	// Version is the newest, which a new launch gets; 0 when the secret is deleted.
	Version uint32
	// Deleted says that the secret is kept only for workloads pinned to a version.
	Deleted bool
	Created time.Time
	// Source that the secret comes from; empty when it was set through the API.
	Source string
	// Contested is the conflict of a secret that another source has, too; nil for none.
	Contested *ConflictError
	// Updated is when the newest version was written.
	Updated time.Time
	// Versions, newest first.
	Versions []VersionInfo
}

// VersionInfo describes a version of a secret, without its values.
type VersionInfo struct {
	Version uint32
	Created time.Time
	// Keys, sorted.
	Keys []string
	// CopyOf is the version that a rollback took the content from; 0 otherwise.
	CopyOf uint32
	// Deleted versions are kept for the workloads pinned to them.
	Deleted bool
}

// Describe returns what there is to know about a secret. The error wraps
// inject.ErrNotFound when it has no version left.
func (s *Store) Describe(environment, name string) (Info, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	r := s.manifest.record(environment, name)
	if len(r.Versions) == 0 {
		return Info{}, notFound(environment, name, 0)
	}
	return s.info(environment, name, r), nil
}

// List returns the secrets of an environment, or of all for "", sorted by environment
// and name.
func (s *Store) List(environment string) []Info {
	s.mu.RLock()
	defer s.mu.RUnlock()
	var infos []Info
	for _, e := range sortedKeys(s.manifest.Environments) {
		if environment != "" && e != environment {
			continue
		}
		records := s.manifest.Environments[e]
		for _, name := range sortedKeys(records) {
			if r := records[name]; len(r.Versions) > 0 {
				infos = append(infos, s.info(e, name, r))
			}
		}
	}
	return infos
}

// Kept returns every version of an environment's secrets, deleted ones included,
// sorted by secret and number.
func (s *Store) Kept(environment string) []inject.Version {
	s.mu.RLock()
	defer s.mu.RUnlock()
	var versions []inject.Version
	records := s.manifest.Environments[environment]
	for _, name := range sortedKeys(records) {
		for _, v := range records[name].Versions {
			versions = append(versions, inject.Version{Secret: name, Number: v.Version})
		}
	}
	return versions
}

// Environments returns the names of those that hold a secret, sorted.
func (s *Store) Environments() []string {
	var names []string
	for _, info := range s.List("") {
		names = append(names, info.Environment)
	}
	return slices.Compact(names)
}

// info wants at least one version, and mu.
func (s *Store) info(environment, name string, r record) Info {
	info := r.info(environment, name)
	if conflict := s.conflict(environment, name, r); conflict != nil {
		info.Contested = conflict.(*ConflictError)
	}
	return info
}

// info wants at least one version.
func (r record) info(environment, name string) Info {
	newest, live := r.newest()
	info := Info{Environment: environment, Name: name, Version: newest.Version, Deleted: !live, Created: r.Created, Updated: newest.Created, Source: r.Source}
	if !live {
		info.Updated = r.Versions[len(r.Versions)-1].Created
	}
	for _, v := range slices.Backward(r.Versions) {
		info.Versions = append(info.Versions, VersionInfo{
			Version: v.Version, Created: v.Created, Keys: slices.Clone(v.Keys), CopyOf: v.CopyOf, Deleted: v.Deleted,
		})
	}
	return info
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
