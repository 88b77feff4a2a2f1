package runtime

import (
	"errors"
	"os"
	"path/filepath"

	"github.com/containerd/containerd/v2/core/mount"
)

// trialPrefix is how directories are named in which it is tried out what works here,
// beside writable layers.
const trialPrefix = "trial-"

// trialDirs are the directories in which something is tried out for a moment.
func (c Config) trialDirs() ([]string, error) {
	var all []string
	for _, parent := range []string{c.RootDir, c.RunDir} {
		if parent == "" {
			continue
		}
		found, err := filepath.Glob(filepath.Join(parent, trialPrefix+"*"))
		if err != nil {
			return nil, err
		}
		all = append(all, found...)
	}
	return all, nil
}

// removeTrial removes one, and unmounts what is mounted in it: runsc leaves a mount where
// it keeps its state.
func removeTrial(dir string) error {
	if err := mount.UnmountRecursive(dir, 0); err != nil {
		return err
	}
	return os.RemoveAll(dir)
}

// sweepTrials removes what an earlier process left when it died.
func (c Config) sweepTrials() error {
	left, err := c.trialDirs()
	for _, dir := range left {
		err = errors.Join(err, removeTrial(dir))
	}
	return err
}
