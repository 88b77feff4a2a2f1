package logs

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
)

// Store is a directory of logs.
type Store struct {
	dir string

	mu      sync.Mutex
	writers map[string]*Writer
}

// Open returns the store in dir, making the directory when it is not there.
// Only root and the owner can read it.
func Open(dir string) (*Store, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("making the log directory: %w", err)
	}
	return &Store{dir: dir, writers: make(map[string]*Writer)}, nil
}

// Writer opens the log of an instance for appending; there may be one at a
// time. A record that an earlier writer left unfinished is removed.
func (s *Store) Writer(instance string) (*Writer, error) {
	path, err := s.path(instance)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.writers[instance] != nil {
		return nil, fmt.Errorf("the log of %s is being written already", instance)
	}
	w, err := openWriter(path)
	if err != nil {
		return nil, fmt.Errorf("opening the log of %s: %w", instance, err)
	}
	w.closed = func() { s.forget(instance) }
	s.writers[instance] = w
	return w, nil
}

// Remove deletes the log of an instance. One that is not there is no error. Its
// writer, if there is one, writes on into the void.
func (s *Store) Remove(instance string) error {
	path, err := s.path(instance)
	if err != nil {
		return err
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("removing the log of %s: %w", instance, err)
	}
	return nil
}

// Instances returns the instances that there are logs of, in no order.
func (s *Store) Instances() ([]string, error) {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return nil, fmt.Errorf("listing the logs: %w", err)
	}
	var names []string
	for _, e := range entries {
		if name, ok := strings.CutSuffix(e.Name(), suffix); ok {
			names = append(names, name)
		}
	}
	return names, nil
}

const suffix = ".log"

func (s *Store) path(instance string) (string, error) {
	if instance == "" || strings.ContainsAny(instance, "/\x00") || strings.HasPrefix(instance, ".") {
		return "", fmt.Errorf("%q is no instance", instance)
	}
	return filepath.Join(s.dir, instance+suffix), nil
}

func (s *Store) forget(instance string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.writers, instance)
}

// writer returns the open writer of an instance, or nil.
func (s *Store) writer(instance string) *Writer {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.writers[instance]
}
