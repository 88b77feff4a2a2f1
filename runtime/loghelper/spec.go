package loghelper

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/purserd/purser/inject"
	"github.com/purserd/purser/runtime/logs"
)

// Spec says what to read of an instance, and where to store it.
type Spec struct {
	Instance string      `json:"instance"`
	About    logs.About  `json:"about"`
	Limits   logs.Limits `json:"limits"`
	// LogDir is the directory of all logs.
	LogDir string `json:"log_dir"`
	// Stdout and Stderr are the paths of FIFOs; of a terminal there is no Stderr.
	Stdout string `json:"stdout"`
	Stderr string `json:"stderr,omitempty"`
	// Journald sends each line to systemd's journal, too.
	Journald bool `json:"journald,omitempty"`
	// Middle says that something has been read of the streams before.
	Middle bool `json:"middle,omitempty"`
	// Drop has all output read and dropped: nobody knows what in it must not be seen.
	Drop bool `json:"drop,omitempty"`
}

// files are those of one instance in the helper's directory.
type files struct{ dir string }

func (f files) spec() string    { return filepath.Join(f.dir, "spec.json") }
func (f files) values() string  { return filepath.Join(f.dir, "values.json") }
func (f files) journal() string { return filepath.Join(f.dir, "journal") }

// instancesDir, in the helper's directory, has a directory for each instance.
const instancesDir = "instances"

func filesOf(dir, instance string) files {
	return files{filepath.Join(dir, instancesDir, instance)}
}

// instancesIn are the instances that a helper's directory has files of.
func instancesIn(dir string) ([]string, error) {
	entries, err := os.ReadDir(filepath.Join(dir, instancesDir))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("looking for what a log helper keeps: %w", err)
	}
	names := make([]string, 0, len(entries))
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names, nil
}

// write has the helper, and those after it, know of an instance. A helper that has just
// begun may be removing what it could make nothing of: then it is written once more.
func (f files) write(spec Spec, values inject.Redactions) error {
	err := f.writeOnce(spec, values)
	for tries := 1; errors.Is(err, fs.ErrNotExist) && tries < 3; tries++ {
		err = f.writeOnce(spec, values)
	}
	return err
}

// writeOnce has the spec be there last: without it there is no instance.
func (f files) writeOnce(spec Spec, values inject.Redactions) error {
	if err := os.MkdirAll(f.dir, 0o700); err != nil {
		return err
	}
	if err := values.Write(f.values()); err != nil {
		return err
	}
	content, err := json.Marshal(spec)
	if err != nil {
		return err
	}
	next := f.spec() + "_next"
	if err := os.WriteFile(next, content, 0o600); err != nil {
		return err
	}
	return os.Rename(next, f.spec())
}

func (f files) read() (Spec, error) {
	var spec Spec
	content, err := os.ReadFile(f.spec())
	if err == nil && json.Unmarshal(content, &spec) != nil {
		// Damaged: as good as not there. The agent knows what it was.
		return spec, fs.ErrNotExist
	}
	if err != nil {
		return spec, fmt.Errorf("reading what is known of the output of %s: %w", filepath.Base(f.dir), err)
	}
	return spec, nil
}

// remove takes the spec away first: without the rest there must be none.
func (f files) remove() error {
	if err := os.Remove(f.spec()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return os.RemoveAll(f.dir)
}
