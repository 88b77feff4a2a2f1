package volumes

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// nest makes directories, each in the one before, with a file of 4 KiB in each.
func nest(t *testing.T, path string, depth int) {
	t.Helper()
	at, err := unix.Open(path, unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	for range depth {
		if err != nil {
			t.Fatal(err)
		}
		var file, next int
		if err = unix.Mkdirat(at, "d", 0o700); err != nil {
			t.Fatal(err)
		}
		if next, err = openDir(at, "d"); err != nil {
			t.Fatal(err)
		}
		if file, err = unix.Openat(next, "file", unix.O_CREAT|unix.O_WRONLY, 0o600); err != nil {
			t.Fatal(err)
		}
		_, err = unix.Write(file, make([]byte, 4096))
		err = errors.Join(err, unix.Close(file), unix.Close(at))
		at = next
	}
	if err := errors.Join(err, unix.Close(at)); err != nil {
		t.Fatal(err)
	}
}

// fewFiles lets the process open so many more files than the meter needs.
func fewFiles(t *testing.T) {
	t.Helper()
	var before syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &before); err != nil {
		t.Fatal(err)
	}
	few := before
	few.Cur = deepest + 64
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &few); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Setrlimit(syscall.RLIMIT_NOFILE, &before) })
}

// Directories nested deeper than the process may open files are measured in part and
// removed whole.
func TestDeep(t *testing.T) {
	const depth = 3*deepest + 1
	dir := t.TempDir()
	s := open(t, dir)
	fewFiles(t)
	path := create(t, s, "dev", "data")
	for i := range 2 { // so that something comes after the deep one in any order
		inner := filepath.Join(path, fmt.Sprint(i))
		if err := os.Mkdir(inner, 0o700); err != nil {
			t.Fatal(err)
		}
		nest(t, inner, depth)
	}
	size, err := s.Measure(context.Background(), "dev", "data")
	if !errors.Is(err, errTooDeep) || size < 2*(deepest-1)*4096 || size >= 2*depth*4096 {
		t.Errorf("measured %d, %v", size, err)
	}
	destroy, err := s.Remove("dev", "data")
	if err != nil {
		t.Fatal(err)
	}
	if err := destroy(); err != nil {
		t.Error(err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}

// What an earlier process had begun to move up is removed with the rest.
func TestDeepLeftovers(t *testing.T) {
	dir := t.TempDir()
	fewFiles(t)
	s := open(t, dir)
	nest(t, create(t, s, "dev", "data"), 3*deepest)
	if _, err := s.Remove("dev", "data"); err != nil { // and not destroyed
		t.Fatal(err)
	}
	s = open(t, dir)
	nest(t, s.leftovers[0], 2*deepest)
	if err := s.Sweep(context.Background()); err != nil {
		t.Error(err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}

// What cannot be removed keeps nothing else there.
func TestDestroyGoesOn(t *testing.T) {
	s := open(t, t.TempDir())
	path := create(t, s, "dev", "data")
	kept := filepath.Join(path, "a", "b", "kept")
	for i := range 3 * namesAtOnce {
		if err := os.MkdirAll(filepath.Join(path, "a", "b", fmt.Sprint(i), "x"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(kept, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", kept, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	destroy, err := s.Remove("dev", "data")
	if err != nil {
		t.Fatal(err)
	}
	left, _ := filepath.Glob(filepath.Join(s.dir, outgoing+"*", "data/a/b/kept"))
	if len(left) != 1 {
		t.Fatalf("left: %v", left)
	}
	t.Cleanup(func() { _ = unix.Unmount(left[0], 0) })
	if err := destroy(); !errors.Is(err, unix.EBUSY) || !strings.HasSuffix(err.Error(), `: removing "kept": device or resource busy`) {
		t.Errorf("with a mount in it: %v", err)
	}
	if entries, err := os.ReadDir(filepath.Dir(left[0])); err != nil || len(entries) != 1 {
		t.Errorf("beside it are left %d, %v", len(entries)-1, err)
	}
}
