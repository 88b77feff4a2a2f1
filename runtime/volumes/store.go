package volumes

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// ErrNotFound tells that there is no volume of that name.
var ErrNotFound = errors.New("no such volume")

var namePattern = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)

const (
	incoming = ".new-"
	outgoing = ".removed-"
)

// DefaultMode is that of a volume's directory unless one is asked for.
const DefaultMode = 0o755

// Store keeps the volumes of a node. Its methods may be called by many
// goroutines. No other process may change its directory.
type Store struct {
	dir string
	// leftovers are what earlier processes had begun and not finished.
	leftovers []string

	// changing is held while a volume comes or goes.
	changing sync.Mutex
}

// Info tells about a volume.
type Info struct {
	Environment, Name string
	// Created is zero where the file system does not tell.
	Created  time.Time
	UID, GID uint32
	// Mode is the permissions of its directory, as chmod(2) takes them.
	Mode uint32
}

// Owner is whom a volume's directory belongs to, and its permissions.
type Owner struct {
	UID, GID uint32
	// Mode is as chmod(2) takes it.
	Mode uint32
}

// Open opens the volumes in a directory, which is made if it is not there.
func Open(dir string) (*Store, error) {
	s := &Store{dir: dir}
	if err := makeDir(dir); err != nil {
		return nil, fmt.Errorf("making the directory of volumes: %w", err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("looking for volumes: %w", err)
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), incoming) || strings.HasPrefix(e.Name(), outgoing) {
			s.leftovers = append(s.leftovers, filepath.Join(dir, e.Name()))
		}
	}
	return s, nil
}

// Sweep destroys what earlier processes had begun and not finished, until ctx ends.
func (s *Store) Sweep(ctx context.Context) error {
	var problems []error
	for _, path := range s.leftovers {
		if ctx.Err() != nil {
			break
		}
		if err := removeAll(path); err != nil {
			problems = append(problems, fmt.Errorf("removing what is left of a volume: %w", err))
		}
	}
	return errors.Join(problems...)
}

// Create makes an empty volume. One that is there is left as it is; created tells
// which it was.
func (s *Store) Create(environment, name string, o Owner) (info Info, created bool, err error) {
	path, err := s.path(environment, name)
	if err != nil {
		return Info{}, false, err
	}
	s.changing.Lock()
	defer s.changing.Unlock()
	if info, err := s.Get(environment, name); !errors.Is(err, ErrNotFound) {
		return info, false, err
	}
	if err := s.make(path, o); err != nil {
		return Info{}, false, fmt.Errorf("making volume %s in environment %s: %w", name, environment, err)
	}
	info, err = s.Get(environment, name)
	return info, true, err
}

// make makes a directory elsewhere and gives it its name when all is right.
func (s *Store) make(path string, o Owner) error {
	if err := makeDir(filepath.Dir(path)); err != nil {
		return err
	}
	temp, err := os.MkdirTemp(s.dir, incoming)
	if err != nil {
		return err
	}
	// After chown, which takes set-ID bits away; as given, whatever the umask.
	err = os.Chown(temp, int(o.UID), int(o.GID))
	if err == nil {
		err = unix.Chmod(temp, o.Mode)
	}
	if err == nil {
		err = syncDir(temp)
	}
	if err == nil {
		err = os.Rename(temp, path)
	}
	if err != nil {
		return errors.Join(err, os.RemoveAll(temp))
	}
	return syncDir(filepath.Dir(path))
}

// Get tells about a volume. It wraps [ErrNotFound] when there is none.
func (s *Store) Get(environment, name string) (Info, error) {
	path, err := s.path(environment, name)
	if err != nil {
		return Info{}, err
	}
	var st unix.Statx_t
	err = unix.Statx(unix.AT_FDCWD, path, unix.AT_SYMLINK_NOFOLLOW, unix.STATX_BASIC_STATS|unix.STATX_BTIME, &st)
	switch {
	case errors.Is(err, fs.ErrNotExist), err == nil && st.Mode&unix.S_IFMT != unix.S_IFDIR:
		return Info{}, notFound(environment, name)
	case err != nil:
		return Info{}, fmt.Errorf("looking at volume %s in environment %s: %w", name, environment, err)
	}
	info := Info{Environment: environment, Name: name, UID: st.Uid, GID: st.Gid, Mode: uint32(st.Mode) & 0o7777}
	if st.Mask&unix.STATX_BTIME != 0 {
		info.Created = time.Unix(st.Btime.Sec, int64(st.Btime.Nsec))
	}
	return info, nil
}

// Path is the directory of a volume. It wraps [ErrNotFound] when there is none.
func (s *Store) Path(environment, name string) (string, error) {
	if _, err := s.Get(environment, name); err != nil {
		return "", err
	}
	return s.path(environment, name)
}

// List returns the volumes of an environment, of all when it is empty, in order
// of environment and name.
func (s *Store) List(environment string) ([]Info, error) {
	environments := []string{environment}
	if environment == "" {
		var err error
		if environments, err = names(s.dir); err != nil {
			return nil, fmt.Errorf("listing volumes: %w", err)
		}
	}
	var all []Info
	for _, e := range environments {
		if !namePattern.MatchString(e) {
			continue
		}
		found, err := names(filepath.Join(s.dir, e))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("listing the volumes of environment %s: %w", e, err)
		}
		for _, name := range found {
			info, err := s.Get(e, name)
			if errors.Is(err, ErrNotFound) {
				continue // removed meanwhile
			}
			if err != nil {
				return nil, err
			}
			all = append(all, info)
		}
	}
	return all, nil
}

// Remove takes a volume away: from then on there is none. The caller sees to it
// that nothing uses it, and calls destroy for what was in it, which may take
// long. What that leaves, the next sweep destroys.
func (s *Store) Remove(environment, name string) (destroy func() error, err error) {
	trash, err := s.takeAway(environment, name)
	if err != nil {
		return nil, err
	}
	return func() error {
		if err := removeAll(trash); err != nil {
			return fmt.Errorf("volume %s in environment %s is removed, but not all of it could be destroyed; it is tried again when the agent starts: %w", name, environment, err)
		}
		return nil
	}, nil
}

// takeAway takes a volume's name from it, and returns where it is then.
func (s *Store) takeAway(environment, name string) (string, error) {
	path, err := s.path(environment, name)
	if err != nil {
		return "", err
	}
	s.changing.Lock()
	defer s.changing.Unlock()
	if _, err := s.Get(environment, name); err != nil {
		return "", err
	}
	trash, err := os.MkdirTemp(s.dir, outgoing)
	if err == nil {
		err = os.Rename(path, filepath.Join(trash, name))
	}
	if err != nil {
		return "", errors.Join(fmt.Errorf("removing volume %s in environment %s: %w", name, environment, err), os.RemoveAll(trash))
	}
	// Stays if others are in it.
	_ = os.Remove(filepath.Dir(path))
	return trash, syncDir(s.dir)
}

// path is where a volume is, if it is. Names are checked here too: they become
// parts of paths.
func (s *Store) path(environment, name string) (string, error) {
	if !namePattern.MatchString(environment) || !namePattern.MatchString(name) {
		return "", notFound(environment, name)
	}
	return filepath.Join(s.dir, environment, name), nil
}

func notFound(environment, name string) error {
	return fmt.Errorf("volume %s in environment %s: %w", name, environment, ErrNotFound)
}

// names are the directories in dir that have proper names.
func names(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var found []string
	for _, e := range entries {
		if e.IsDir() && namePattern.MatchString(e.Name()) {
			found = append(found, e.Name())
		}
	}
	return found, nil
}

// makeDir makes a directory for purser alone, durably.
func makeDir(dir string) error {
	err := os.Mkdir(dir, 0o700)
	if errors.Is(err, syscall.EEXIST) {
		return nil
	}
	if err != nil {
		return err
	}
	return syncDir(filepath.Dir(dir))
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
