package dir_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/purserd/purser/inject"
	"github.com/purserd/purser/inject/dir"
	"github.com/purserd/purser/inject/source"
	"github.com/purserd/purser/inject/store"
)

// write makes files with their directories: a path that ends in / is a directory, and
// content that begins with -> a link.
func write(t testing.TB, path string, files map[string]string) {
	t.Helper()
	for name, content := range files {
		at := filepath.Join(path, name)
		must(t, os.MkdirAll(filepath.Dir(at), 0o700))
		if target, ok := strings.CutPrefix(content, "->"); ok {
			must(t, os.Symlink(target, at))
		} else if strings.HasSuffix(name, "/") {
			must(t, os.MkdirAll(at, 0o700))
		} else {
			must(t, os.WriteFile(at, []byte(content), 0o600))
		}
	}
}

// get is a secret as text: its pairs in order, or the error.
func get(d *dir.Dir, environment, secret string) string {
	content, err := d.Get(context.Background(), source.Name{Environment: environment, Secret: secret}, "")
	if err != nil {
		return err.Error()
	}
	var pairs []string
	for key, value := range content.Data {
		pairs = append(pairs, key+"="+string(value.Reveal()))
	}
	slices.Sort(pairs)
	return strings.Join(pairs, " ")
}

func list(t testing.TB, d *dir.Dir) string {
	t.Helper()
	names, err := d.List(t.Context())
	must(t, err)
	var all []string
	for _, name := range names {
		all = append(all, name.Environment+"/"+name.Secret)
	}
	return strings.Join(all, " ")
}

func TestEntries(t *testing.T) {
	path := t.TempDir()
	write(t, path, map[string]string{
		"db/USER": "app", "db/PASSWORD": "x\n",
		"api.env": "A=1\n# no more\nexport B='2 3'\n", "j.json": `{"A": "1", "N": 1.50}`, "y.yaml": "A: 1\n", "y2.yml": "B: 2\n",
		"db-password": "one\n", "1st.key": "two", "elsewhere": "->" + filepath.Join(path, "..", "target"),
		"db/.USER.swp": "no", "db/USER~": "no", "db/#USER#": "no", "db/USER.tmp": "no", ".hidden": "no", "old.env~": "no", "x.env.swp": "no",
		"4913": "no", "lost+found/": "", "purser-identity": "AGE-SECRET-KEY-1",
		"k8s/..2026/KEY": "k", "k8s/..data": "->..2026", "k8s/KEY": "->..data/KEY",
		".env": "A=no", "dir.env/KEY": "v",
	})
	write(t, filepath.Dir(path), map[string]string{"target": "linked"})
	d := dir.New(dir.Options{Path: path, Environment: "prod", Ignore: []string{"purser-identity"}})
	if got, want := list(t, d), "prod/1st.key prod/api prod/db prod/db-password prod/dir.env prod/elsewhere prod/j prod/k8s prod/y prod/y2"; got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	for secret, want := range map[string]string{
		"db": "PASSWORD=x\n USER=app", "api": "A=1 B=2 3", "j": "A=1 N=1.50", "y": "A=1", "y2": "B=2",
		"db-password": "db_password=one\n", "1st.key": "_1st_key=two", "elsewhere": "elsewhere=linked", "k8s": "KEY=k", "dir.env": "KEY=v",
	} {
		if got := get(d, "prod", secret); got != want {
			t.Errorf("%s: got %q, want %q", secret, got, want)
		}
	}
	for _, secret := range []string{"purser-identity", ".hidden", "..", "", "api.env", "4913", "old", "db/USER", "../target"} {
		if _, err := d.Get(t.Context(), source.Name{Environment: "prod", Secret: secret}, ""); !errors.Is(err, inject.ErrNotFound) {
			t.Errorf("%q: got %v", secret, err)
		}
	}
}

func TestOptions(t *testing.T) {
	path := t.TempDir()
	write(t, path, map[string]string{"prod/a-db/A": "1", "prod/b-db/A": "2", "dev/a-db.env": "A=3", "file": "no", ".git/a-x/A": "no"})
	for _, test := range []struct {
		options dir.Options
		list    string
		name    source.Name
		want    string
	}{
		{dir.Options{Environment: "*"}, "dev/a-db prod/a-db prod/b-db", source.Name{Environment: "dev", Secret: "a-db"}, "A=3"},
		{dir.Options{Environment: "*", Prefix: "b-"}, "prod/b-db", source.Name{Environment: "prod", Secret: "b-db"}, "A=2"},
		{dir.Options{Path: "prod", Environment: "x", Prefix: "a-"}, "x/a-db", source.Name{Environment: "x", Secret: "a-db"}, "A=1"},
		{dir.Options{Path: "prod/a-db", Environment: "x", Secret: "s"}, "x/s", source.Name{Environment: "x", Secret: "s"}, "A=1"},
	} {
		test.options.Path = filepath.Join(path, test.options.Path)
		d := dir.New(test.options)
		if got := list(t, d); got != test.list {
			t.Errorf("%+v: got %s, want %s", test.options, got, test.list)
		}
		if got := get(d, test.name.Environment, test.name.Secret); got != test.want {
			t.Errorf("%+v: got %q, want %q", test.options, got, test.want)
		}
	}
}

// What is there and cannot be read is no absence, and the error names the file and no
// value.
func TestMistakes(t *testing.T) {
	path := t.TempDir()
	long := strings.Repeat("hunter2 ", store.MaxValue/8+1)
	half := long[:store.MaxSecret/2]
	write(t, path, map[string]string{
		"twice/A": "hunter2", "twice.env": "A=hunter2", "badkey/tls crt": "hunter2", "both/tls.crt": "hunter2", "both/tls_crt": "hunter2", "total/A": half, "total/B": half + "h", "nested/sub/A": "hunter2", "empty/": "",
		"dangling": "->nowhere", "inner/A": "->nowhere", "loop": "->loop", "long/A": long, "long.env": "",
		"huge": long, "text.env": "hunter2", "odd.json": `{"hunter2!": "x"}`, "none.json": "{}", "list.yaml": "- hunter2",
		"big.json": fmt.Sprintf("{%q: %q}", "A", long), "my secret/A": "hunter2",
	})
	must(t, os.Remove(filepath.Join(path, "long.env")))
	must(t, unix.Mkfifo(filepath.Join(path, "pipe"), 0o600))
	d := dir.New(dir.Options{Path: path, Environment: "prod"})
	for secret, want := range map[string][]string{
		"twice": {"twice, as", "twice.env"}, "badkey": {"badkey/tls crt", "no key", "rename"}, "both": {"both/tls.crt", "both/tls_crt", "one key", "rename"}, "total": {"total", "1048577", "1048576"}, "nested": {"nested/sub", "directory"}, "empty": {"empty", "no file"},
		"dangling": {"dangling", "no such file"}, "inner": {"inner/A", "no such file"}, "loop": {"loop", "too many"}, "long": {"long/A", "1048576"},
		"huge": {"huge", "1048576"}, "text": {"text.env", "not a key"}, "odd": {"odd.json", "not a key"}, "none": {"none.json", "no key"}, "list": {"list.yaml", "mapping"},
		"big": {"big.json", "value of A", "1048576"}, "pipe": {"pipe", "regular"}, "my secret": {"my secret", "no name"},
	} {
		t.Run(secret, func(t *testing.T) {
			t.Parallel()
			_, err := d.Get(t.Context(), source.Name{Environment: "prod", Secret: secret}, "")
			if err == nil || errors.Is(err, inject.ErrNotFound) || errors.Is(err, source.ErrUnavailable) {
				t.Fatalf("got %v", err)
			}
			for _, word := range want {
				if !strings.Contains(err.Error(), word) {
					t.Errorf("%q does not say %q", err, word)
				}
			}
			if strings.Contains(err.Error(), "hunter2") {
				t.Errorf("%q has a value", err)
			}
		})
	}
	if got := list(t, d); !strings.Contains(got, "prod/dangling") || !strings.Contains(got, "prod/my secret") {
		t.Errorf("got %s", got)
	}
}

// A directory that is missing, or no directory, is down: nothing is absent for that.
func TestDirectoryThatIsMissing(t *testing.T) {
	path := t.TempDir()
	write(t, path, map[string]string{"file": "", "envs/dev/db/A": "1"})
	for _, options := range []dir.Options{
		{Path: "none", Environment: "prod"}, {Path: "none", Environment: "prod", Secret: "db"}, {Path: "none", Environment: "*"},
		{Path: "file", Environment: "prod"}, {Path: "file/below", Environment: "prod"},
	} {
		options.Path = filepath.Join(path, options.Path)
		d := dir.New(options)
		if _, err := d.Get(t.Context(), source.Name{Environment: "prod", Secret: "db"}, ""); !errors.Is(err, source.ErrUnavailable) || errors.Is(err, inject.ErrNotFound) {
			t.Errorf("%+v: got %v", options, err)
		}
		if _, err := d.List(t.Context()); !errors.Is(err, source.ErrUnavailable) {
			t.Errorf("%+v: list: %v", options, err)
		}
	}
	// Of one environment, too, but not the others.
	d := dir.New(dir.Options{Path: filepath.Join(path, "envs"), Environment: "*"})
	if _, err := d.Get(t.Context(), source.Name{Environment: "prod", Secret: "db"}, ""); err == nil || errors.Is(err, inject.ErrNotFound) || errors.Is(err, source.ErrUnavailable) {
		t.Errorf("got %v", err)
	}
	if _, err := d.Get(t.Context(), source.Name{Environment: "dev", Secret: "none"}, ""); !errors.Is(err, inject.ErrNotFound) {
		t.Errorf("got %v", err)
	}
}

// A clock that was set back does not make files of the future be waited for.
func TestFileOfTheFuture(t *testing.T) {
	path := t.TempDir()
	write(t, path, map[string]string{"db/A": "1"})
	future := time.Now().Add(time.Hour)
	must(t, os.Chtimes(filepath.Join(path, "db", "A"), future, future))
	d := dir.New(dir.Options{Path: path, Environment: "prod"})
	if got := get(d, "prod", "db"); got != "A=1" {
		t.Errorf("got %q", got)
	}
}

// What may not be read is no absence, and is read when it may be.
func TestPermissions(t *testing.T) {
	path := t.TempDir()
	write(t, path, map[string]string{"db/A": "1"})
	must(t, os.Chmod(filepath.Dir(path), 0o755))
	d := dir.New(dir.Options{Path: path, Environment: "prod"})
	for _, at := range []string{"db/A", "db", "."} {
		at = filepath.Join(path, at)
		info, err := os.Stat(at)
		must(t, err)
		must(t, os.Chmod(at, 0))
		asNobody(t, func() {
			_, err := d.Get(context.Background(), source.Name{Environment: "prod", Secret: "db"}, "")
			if !errors.Is(err, fs.ErrPermission) || errors.Is(err, inject.ErrNotFound) || errors.Is(err, source.ErrUnavailable) != (at == path) {
				t.Errorf("%s: got %v", at, err)
			}
		})
		must(t, os.Chmod(at, info.Mode()|0o055))
	}
	must(t, os.Chmod(filepath.Join(path, "db", "A"), 0o644))
	asNobody(t, func() {
		if got := get(d, "prod", "db"); got != "A=1" {
			t.Errorf("got %q", got)
		}
	})
}

// asNobody does something without root's right to read everything.
func asNobody(t *testing.T, do func()) {
	t.Helper()
	if os.Geteuid() != 0 {
		do()
		return
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // for good: the thread ends with its rights
		if _, err := unix.SetfsuidRetUid(65534); err != nil {
			t.Error(err)
			return
		}
		do()
	}()
	<-done
}
