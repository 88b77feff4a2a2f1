package rig

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
)

// Failing returns the path of a purser that is built for this process with the tag
// failpoints.
func Failing(t testing.TB) string {
	t.Helper()
	path, err := buildFailing()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

var buildFailing = sync.OnceValues(func() (string, error) {
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}").Output()
	if err != nil {
		return "", fmt.Errorf("looking for the module: %w", err)
	}
	root := string(out[:len(out)-1])
	path := filepath.Join(root, ".cache", "purser-failpoints")
	// Another process may be building, or executing, it.
	made := fmt.Sprintf("%s.%d", path, os.Getpid())
	build := exec.Command("go", "build", "-tags", "failpoints", "-o", made, ".")
	build.Dir = root
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building purser with failpoints: %w: %s", err, out)
	}
	return path, os.Rename(made, path)
})
