package dir_test

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/purserd/purser/inject"
	"github.com/purserd/purser/inject/dir"
	"github.com/purserd/purser/inject/source"
)

// What is no regular file is not even opened: of a device that may do something, and a
// pipe would be waited for.
func TestSpecialFiles(t *testing.T) {
	path := t.TempDir()
	d := dir.New(dir.Options{Path: path, Environment: "prod"})
	for kind, makeIn := range map[string]func(at string) error{
		"pipe": func(at string) error { return unix.Mkfifo(at, 0o600) },
		"socket": func(at string) error {
			l, err := net.Listen("unix", at)
			if err == nil {
				t.Cleanup(func() { l.Close() })
			}
			return err
		},
		"device":   func(at string) error { return os.Symlink("/dev/zero", at) },
		"terminal": func(at string) error { return os.Symlink("/dev/tty", at) },
	} {
		must(t, os.Mkdir(filepath.Join(path, kind), 0o700))
		for secret, at := range map[string]string{kind: kind + "/A", kind + "-env": kind + "-env.env", kind + "-whole": kind + "-whole"} {
			must(t, makeIn(filepath.Join(path, at)))
			if got := get(d, "prod", secret); !strings.Contains(got, "no regular file") || !strings.Contains(got, at) {
				t.Errorf("%s: got %q", secret, got)
			}
		}
	}
}

// Links that go round, also through the directory itself, end; and names that are no text
// are no secrets, and spoil none.
func TestOddDirectory(t *testing.T) {
	path := t.TempDir()
	write(t, path, map[string]string{
		"good/A": "1", "self": "->.", "up": "->..", "round/..data": "->..data", "to": "->fro", "fro": "->to", "good2/A": "->../good2/B", "good2/B": "->A",
		"\xff\xfe": "x", "\xff/A": "x", "new\nline": "x", "good3/\xff": "x", strings.Repeat("x", 200): "x",
	})
	d := dir.New(dir.Options{Path: path, Environment: "prod"})
	names, err := d.List(t.Context())
	must(t, err)
	for _, name := range names {
		_, err := d.Get(t.Context(), name, "")
		if bad := name.Secret != "good"; bad != (err != nil) || errors.Is(err, inject.ErrNotFound) || errors.Is(err, source.ErrUnavailable) {
			t.Errorf("%q: got %v", name.Secret, err)
		}
	}
	if len(names) != 12 {
		t.Errorf("got %d names: %q", len(names), names)
	}
	f := follow(t, d, "good")
	write(t, path, map[string]string{"good/A": "2"})
	f.until("A=2")
	round := dir.New(dir.Options{Path: filepath.Join(path, "to"), Environment: "prod"})
	if _, err := round.List(t.Context()); !errors.Is(err, source.ErrUnavailable) {
		t.Errorf("got %v", err)
	}
}

// Thousands of secrets, and a secret of thousands of keys, are nothing special.
func TestManyFiles(t *testing.T) {
	path := t.TempDir()
	const many = 3000
	files := map[string]string{}
	for i := range many {
		files[fmt.Sprintf("s%d.env", i)] = "A=1"
		files[fmt.Sprintf("big/K%d", i)] = "1"
	}
	write(t, path, files)
	d := dir.New(dir.Options{Path: path, Environment: "prod"})
	names, err := d.List(t.Context())
	if err != nil || len(names) != many+1 {
		t.Fatalf("got %d, %v", len(names), err)
	}
	big, err := d.Get(t.Context(), source.Name{Environment: "prod", Secret: "big"}, "")
	if err != nil || len(big.Data) != many {
		t.Errorf("got %d keys, %v", len(big.Data), err)
	}
	f := follow(t, d, "s7")
	write(t, path, map[string]string{"s7.env": "A=2"})
	f.until("A=2")
}
