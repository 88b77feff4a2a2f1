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
	return built(t, buildWrapper)
}

// Failing returns the path of a purser that is built for this process with the tag
// failpoints.
func Failing(t testing.TB) string {
	t.Helper()
	return built(t, buildFailing)
}

var (
	buildWrapper = sync.OnceValues(func() (string, error) { return goBuild("purser-oci", "./cmd/purser-oci") })
	buildFailing = sync.OnceValues(func() (string, error) { return goBuild("purser-failpoints", "-tags", "failpoints", ".") })
)

func built(t testing.TB, build func() (string, error)) string {
	t.Helper()
	path, err := build()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// goBuild leaves a program in the cache of builds beside the sources, which git ignores,
// so that it is there for the next process.
func goBuild(name string, args ...string) (string, error) {
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}").Output()
	if err != nil {
		return "", fmt.Errorf("looking for the module: %w", err)
	}
	root := string(out[:len(out)-1])
	path := filepath.Join(root, ".cache", name)
	// Another process may be building, or executing, it.
	made := fmt.Sprintf("%s.%d", path, os.Getpid())
	build := exec.Command("go", append([]string{"build", "-trimpath", "-o", made}, args...)...)
	build.Dir = root
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building %s: %w: %s", name, err, out)
	}
	return path, os.Rename(made, path)
}
