package dir

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/purserd/purser/api/secretfile"
	"github.com/purserd/purser/inject/source"
	"github.com/purserd/purser/inject/store"
)

// form is what an entry of the directory is.
type form int

const (
	directory form = iota // a file a key
	whole                 // one file, one key
	bundle                // one file with all keys
)

// bundles are the suffixes of files that have all keys of a secret.
var bundles = []string{".env", ".json", ".yaml", ".yml"}

// parse reads a file with all keys by its suffix.
func parse(path string, content []byte, names secretfile.Names) (map[string][]byte, error) {
	switch filepath.Ext(path) {
	case ".env":
		return secretfile.ParseDotenvAs(content, names)
	case ".json":
		return secretfile.ParseJSONAs(content, names)
	default:
		return secretfile.ParseYAMLAs(content, names)
	}
}

// entry is where a secret is.
type entry struct {
	name source.Name
	path string
	form form
	dir  *Dir
}

// candidates are the entries that a secret could be.
func (d *Dir) candidates(name source.Name) []entry {
	if d.Secret != "" {
		return []entry{{name, d.Path, directory, d}}
	}
	path := filepath.Join(d.environmentDir(name.Environment), name.Secret)
	all := []entry{{name, path, directory, d}}
	if stem(name.Secret) == name.Secret {
		all = append(all, entry{name, path, whole, d})
	}
	for _, suffix := range bundles {
		all = append(all, entry{name, path + suffix, bundle, d})
	}
	return all
}

// there says whether an entry is there and of its form. A link that leads nowhere is an
// error: something is to be there.
func (e entry) there() (bool, error) {
	if _, err := os.Lstat(e.path); isAbsent(err) {
		return false, nil
	}
	info, err := os.Stat(e.path)
	if err != nil {
		if _, again := os.Lstat(e.path); isAbsent(again) { // went in between
			return false, nil
		}
		return false, err
	}
	return info.IsDir() == (e.form == directory), nil
}

// stem is the secret's name of a file.
func stem(file string) string {
	suffix := filepath.Ext(file)
	if slices.Contains(bundles, suffix) && file != suffix {
		return strings.TrimSuffix(file, suffix)
	}
	return file
}

// leavings are how the names end of what editors, package managers and those who write
// files leave beside them.
var leavings = []string{
	"~", ".swp", ".swo", ".swx", ".tmp", ".temp", ".part", ".bak", ".orig", ".lock",
	".rpmnew", ".rpmsave", ".rpmorig", ".dpkg-new", ".dpkg-old", ".dpkg-dist", ".dpkg-tmp", ".ucf-new", ".ucf-old", ".ucf-dist",
}

// leftAlone says whether a file is none of a secret's: hidden, as the data directories of
// Kubernetes' volumes are, or left by some program.
func leftAlone(name string) bool {
	return name == "" || strings.HasPrefix(name, ".") || strings.HasPrefix(name, "#") ||
		name == "4913" || // vim tries with it whether it may write here
		name == "lost+found" ||
		slices.ContainsFunc(leavings, func(end string) bool { return strings.HasSuffix(name, end) })
}

// isEntry says whether a name can be that of an entry which is looked at.
func isEntry(name string) bool { return !leftAlone(name) && !strings.Contains(name, "/") }

// checkName refuses what cannot be the name of a secret.
func (e entry) checkName() error {
	for _, name := range []string{e.name.Environment, e.name.Secret} {
		if !store.ValidName(name) {
			return fmt.Errorf("%s: %q is no name: it has 1 to 64 letters, digits and ._- and begins with a letter or digit", e.path, name)
		}
	}
	return nil
}
