package handover

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/purserd/purser/runtime/handover/protocol"
)

// layOut makes what the wrapper expects to find.
func (s *Server) layOut() error {
	for _, dir := range []string{protocol.Runtimes, protocol.Holders, protocol.Bundle} {
		if err := os.MkdirAll(filepath.Join(s.Dir, dir), 0o700); err != nil {
			return err
		}
	}
	if err := s.sweepDocuments(); err != nil {
		return err
	}
	return errors.Join(
		link(protocol.SpecPath, filepath.Join(s.Dir, protocol.Bundle, "config.json")),
		s.linkJoin(),
	)
}

func (s *Server) linkJoin() error {
	path := filepath.Join(s.Dir, protocol.Join)
	if s.Join != "" {
		return link(s.Join, path)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// sweepDocuments removes the complete specification that an agent left which died
// between making the file and taking its name away.
func (s *Server) sweepDocuments() error {
	entries, err := os.ReadDir(s.Dir)
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), documentPrefix) {
			err = errors.Join(err, os.Remove(filepath.Join(s.Dir, e.Name())))
		}
	}
	return err
}

// Installed is a runtime that goes through the wrapper.
type Installed struct {
	// Path is what containerd executes. It never changes for a runtime of a name.
	Path string
	// Root is where the runtime keeps its state, which may be a copy of the whole
	// specification.
	Root string
	// Inside is where the wrapper has the runtime note the process IDs that commands
	// have in their container, in EXEC.pid; see NotePIDs.
	Inside string
}

// NotePIDs has the runtime, which must be runsc, note what process ID each command
// of an exec has in its container. It is for the caller to remove the notes.
func (i Installed) NotePIDs() error {
	if err := os.MkdirAll(i.Inside, 0o700); err != nil {
		return fmt.Errorf("making the directory of process IDs: %w", err)
	}
	return nil
}

// NoteNoPIDs ends what NotePIDs began.
func (i Installed) NoteNoPIDs() error {
	if err := os.RemoveAll(i.Inside); err != nil {
		return fmt.Errorf("removing the directory of process IDs: %w", err)
	}
	return nil
}

// InstalledAt returns what Install did, by its Path; false for another path.
func InstalledAt(path string) (Installed, bool) {
	home := filepath.Dir(path)
	return installed(home), filepath.Base(path) == protocol.Wrapper
}

func installed(home string) Installed {
	return Installed{
		Path:   filepath.Join(home, protocol.Wrapper),
		Root:   filepath.Join(home, protocol.Root),
		Inside: filepath.Join(home, protocol.Inside),
	}
}

// Install puts the wrapper in front of a runtime. Called again it changes what is
// behind the paths, also for containers that are there.
func (s *Server) Install(name, wrapper, runtime string) (Installed, error) {
	if _, err := os.Stat(wrapper); err != nil {
		return Installed{}, fmt.Errorf("purser-oci, which gives containers their secrets, is gone; put it back beside purser, or where wrapper in the configuration says: %w", err)
	}
	home := filepath.Join(s.Dir, protocol.Runtimes, name)
	r := installed(home)
	if err := os.MkdirAll(r.Root, 0o700); err != nil {
		return r, fmt.Errorf("installing the wrapper of runtime %s: %w", name, err)
	}
	if err := errors.Join(link(wrapper, r.Path), link(runtime, filepath.Join(home, protocol.Runtime))); err != nil {
		return r, fmt.Errorf("installing the wrapper of runtime %s: %w", name, err)
	}
	return r, nil
}

// Reinstall puts the wrapper in front of every runtime that an earlier agent has
// installed: their containers are there still, also when the wrapper has moved or
// nobody configures the runtime any more.
func (s *Server) Reinstall(wrapper string) error {
	dir := filepath.Join(s.Dir, protocol.Runtimes)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("looking for the runtimes of earlier containers: %w", err)
	}
	for _, e := range entries {
		err = errors.Join(err, link(wrapper, filepath.Join(dir, e.Name(), protocol.Wrapper)))
	}
	if err != nil {
		return fmt.Errorf("installing the wrapper for earlier containers: %w", err)
	}
	return nil
}

// link makes a symbolic link, or replaces another in one step.
func link(target, path string) error {
	if now, err := os.Readlink(path); err == nil && now == target {
		return nil
	}
	next := path + "." + rand.Text() // others may do the same at this moment
	if err := os.Symlink(target, next); err != nil {
		return err
	}
	if err := os.Rename(next, path); err != nil {
		return errors.Join(err, os.Remove(next))
	}
	return nil
}

// Hold marks a container as one that holds secrets, until Release.
func (s *Server) Hold(id string) error {
	f, err := os.OpenFile(s.holder(id), os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("marking container %s as a holder of secrets: %w", id, err)
	}
	return f.Close()
}

// Release ends what Hold began.
func (s *Server) Release(id string) error {
	if err := os.Remove(s.holder(id)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("unmarking container %s: %w", id, err)
	}
	return nil
}

func (s *Server) holder(id string) string {
	return filepath.Join(s.Dir, protocol.Holders, id)
}
