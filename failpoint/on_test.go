//go:build failpoints

package failpoint

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

func TestErrorAtTheThirdPassing(t *testing.T) {
	dir := t.TempDir()
	t.Setenv(Variable, dir)
	if err := os.WriteFile(filepath.Join(dir, "a.step"), []byte("error 3"), 0o600); err != nil {
		t.Fatal(err)
	}
	for passing := 1; passing <= 4; passing++ {
		if err := Error("a.step"); errors.Is(err, errInjected) != (passing == 3) {
			t.Errorf("passing %d: %v", passing, err)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "a.step"+Hit)); err != nil {
		t.Error(err)
	}
}
