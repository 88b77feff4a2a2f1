package failpoint_test

import (
	"bytes"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/purserd/purser/failpoint"
)

// Every step that has a name is at one place of the source, and every place has a
// name that is in the list.
func TestNames(t *testing.T) {
	places := map[string][]string{}
	call := regexp.MustCompile(`failpoint\.(?:Here|Error)\("([^"]*)"\)`)
	err := filepath.WalkDir("..", func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if e.IsDir() && (strings.HasPrefix(e.Name(), ".") && path != ".." || e.Name() == "failpoint") {
			return filepath.SkipDir
		}
		if filepath.Ext(path) != ".go" || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		source, err := os.ReadFile(path)
		for _, found := range call.FindAllSubmatch(source, -1) {
			places[string(found[1])] = append(places[string(found[1])], path)
		}
		if bytes.Count(source, []byte("failpoint.Here("))+bytes.Count(source, []byte("failpoint.Error(")) != len(call.FindAll(source, -1)) {
			t.Errorf("%s passes a step whose name is no literal", path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range failpoint.Names {
		if n := len(places[name]); n != 1 {
			t.Errorf("step %s is at %d places: %v", name, n, places[name])
		}
	}
	for name, where := range places {
		if !slices.Contains(failpoint.Names, name) {
			t.Errorf("step %s of %v is not in the list", name, where)
		}
	}
	if sorted := slices.Compact(slices.Sorted(slices.Values(failpoint.Names))); len(sorted) != len(failpoint.Names) {
		t.Error("a name is in the list twice")
	}
}

// The plain program has no trace of the steps: neither a name nor the variable. With
// the tag they are there, so that the search is able to find them.
func TestPlainProgramHasNone(t *testing.T) {
	for _, c := range []struct {
		tags string
		has  bool
	}{{"", false}, {"failpoints", true}} {
		program := build(t, c.tags)
		for _, trace := range append(slices.Clone(failpoint.Names), failpoint.Variable) {
			if bytes.Contains(program, []byte(trace)) != c.has {
				t.Errorf("tags %q: %s is in the program: %v", c.tags, trace, !c.has)
			}
		}
	}
}

func build(t *testing.T, tags string) []byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), "purser")
	cmd := exec.Command("go", "build", "-trimpath", "-tags", tags, "-o", path, "..")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("building: %v: %s", err, out)
	}
	program, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return program
}
