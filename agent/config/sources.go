package config

import (
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/purserd/purser/api/secretfile"
)

// Source is a place that secrets come from besides the embedded store.
type Source struct {
	// Type is what kind of place it is: dir, a directory.
	Type string `toml:"type"`
	// Path of the directory.
	Path string `toml:"path"`
	// Environment that all its secrets are in; "*": each directory in Path is one.
	Environment string `toml:"environment"`
	// Secret, unless empty, is the one secret that all of it is.
	Secret string `toml:"secret"`
	// Prefix, unless empty, is how the names of those secrets begin that are taken.
	Prefix string `toml:"prefix"`
	// Rename gives keys to names of files, and to names in files with all keys.
	Rename map[string]string `toml:"rename"`
	// Poll is how often it is looked for changes that nothing told of; a minute when zero.
	Poll Duration `toml:"poll"`
}

const (
	// SourceDir is the type of sources that are directories.
	SourceDir = "dir"
	// EveryEnvironment as a source's environment makes each directory one.
	EveryEnvironment = "*"
	// storeSource is what the embedded store is called among the sources.
	storeSource = "store"
)

func (c *Config) checkSources() error {
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(c.Sources)) {
		if !namePattern.MatchString(name) || name == storeSource {
			errs = append(errs, fmt.Errorf("sources: %q is not a name (letters, digits, '.', '_', '-'; not %s)", name, storeSource))
			continue
		}
		for _, err := range c.checkSource(c.Sources[name]) {
			errs = append(errs, fmt.Errorf("sources.%s.%w", name, err))
		}
	}
	return errors.Join(errs...)
}

// checkSource returns errors that begin with the key.
func (c *Config) checkSource(s Source) []error {
	if s.Type != SourceDir {
		return []error{fmt.Errorf("type: %q is not a type of source; there is dir, a directory", s.Type)}
	}
	errs := slices.Concat(c.checkSourcePath(s), s.checkSecrets(), s.checkRename())
	if p := time.Duration(s.Poll); p > 0 && p < time.Second {
		errs = append(errs, fmt.Errorf("poll: %s is less than a second", p))
	}
	return errs
}

// checkSecrets checks which secrets are to come from a source.
func (s Source) checkSecrets() []error {
	var errs []error
	switch {
	case s.Environment == "":
		errs = append(errs, errors.New(`environment: missing; give the environment of its secrets, or "*" if each directory in path is one`))
	case s.Environment != EveryEnvironment && !namePattern.MatchString(s.Environment):
		errs = append(errs, fmt.Errorf("environment: %q is not a name (letters, digits, '.', '_', '-')", s.Environment))
	}
	switch {
	case s.Secret == "":
	case !namePattern.MatchString(s.Secret):
		errs = append(errs, fmt.Errorf("secret: %q is not a name (letters, digits, '.', '_', '-')", s.Secret))
	case s.Environment == EveryEnvironment:
		errs = append(errs, fmt.Errorf("secret: %q is one secret, which cannot be in every environment", s.Secret))
	case s.Prefix != "":
		errs = append(errs, fmt.Errorf("prefix: there is one secret, %q", s.Secret))
	}
	if s.Prefix != "" && !namePattern.MatchString(s.Prefix) {
		errs = append(errs, fmt.Errorf("prefix: %q is not the beginning of a name (letters, digits, '.', '_', '-')", s.Prefix))
	}
	return errs
}

// checkRename wants a key of its own for each name of a file.
func (s Source) checkRename() []error {
	var errs []error
	names := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(s.Rename)) {
		key := s.Rename[name]
		other, twice := names[key]
		switch {
		case name == "" || name == "." || strings.HasPrefix(name, "..") || strings.Contains(name, "/"):
			errs = append(errs, fmt.Errorf("rename: %q is not the name of a file", name))
		case !secretfile.IsKey(key):
			errs = append(errs, fmt.Errorf("rename.%q: %q is not a key: %s", name, key, secretfile.KeyRule))
		case twice:
			errs = append(errs, fmt.Errorf("rename.%q: %s is the key of %q already", name, key, other))
		}
		names[key] = name
	}
	return errs
}

// checkSourcePath keeps purser's own files, keys above all, from becoming secrets.
func (c *Config) checkSourcePath(s Source) []error {
	if !filepath.IsAbs(s.Path) {
		return []error{fmt.Errorf("path: %q is not an absolute path", s.Path)}
	}
	var errs []error
	for _, own := range []struct{ key, path string }{{"state_dir", c.StateDir}, {"run_dir", c.RunDir}, {"secrets.identity", c.Secrets.Identity}} {
		if inside(own.path, s.Path) || inside(s.Path, own.path) {
			errs = append(errs, fmt.Errorf("path: %q and %s, %q, lie one in the other", s.Path, own.key, own.path))
		}
	}
	return errs
}

// inside says whether a path is another, or lies in it.
func inside(path, dir string) bool {
	rest, err := filepath.Rel(dir, path)
	return err == nil && rest != ".." && !strings.HasPrefix(rest, "../")
}
