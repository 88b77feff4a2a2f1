package volumes

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
)

func open(t *testing.T, dir string) *Store {
	t.Helper()
	s, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func create(t *testing.T, s *Store, environment, name string) string {
	t.Helper()
	if _, created, err := s.Create(environment, name, Owner{Mode: DefaultMode, UID: uint32(os.Getuid()), GID: uint32(os.Getgid())}); err != nil || !created {
		t.Fatalf("creating %s: created %v, %v", name, created, err)
	}
	path, err := s.Path(environment, name)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func listed(t *testing.T, s *Store, environment string) string {
	t.Helper()
	all, err := s.List(environment)
	if err != nil {
		t.Fatal(err)
	}
	var texts []string
	for _, info := range all {
		texts = append(texts, info.Environment+"/"+info.Name)
	}
	return strings.Join(texts, " ")
}

func TestStore(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "volumes")
	s := open(t, dir)
	data := create(t, s, "dev", "data")
	create(t, s, "dev", "a.b")
	create(t, s, "prod", "data")
	if err := os.WriteFile(filepath.Join(data, "kept"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, created, err := s.Create("dev", "data", Owner{Mode: 0o700}); err != nil || created {
		t.Errorf("again: created %v, %v", created, err)
	}
	if got := listed(t, s, ""); got != "dev/a.b dev/data prod/data" {
		t.Errorf("listed: %s", got)
	}
	s = open(t, dir)
	if got := listed(t, s, "dev"); got != "dev/a.b dev/data" {
		t.Errorf("listed by the next: %s", got)
	}
	destroy, err := s.Remove("dev", "data")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Path("dev", "data"); !errors.Is(err, ErrNotFound) {
		t.Errorf("removed, and its path: %v", err)
	}
	// The name is free before all has been destroyed.
	if entries, err := os.ReadDir(create(t, s, "dev", "data")); err != nil || len(entries) > 0 {
		t.Errorf("made anew, it has %v, %v", entries, err)
	}
	if err := destroy(); err != nil {
		t.Error(err)
	}
	if _, err := s.Remove("dev", "none"); !errors.Is(err, ErrNotFound) {
		t.Errorf("removing what is not there: %v", err)
	}
	if got := listed(t, s, "staging"); got != "" {
		t.Errorf("of an environment without volumes: %s", got)
	}
}

// No name leads out of the store, or to what is on its way.
func TestNames(t *testing.T) {
	s := open(t, t.TempDir())
	create(t, s, "dev", "data")
	for _, names := range [][2]string{{"dev", ".."}, {"..", "dev"}, {"dev", ""}, {"", "dev"}, {".", "dev"}, {"dev", "a/b"}, {"dev", "data/.."}, {"dev/..", "dev"}, {"dev", strings.Repeat("a", 65)}} {
		if _, err := s.Path(names[0], names[1]); !errors.Is(err, ErrNotFound) {
			t.Errorf("%q: %v", names, err)
		}
		if _, _, err := s.Create(names[0], names[1], Owner{}); !errors.Is(err, ErrNotFound) {
			t.Errorf("making %q: %v", names, err)
		}
		if _, err := s.Remove(names[0], names[1]); !errors.Is(err, ErrNotFound) {
			t.Errorf("removing %q: %v", names, err)
		}
	}
	link := filepath.Join(s.dir, "dev", "link")
	if err := os.Symlink("/etc", link); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Path("dev", "link"); !errors.Is(err, ErrNotFound) {
		t.Errorf("a link: %v", err)
	}
}

func TestOwner(t *testing.T) {
	if os.Getuid() != 0 {
		t.Fatal("only root gives directories away: run the tests as root")
	}
	s := open(t, t.TempDir())
	for i, want := range []Owner{{UID: 0, GID: 0, Mode: 0o755}, {UID: 1000, GID: 2000, Mode: 0o770}, {UID: 5, GID: 5, Mode: 0o2775}, {UID: 0, GID: 0, Mode: 0o1777}} {
		name := strconv.Itoa(i)
		got, _, err := s.Create("dev", name, want)
		if err != nil {
			t.Fatal(err)
		}
		if (Owner{got.UID, got.GID, got.Mode}) != want {
			t.Errorf("made as %+v, is %+v", want, got)
		}
	}
}

// What a crash left half way is no volume, and is gone after the next sweep.
func TestLeftovers(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	create(t, s, "dev", "data")
	if _, err := s.Remove("dev", "data"); err != nil { // and not destroyed
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, incoming+"1"), 0o700); err != nil {
		t.Fatal(err)
	}
	create(t, s, "dev", "other")
	s = open(t, dir)
	if got := listed(t, s, ""); got != "dev/other" {
		t.Errorf("listed: %s", got)
	}
	if err := s.Sweep(context.Background()); err != nil {
		t.Error(err)
	}
	entries, _ := os.ReadDir(dir)
	if len(entries) != 1 || entries[0].Name() != "dev" {
		t.Errorf("after the sweep: %v", entries)
	}
}

// A volume is made, and removed, once.
func TestAtOnce(t *testing.T) {
	s := open(t, t.TempDir())
	var made, removed []string
	var mu sync.Mutex
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			_, created, err := s.Create("dev", "data", Owner{Mode: 0o700})
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				t.Error(err)
			} else if created {
				made = append(made, "data")
			}
		})
	}
	all.Wait()
	for range 8 {
		all.Go(func() {
			destroy, err := s.Remove("dev", "data")
			if err == nil {
				err = destroy()
			}
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				removed = append(removed, "data")
			} else if !errors.Is(err, ErrNotFound) {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if len(made) != 1 || len(removed) != 1 {
		t.Errorf("made %d times, removed %d times", len(made), len(removed))
	}
}

// Measure agrees with du.
func TestMeasure(t *testing.T) {
	s := open(t, t.TempDir())
	path := create(t, s, "dev", "data")
	write := func(name string, size int) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(path, name), make([]byte, size), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.MkdirAll(filepath.Join(path, "a/b/c"), 0o700); err != nil {
		t.Fatal(err)
	}
	write("one", 100_000)
	write("a/b/c/two", 3_000_000)
	write("empty", 0)
	for i := range 600 { // more than one reading of a directory
		write("a/b/"+strconv.Itoa(i), 1)
	}
	for _, link := range []string{"a/same", "a/b/same"} {
		if err := os.Link(filepath.Join(path, "one"), filepath.Join(path, link)); err != nil {
			t.Fatal(err)
		}
	}
	for name, to := range map[string]string{"out": "/usr", "loop": ".", "gone": "nowhere"} {
		if err := os.Symlink(to, filepath.Join(path, name)); err != nil {
			t.Fatal(err)
		}
	}
	hole, err := os.Create(filepath.Join(path, "hole"))
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(hole.Truncate(1<<40), hole.Close()); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("du", "-s", "--block-size=1", path).Output()
	if err != nil {
		t.Fatal(err)
	}
	want, _, _ := strings.Cut(string(out), "\t")
	got, err := s.Measure(context.Background(), "dev", "data")
	if err != nil || strconv.FormatUint(got, 10) != want {
		t.Errorf("measured %d, %v; du says %s", got, err, want)
	}
	ended, end := context.WithCancel(context.Background())
	end()
	if part, err := s.Measure(ended, "dev", "data"); !errors.Is(err, context.Canceled) || part >= got {
		t.Errorf("without time: %d, %v", part, err)
	}
	if _, err := s.Measure(context.Background(), "dev", "none"); !errors.Is(err, ErrNotFound) {
		t.Errorf("of none: %v", err)
	}
}

// A container that changes directories while they are measured neither breaks
// measuring nor leads it out.
func TestMeasureWhileItChanges(t *testing.T) {
	s := open(t, t.TempDir())
	path := create(t, s, "dev", "data")
	outside := t.TempDir()
	if err := os.WriteFile(filepath.Join(outside, "large"), make([]byte, 50_000_000), 0o600); err != nil {
		t.Fatal(err)
	}
	stop := make(chan struct{})
	var changing sync.WaitGroup
	changing.Go(func() {
		dir := filepath.Join(path, "d")
		for {
			select {
			case <-stop:
				return
			default:
			}
			if err := errors.Join(os.Mkdir(dir, 0o700), os.Remove(dir), os.Symlink(outside, dir), os.Remove(dir)); err != nil {
				t.Error(err)
				return
			}
		}
	})
	for range 3000 {
		if size, err := s.Measure(context.Background(), "dev", "data"); err != nil || size > 1_000_000 {
			t.Errorf("measured %d, %v", size, err)
			break
		}
	}
	close(stop)
	changing.Wait()
}

func TestOpenFails(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(filepath.Join(file, "volumes")); err == nil {
		t.Error("below a file it opens")
	}
	if _, err := Open(file); err == nil {
		t.Errorf("a file opens: %v", err)
	}
}
