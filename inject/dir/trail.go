package dir

import (
	"cmp"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// maxLinks is how many links are followed, as by the kernel.
const maxLinks = 40

// step is an entry of a directory that decides where a path leads, or what is there. An
// empty base is every entry.
type step struct{ dir, base string }

// trail are the steps of a path: the links on the way, and the file that it leads to or
// all that is in the directory that it leads to; of a path that leads nowhere, what is
// missing. There is no link in the path of a step's directory.
func trail(path string) []step {
	var steps []step
	at, rest, links := "/", split(path), 0
	for len(rest) > 0 {
		next := filepath.Join(at, rest[0])
		info, err := os.Lstat(next)
		if err != nil {
			return append(steps, step{at, rest[0]})
		}
		if info.Mode()&os.ModeSymlink == 0 {
			if !info.IsDir() {
				return append(steps, step{at, rest[0]})
			}
			at, rest = next, rest[1:]
			continue
		}
		steps = append(steps, step{at, rest[0]})
		target, err := os.Readlink(next)
		if links++; err != nil || links > maxLinks {
			return steps
		}
		if filepath.IsAbs(target) {
			at = "/"
		}
		rest = slices.Concat(split(target), rest[1:])
	}
	return append(steps, step{dir: at})
}

func split(path string) []string {
	return strings.FieldsFunc(path, func(r rune) bool { return r == '/' })
}

// trail are the steps to the files of an entry.
func (e entry) trail() []step {
	steps := trail(e.path)
	if e.form != directory {
		return steps
	}
	dir := e.path
	data := filepath.Join(dir, dataLink)
	_, err := os.Lstat(data)
	if err == nil {
		steps, dir = append(steps, trail(data)...), data
	}
	entries, _ := os.ReadDir(dir)
	for _, f := range entries {
		if e.dir.naming.takes(f.Name(), err == nil) && f.Type()&os.ModeSymlink != 0 {
			steps = append(steps, trail(filepath.Join(dir, f.Name()))...)
		}
	}
	return steps
}

// sorted are the steps without repetitions.
func sorted(steps []step) []step {
	slices.SortFunc(steps, func(a, b step) int {
		return cmp.Or(cmp.Compare(a.dir, b.dir), cmp.Compare(a.base, b.base))
	})
	return slices.Compact(steps)
}
