package dir

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/purserd/purser/inject"
	"github.com/purserd/purser/inject/source"
)

// AllEnvironments as [Options].Environment makes each directory an environment.
const AllEnvironments = "*"

// Options say what is where.
type Options struct {
	// Path of the directory. It does not have to be there yet.
	Path string
	// Environment of all secrets in it, or [AllEnvironments].
	Environment string
	// Secret, unless empty, is the one secret that the whole directory is.
	Secret string
	// Prefix, unless empty, leaves alone the secrets whose names do not begin so.
	Prefix string
	// Rename gives keys to names of files, and to names in files with all keys. Others are
	// keys as they are, with _ for what a key cannot have.
	Rename map[string]string
	// Ignore are entries of the directory, and files of its secrets, to leave alone.
	Ignore []string
	// Polling, unless nil, is told why changes have to be looked for every few seconds
	// instead of being told by the kernel.
	Polling func(why error)
}

// Dir is a directory of secrets. It holds nothing open.
type Dir struct {
	Options
	naming  naming
	homes   *homes
	inotify func() (notifier, error)
	network func(path string) (kind string, ok bool)
	// wait lets time pass while a secret comes to rest.
	wait func(ctx context.Context, d time.Duration) error
}

var _ source.Source = (*Dir)(nil)

// New returns the source without looking at it.
func New(options Options) *Dir {
	return &Dir{Options: options, naming: newNaming(options), homes: &homes{of: map[string]home{}}, inotify: newInotify, network: network, wait: sleep}
}

// Get implements [source.Source].
func (d *Dir) Get(ctx context.Context, name source.Name, unless source.Revision) (source.Content, error) {
	var outdated *source.Content
	var last error
	for range tries {
		if err := ctx.Err(); err != nil {
			return source.Content{}, err
		}
		e, err := d.find(name)
		if err != nil {
			return source.Content{}, err
		}
		g, err := e.try(ctx, unless)
		switch {
		case err == nil && !g.outdated:
			return g.Content, nil
		case err == nil:
			outdated = &g.Content
		case !errors.Is(err, errAgain):
			return source.Content{}, fmt.Errorf("%s: %w", name, err)
		default:
			last = fmt.Errorf("%s: %w", name, err)
		}
		if err := d.wait(ctx, settle); err != nil {
			return source.Content{}, err
		}
	}
	if outdated != nil {
		return *outdated, nil
	}
	return source.Content{}, last
}

// find returns the entry that a secret is.
func (d *Dir) find(name source.Name) (entry, error) {
	if !d.has(name) {
		return entry{}, fmt.Errorf("%s: %w", name, inject.ErrNotFound)
	}
	var found []entry
	for _, c := range d.candidates(name) {
		ok, err := c.there()
		if err != nil {
			return entry{}, d.unreadable(err)
		}
		if ok && !slices.Contains(d.Ignore, filepath.Base(c.path)) {
			found = append(found, c)
		}
	}
	switch len(found) {
	case 1:
		d.homes.found(d.environmentDir(name.Environment))
		return found[0], found[0].checkName()
	case 0:
		return entry{}, d.absent(name)
	default:
		return entry{}, fmt.Errorf("%s is there twice, as %s and as %s: remove one of them", name, found[0].path, found[1].path)
	}
}

// has says whether the source would have a secret of that name.
func (d *Dir) has(name source.Name) bool {
	switch {
	case d.Environment != AllEnvironments && name.Environment != d.Environment:
		return false
	case d.Secret != "":
		return name.Secret == d.Secret
	default:
		return strings.HasPrefix(name.Secret, d.Prefix) && isEntry(name.Secret) && (isEntry(name.Environment) || d.Environment != AllEnvironments)
	}
}

func (d *Dir) environmentDir(environment string) string {
	if d.Environment == AllEnvironments {
		return filepath.Join(d.Path, environment)
	}
	return d.Path
}

// absent is the error for a secret that was not found: it is absent only where its
// directory is there.
func (d *Dir) absent(name source.Name) error {
	if err := d.readable(); err != nil {
		return err
	}
	path := d.environmentDir(name.Environment)
	if _, err := os.ReadDir(path); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if d.Secret != "" { // has come in between
		return fmt.Errorf("%s: %s was missing for a moment", name, path)
	}
	if err := d.homes.bare(path); err != nil {
		return d.down(err)
	}
	return fmt.Errorf("%s: nothing in %s: %w", name, path, inject.ErrNotFound)
}

// down is an error that keeps secrets from being read: all of them, or those of one of
// the environments.
func (d *Dir) down(err error) error {
	if d.Environment == AllEnvironments {
		return err
	}
	return fmt.Errorf("%w: %w", source.ErrUnavailable, err)
}

// readable fails when the directory itself cannot be read.
func (d *Dir) readable() error {
	f, err := os.Open(d.Path)
	if err != nil {
		return fmt.Errorf("%w: %w", source.ErrUnavailable, err)
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil {
		return fmt.Errorf("%w: %w", source.ErrUnavailable, err)
	} else if !info.IsDir() {
		return fmt.Errorf("%w: %s is no directory", source.ErrUnavailable, d.Path)
	}
	return nil
}

// unreadable is an error of something in the directory, or of the whole if that cannot
// be read either.
func (d *Dir) unreadable(err error) error {
	if whole := d.readable(); whole != nil {
		return whole
	}
	return err
}

// List implements [source.Source].
func (d *Dir) List(ctx context.Context) ([]source.Name, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := d.readable(); err != nil {
		return nil, err
	}
	if d.Secret != "" {
		return []source.Name{{Environment: d.Environment, Secret: d.Secret}}, nil
	}
	environments, err := d.environments()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", source.ErrUnavailable, err)
	}
	var names []source.Name
	for _, environment := range environments {
		in, err := d.listIn(environment)
		if err == nil && len(in) == 0 {
			err = d.homes.bare(d.environmentDir(environment))
		}
		if err != nil && d.Environment != AllEnvironments {
			return nil, d.down(err)
		}
		// What is in one that cannot be read is not listed, and Get says why.
		names = append(names, in...)
	}
	return names, nil
}

// environments are those that there are directories of.
func (d *Dir) environments() ([]string, error) {
	if d.Environment != AllEnvironments {
		return []string{d.Environment}, nil
	}
	entries, err := os.ReadDir(d.Path)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		if leftAlone(e.Name()) || slices.Contains(d.Ignore, e.Name()) {
			continue
		}
		if info, err := os.Stat(filepath.Join(d.Path, e.Name())); err == nil && info.IsDir() {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

// listIn returns the secrets of an environment, sorted, each once.
func (d *Dir) listIn(environment string) ([]source.Name, error) {
	path := d.environmentDir(environment)
	entries, err := os.ReadDir(path)
	if err != nil {
		return nil, err
	}
	var names []source.Name
	for _, e := range entries {
		if leftAlone(e.Name()) || slices.Contains(d.Ignore, e.Name()) {
			continue
		}
		name := source.Name{Environment: environment, Secret: e.Name()}
		if !isDirectory(filepath.Join(path, e.Name()), e) {
			name.Secret = stem(e.Name())
		}
		if d.has(name) {
			names = append(names, name)
		}
	}
	slices.SortFunc(names, source.Name.Compare)
	return slices.Compact(names), nil
}

// isDirectory follows links.
func isDirectory(path string, e fs.DirEntry) bool {
	if e.Type()&fs.ModeSymlink == 0 {
		return e.IsDir()
	}
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

func isAbsent(err error) bool { return errors.Is(err, fs.ErrNotExist) }
