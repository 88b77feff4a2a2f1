package rig

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
)

// Wrapper returns the path of purser-oci: the one beside PURSER_BIN, or one that is
// built for this process.
func Wrapper(t testing.TB) string {
	t.Helper()
	if bin := os.Getenv("PURSER_BIN"); bin != "" {
		return filepath.Join(filepath.Dir(bin), "purser-oci")
	}
	path, err := buildWrapper()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// buildWrapper leaves the program in the cache of builds beside the sources, which
// git ignores, so that it is there for the next process.
var buildWrapper = sync.OnceValues(func() (string, error) {
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}").Output()
	if err != nil {
		return "", fmt.Errorf("looking for the module: %w", err)
	}
	root := string(out[:len(out)-1])
	path := filepath.Join(root, ".cache", "purser-oci")
	// Another process may be building, or executing, it.
	made := fmt.Sprintf("%s.%d", path, os.Getpid())
	build := exec.Command("go", "build", "-o", made, "./cmd/purser-oci")
	build.Dir = root
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building purser-oci: %w: %s", err, out)
	}
	return path, os.Rename(made, path)
})
