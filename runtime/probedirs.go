package runtime

import (
	"errors"
	"os"
	"path/filepath"

	"github.com/containerd/containerd/v2/core/mount"
)

// probeDirs are the directories in which something is tried out for a moment.
func (c Config) probeDirs() ([]string, error) {
	var all []string
	for _, parent := range []string{c.RootDir, c.RunDir} {
		if parent == "" {
			continue
		}
		found, err := filepath.Glob(filepath.Join(parent, probePrefix+"*"))
		if err != nil {
			return nil, err
		}
		all = append(all, found...)
	}
	return all, nil
}

// removeProbe removes one, and unmounts what is mounted in it.
func removeProbe(dir string) error {
	if err := mount.UnmountRecursive(dir, 0); err != nil {
		return err
	}
	return os.RemoveAll(dir)
}

// sweepProbes removes what an earlier process left when it died.
func (c Config) sweepProbes() error {
	left, err := c.probeDirs()
	for _, dir := range left {
		err = errors.Join(err, removeProbe(dir))
	}
	return err
}
