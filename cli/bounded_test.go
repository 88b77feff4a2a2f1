package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Nothing that a user names is read without end.
func TestReadsAreBounded(t *testing.T) {
	zero, err := os.Open("/dev/zero")
	if err != nil {
		t.Fatal(err)
	}
	defer zero.Close()
	s := &session{in: zero}
	secret := func(f setFlags, args ...string) func() error {
		return func() error { _, err := readSecret(f, args, s.readInput); return err }
	}
	spec := func(path string) func() error {
		return func() error { _, _, err := s.readSource(path); return err }
	}
	for name, c := range map[string]struct {
		read  func() error
		limit string
	}{
		"a value from a file":           {secret(setFlags{}, "A=@/dev/zero"), "1.0 MiB"},
		"a value from standard input":   {secret(setFlags{}, "A=-"), "1.0 MiB"},
		"dotenv":                        {secret(setFlags{dotenv: "/dev/zero"}), "1.0 MiB"},
		"JSON":                          {secret(setFlags{json: "/dev/zero"}), "1.0 MiB"},
		"a launch spec":                 {spec("/dev/zero"), "4.0 MiB"},
		"a launch spec, standard input": {spec("-"), "4.0 MiB"},
	} {
		if err := c.read(); err == nil || !strings.Contains(err.Error(), "more than "+c.limit) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestReadUpToTheLimit(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(path, []byte("abcd"), 0o600); err != nil {
		t.Fatal(err)
	}
	if data, err := readFile(path, 4); err != nil || string(data) != "abcd" {
		t.Errorf("%q, %v", data, err)
	}
	if data, err := readFile(path, 3); err == nil {
		t.Errorf("%q", data)
	}
}
