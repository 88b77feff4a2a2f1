package dev

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// usualDirs are looked in after PATH, which for many users lacks the sbin ones.
var usualDirs = []string{"/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"}

const shimName = "containerd-shim-runc-v2"

// programs are the executables of a node.
type programs struct {
	purser, containerd, runc string
	// others are runtimes that specs may ask for, by name, where there are any.
	others map[string]string
}

// otherRuntimes are looked for beside runc.
var otherRuntimes = []string{"crun", "runsc"}

// findPrograms looks for all of them in PATH and dirs, and says at once which
// are missing.
func findPrograms(containerd string, dirs []string) (*programs, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("finding purser's own executable: %w", err)
	}
	p := &programs{purser: self, others: map[string]string{}}
	for _, name := range otherRuntimes {
		if path := find(name, dirs); path != "" {
			p.others[name] = path
		}
	}
	var missing []string
	if p.containerd, err = findContainerd(containerd, dirs); containerd != "" && err != nil {
		return nil, err
	} else if err != nil {
		missing = append(missing, "containerd")
	}
	if p.runc = find("runc", dirs); p.runc == "" {
		missing = append(missing, "runc")
	}
	if p.containerd != "" && findBeside(p.containerd, shimName, dirs) == "" {
		missing = append(missing, shimName)
	}
	if len(missing) > 0 {
		return nil, fmt.Errorf("not found: %s; on Debian and Ubuntu: apt install containerd runc", strings.Join(missing, ", "))
	}
	return p, nil
}

// findContainerd takes a path to the executable, or to its directory.
func findContainerd(path string, dirs []string) (string, error) {
	if path == "" {
		if found := find("containerd", dirs); found != "" {
			return found, nil
		}
		return "", errors.New("no containerd")
	}
	info, err := os.Stat(path)
	if err == nil && info.IsDir() {
		path = filepath.Join(path, "containerd")
	}
	found, err := exec.LookPath(path)
	if err != nil {
		return "", fmt.Errorf("--containerd: %w", err)
	}
	return filepath.Abs(found)
}

// find looks in PATH, then in dirs; empty when there is none.
func find(name string, dirs []string) string {
	if found, err := exec.LookPath(name); err == nil {
		if absolute, err := filepath.Abs(found); err == nil {
			return absolute
		}
	}
	for _, dir := range dirs {
		if found, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
			return found
		}
	}
	return ""
}

// findBeside looks first where another program is.
func findBeside(program, name string, dirs []string) string {
	if found, err := exec.LookPath(filepath.Join(filepath.Dir(program), name)); err == nil {
		return found
	}
	return find(name, dirs)
}

// environ is the children's environment. containerd must find the shim of its
// own version, which lies beside it.
func (p *programs) environ() []string {
	path := append([]string{filepath.Dir(p.containerd)}, filepath.SplitList(os.Getenv("PATH"))...)
	path = append(path, usualDirs...)
	env := []string{"PATH=" + strings.Join(path, string(filepath.ListSeparator))}
	for _, entry := range os.Environ() {
		key, _, _ := strings.Cut(entry, "=")
		// The readiness of a child is not this process's.
		if key != "PATH" && key != "NOTIFY_SOCKET" {
			env = append(env, entry)
		}
	}
	return env
}
