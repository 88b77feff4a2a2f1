package runtime

import (
	"context"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"strings"

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

// trialID is what the ID of a container begins with that a runtime is tried with by this
// node, and so the name of its cgroup.
func (c Config) trialID() string { return "try-" + c.Node + "-" }

// trialCgroups are those of this node's containers that runtimes are tried with.
func (c Config) trialCgroups() map[string]cgroup {
	all := c.containerCgroups()
	maps.DeleteFunc(all, func(id string, _ cgroup) bool { return !strings.HasPrefix(id, c.trialID()) })
	return all
}

// sweepTrials removes what an earlier process left when it died.
func (c Config) sweepTrials() error {
	for _, left := range c.trialCgroups() {
		// What is busy is left to the sweeps that follow.
		_ = left.remove(context.Background())
	}
	left, err := c.trialDirs()
	for _, dir := range left {
		err = errors.Join(err, removeTrial(dir))
	}
	return err
}
