package dir

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/purserd/purser/inject"
	"github.com/purserd/purser/inject/source"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// mount mounts memory on a directory, which takes root.
func mount(t *testing.T, on string, files ...string) (unmount func()) {
	t.Helper()
	must(t, os.MkdirAll(on, 0o755))
	must(t, unix.Mount("none", on, "tmpfs", 0, ""))
	mounted := true
	unmount = func() {
		if mounted {
			mounted = false
			must(t, unix.Unmount(on, unix.MNT_DETACH))
		}
	}
	t.Cleanup(unmount)
	for _, name := range files {
		must(t, os.MkdirAll(filepath.Dir(filepath.Join(on, name)), 0o755))
		must(t, os.WriteFile(filepath.Join(on, name), []byte("A=1"), 0o600))
	}
	return unmount
}

// What is left of a directory when its secrets are unmounted says nothing of them; neither
// does what is mounted over it, before there is something in it.
func TestUnmounted(t *testing.T) {
	for _, environment := range []string{"prod", AllEnvironments} {
		for name, act := range map[string]struct {
			away, back func(t *testing.T, home string)
		}{
			"unmounted": {nil, func(t *testing.T, home string) { mount(t, home, "db.env") }},
			"covered": {func(t *testing.T, home string) { mount(t, home) }, func(t *testing.T, home string) {
				must(t, os.WriteFile(filepath.Join(home, "db.env"), []byte("A=1"), 0o600))
			}},
		} {
			t.Run(environment+" "+name, func(t *testing.T) {
				path := t.TempDir()
				home := path
				if environment == AllEnvironments {
					home = filepath.Join(path, "prod")
				}
				unmount := mount(t, home, "db.env", "other.env")
				d := New(Options{Path: path, Environment: environment})
				if got := d.text("db") + d.text("other"); got != "A=1A=1" {
					t.Fatal(got)
				}
				must(t, os.Remove(filepath.Join(home, "other.env")))
				d.wantAbsent(t, "other")
				if act.away == nil {
					unmount()
				} else {
					act.away(t, home)
				}
				d.wantUntold(t, "db")
				act.back(t, home)
				if got := d.text("db"); got != "A=1" {
					t.Error(got)
				}
				must(t, os.Remove(filepath.Join(home, "db.env")))
				d.wantAbsent(t, "db")
			})
		}
	}
}

func (d *Dir) wantAbsent(t *testing.T, secret string) {
	t.Helper()
	if _, err := d.Get(t.Context(), source.Name{Environment: "prod", Secret: secret}, ""); !errors.Is(err, inject.ErrNotFound) {
		t.Errorf("it was removed: %v", err)
	}
}

// wantUntold wants that nothing can be told of the secret.
func (d *Dir) wantUntold(t *testing.T, secret string) {
	t.Helper()
	all := d.Environment != AllEnvironments
	_, err := d.Get(t.Context(), source.Name{Environment: "prod", Secret: secret}, "")
	if err == nil || errors.Is(err, inject.ErrNotFound) || errors.Is(err, source.ErrUnavailable) != all || !strings.Contains(err.Error(), "mount") {
		t.Errorf("got %v", err)
	}
	if _, err := d.List(t.Context()); errors.Is(err, source.ErrUnavailable) != all {
		t.Errorf("listed with %v", err)
	}
}

// No event tells of what is mounted on a directory: it is found when the watches are
// looked after, and watched from then on. So is one that is mounted again.
func TestMountsAreWatched(t *testing.T) {
	path := t.TempDir()
	disk := mount(t, filepath.Join(path, "disk"), "db.env")
	defer disk()
	home := filepath.Join(path, "home")
	must(t, os.Mkdir(home, 0o755))
	d := New(Options{Path: home, Environment: "prod"})
	n, err := newInotify()
	must(t, err)
	defer n.Close()
	w := newWatches(d, n)
	must(t, w.all())
	for range 2 { // another memory, which may well have the number of the one before
		unmount := mount(t, home)
		must(t, w.all())
		unmount()
		unmount = mount(t, home)
		must(t, w.all())
		must(t, os.WriteFile(filepath.Join(home, "memory.env"), []byte("A=2"), 0o600))
		w.wantTold(t, "memory")
		unmount()
	}
	for range 2 {
		must(t, unix.Mount(filepath.Join(path, "disk"), home, "", unix.MS_BIND, ""))
		must(t, w.all())
		must(t, os.WriteFile(filepath.Join(home, "db.env"), []byte("A=2"), 0o600))
		w.wantTold(t, "db")
		must(t, unix.Unmount(home, unix.MNT_DETACH))
		must(t, w.all())
		must(t, os.WriteFile(filepath.Join(home, "new.env"), []byte("A=2"), 0o600))
		w.wantTold(t, "new")
		must(t, os.Remove(filepath.Join(home, "new.env")))
	}
}

// wantTold waits for an event that is about a secret.
func (w *watches) wantTold(t *testing.T, secret string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for {
		select {
		case e := <-w.notifier.Events():
			found := &touched{names: map[source.Name]bool{}}
			if w.touch(found, e); found.names[source.Name{Environment: "prod", Secret: secret}] {
				return
			}
		case <-ctx.Done():
			t.Fatalf("nothing is told of %s", secret)
		}
	}
}

// What can be read alone is enough: on a read-only file system, and on a full one.
func TestReadOnlyDirectory(t *testing.T) {
	path := t.TempDir()
	defer mount(t, path, "db.env", "api/A")()
	must(t, unix.Mount("", path, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""))
	d := New(Options{Path: path, Environment: "prod"})
	if got := d.text("db") + d.text("api"); got != "A=1A=A=1" {
		t.Error(got)
	}
}
