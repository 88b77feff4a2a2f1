package devices

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"tags.cncf.io/container-device-interface/pkg/cdi"
)

// file is one that a specification may be in.
type file struct {
	path string
	// rank is that of its directory.
	rank int
	// state changes with the file.
	state string
	// spec is what it says; nil, with err, when it cannot be used.
	spec *cdi.Spec
	err  error
}

// list looks for files in directories, any of which may be missing, and reads nothing. What
// keeps it from looking into one is in wrong.
func list(dirs []string) (files []file, wrong []error) {
	for rank, dir := range dirs {
		entries, err := os.ReadDir(dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			wrong = append(wrong, fmt.Errorf("looking for CDI specifications: %w", err))
		}
		for _, e := range entries {
			if slices.Contains([]string{".json", ".yaml"}, filepath.Ext(e.Name())) {
				path := filepath.Join(dir, e.Name())
				files = append(files, file{path: path, rank: rank, state: stateOf(path)})
			}
		}
	}
	return files, wrong
}

// stateOf is what changes with a file. By the change time of its inode it is not fooled by
// tools that set the time of modification.
func stateOf(path string) string {
	info, err := os.Stat(path)
	if err != nil {
		return err.Error()
	}
	stat := info.Sys().(*syscall.Stat_t)
	return fmt.Sprint(stat.Dev, stat.Ino, stat.Size, stat.Mtim.Nano(), stat.Ctim.Nano())
}

// read reads the file.
func (f *file) read() {
	// The library does not expect every kind of nonsense, and agents live on.
	defer func() {
		if p := recover(); p != nil {
			f.spec, f.err = nil, fmt.Errorf("the file is malformed (%v)", p)
		}
	}()
	if f.err = regular(f.path); f.err == nil {
		f.spec, f.err = cdi.ReadSpec(f.path, f.rank)
	}
}

// regular refuses what may be read for ever, such as a pipe: all that names a device, and
// every writer of the agent's, would wait for it.
func regular(path string) error {
	info, err := os.Stat(path)
	if err == nil && !info.Mode().IsRegular() {
		return fmt.Errorf("it is no regular file (%s)", info.Mode().Type())
	}
	return err
}

// problemShown bounds what is told of one file, in characters: YAML's mistakes can be many.
const problemShown = 200

// problem says why the file cannot be used, on one line.
func (f *file) problem() string {
	text := strings.Join(strings.Fields(f.err.Error()), " ")
	text = strings.ReplaceAll(text, fmt.Sprintf(" %q", f.path), "")
	if all := []rune(text); len(all) > problemShown {
		text = string(all[:problemShown]) + "…"
	}
	return f.path + ": " + text
}
