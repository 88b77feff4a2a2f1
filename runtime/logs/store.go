package logs

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Store is a directory of logs. Its methods may be called by many goroutines, and
// stores of several processes may share the directory.
type Store struct {
	dir     string
	watcher watcher
}

// About says whose output a log is.
type About struct {
	Environment string `json:"environment"`
	// Workload is the ID within the environment, of a function of App.
	Workload string `json:"workload"`
	App      string `json:"app"`
	// Created is when the instance was made.
	Created time.Time `json:"created"`
}

// Open returns the store in dir, making the directory when it is not there.
// Only root and the owner can read it.
func Open(dir string) (*Store, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("making the log directory: %w", err)
	}
	return &Store{dir: dir}, nil
}

// Existing returns the store in dir, which must be there, for reading.
func Existing(dir string) (*Store, error) {
	if _, err := os.ReadDir(dir); err != nil {
		return nil, fmt.Errorf("opening the log directory: %w", err)
	}
	return &Store{dir: dir}, nil
}

// Close ends the waiting of those who follow a log.
func (s *Store) Close() error { return s.watcher.close() }

// Remove deletes the log of an instance. One that is not there is no error.
func (s *Store) Remove(instance string) error {
	dir, err := s.path(instance)
	if err != nil {
		return err
	}
	if err := os.RemoveAll(dir); err != nil {
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
		if e.IsDir() {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

// End marks the log of an instance as complete, whose writer is gone. One that is
// not there, or has ended, is no error.
func (s *Store) End(instance string) error {
	dir, err := s.path(instance)
	if err != nil {
		return err
	}
	return endSegments(dir)
}

// Ended says whether nothing is going to be added to an instance's log any more, or
// ever was.
func (s *Store) Ended(instance string) (bool, error) {
	dir, err := s.path(instance)
	if err != nil {
		return false, err
	}
	return ended(dir)
}

// aboutFile, in a log's directory, holds an [About].
const aboutFile = "about.json"

// About says whose output a log is.
func (s *Store) About(instance string) (About, error) {
	var about About
	dir, err := s.path(instance)
	if err != nil {
		return about, err
	}
	content, err := os.ReadFile(filepath.Join(dir, aboutFile))
	if err == nil {
		err = json.Unmarshal(content, &about)
	}
	if err != nil {
		return about, fmt.Errorf("finding out whose log %s is: %w", instance, err)
	}
	return about, nil
}

func writeAbout(dir string, about About) error {
	path := filepath.Join(dir, aboutFile)
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	content, err := json.Marshal(about)
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(content, '\n'), 0o600)
}

// path is the directory of an instance's log.
func (s *Store) path(instance string) (string, error) {
	if instance == "" || strings.ContainsAny(instance, "/\x00") || strings.HasPrefix(instance, ".") {
		return "", fmt.Errorf("%q is no instance", instance)
	}
	return filepath.Join(s.dir, instance), nil
}
