package handover

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/purserd/purser/runtime/handover/protocol"
)

// Held are the containers that Hold has marked.
func (s *Server) Held() ([]string, error) {
	entries, err := os.ReadDir(filepath.Join(s.Dir, protocol.Holders))
	if err != nil {
		return nil, fmt.Errorf("looking for holders of secrets: %w", err)
	}
	ids := make([]string, 0, len(entries))
	for _, e := range entries {
		ids = append(ids, e.Name())
	}
	return ids, nil
}

// State is what an installed runtime keeps of a container.
type State struct {
	// ID of the container.
	ID string
	// Path of what it keeps.
	Path string

	root, runtime string
}

// sandboxState follows the container's ID in the names of what runsc keeps.
const sandboxState = "_sandbox:"

// States are those of a containerd namespace's containers.
func (s *Server) States(namespace string) ([]State, error) {
	homes, err := os.ReadDir(filepath.Join(s.Dir, protocol.Runtimes))
	if err != nil {
		return nil, fmt.Errorf("looking for what OCI runtimes keep: %w", err)
	}
	var all []State
	for _, h := range homes {
		home := filepath.Join(s.Dir, protocol.Runtimes, h.Name())
		root := filepath.Join(installed(home).Root, namespace) // the shim adds the namespace
		entries, err := os.ReadDir(root)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("looking for what OCI runtimes keep: %w", err)
		}
		for _, e := range entries {
			id, _, sandbox := strings.Cut(e.Name(), sandboxState)
			if sandbox || e.IsDir() {
				all = append(all, State{ID: id, Path: filepath.Join(root, e.Name()), root: root, runtime: filepath.Join(home, protocol.Runtime)})
			}
		}
	}
	return all, nil
}

// Remove has the runtime kill the container's processes and forget it.
func (s State) Remove(ctx context.Context) error {
	// Of a container that it cannot make sense of, it may say no; what it keeps goes in
	// any case.
	err := exec.CommandContext(ctx, s.runtime, "--root", s.root, "delete", "--force", s.ID).Run()
	if ctx.Err() != nil {
		return fmt.Errorf("having %s delete container %s: %w", s.runtime, s.ID, err)
	}
	return os.RemoveAll(s.Path)
}
