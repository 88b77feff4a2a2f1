package dir_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/purserd/purser/inject/dir"
	"github.com/purserd/purser/inject/source"
)

const patience = 20 * time.Second

// follower reads one secret whenever it is told to.
type follower struct {
	t    *testing.T
	seen chan string
}

// follow begins to watch a secret of prod, and has seen it once.
func follow(t *testing.T, d *dir.Dir, secret string) *follower {
	f := &follower{t: t, seen: make(chan string, 100_000)}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	due := make(chan struct{}, 1)
	go func() {
		done <- d.Watch(ctx, func(names ...source.Name) {
			for _, name := range names {
				if name.Secret == secret {
					names = nil
				}
			}
			if len(names) > 0 {
				return
			}
			select {
			case due <- struct{}{}:
			default:
			}
		})
	}()
	go func() {
		for {
			select {
			case <-due:
				f.seen <- get(d, "prod", secret)
			case <-ctx.Done():
				return
			}
		}
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("the watch ended with %v", err)
		}
	})
	f.until("") // it watches
	return f
}

// until waits until the secret is seen with a content; the first for "".
func (f *follower) until(want string) {
	f.t.Helper()
	last := "nothing"
	for timeout := time.After(patience); ; {
		select {
		case last = <-f.seen:
			if want == "" || last == want {
				return
			}
		case <-timeout:
			f.t.Fatalf("last seen is %s; want %s", last, want)
		}
	}
}

// Each change is found, whatever was changed before; none by looking at all now and then,
// which is done less often than a test waits.
func TestChangesAreFound(t *testing.T) {
	type change struct {
		do   func(t *testing.T, path string)
		want string
	}
	writes := func(files map[string]string) func(t *testing.T, path string) {
		return func(t *testing.T, path string) { write(t, path, files) }
	}
	renames := func(from, to string) func(t *testing.T, path string) {
		return func(t *testing.T, path string) {
			must(t, os.Rename(filepath.Join(path, from), filepath.Join(path, to)))
		}
	}
	removes := func(name string) func(t *testing.T, path string) {
		return func(t *testing.T, path string) { must(t, os.RemoveAll(filepath.Join(path, name))) }
	}
	relinks := func(target, name string) func(t *testing.T, path string) {
		return func(t *testing.T, path string) {
			next := filepath.Join(path, ".next")
			must(t, os.Symlink(target, next))
			must(t, os.Rename(next, filepath.Join(path, name)))
		}
	}
	all := func(changes ...func(t *testing.T, path string)) func(t *testing.T, path string) {
		return func(t *testing.T, path string) {
			for _, do := range changes {
				do(t, path)
			}
		}
	}
	const gone = "nothing in"
	for name, test := range map[string]struct {
		options dir.Options
		begin   map[string]string
		changes []change
	}{
		"a file is written in place": {dir.Options{Path: "s"}, map[string]string{"s/db/A": "1"}, []change{
			{writes(map[string]string{"s/db/A": "2"}), "A=2"}, {writes(map[string]string{"s/db/A": "3"}), "A=3"}, {writes(map[string]string{"s/db/B": "4"}), "A=3 B=4"},
			{removes("s/db/A"), "B=4"},
		}},
		"a file is renamed over": {dir.Options{Path: "s"}, map[string]string{"s/db.env": "A=1"}, []change{
			{all(writes(map[string]string{"s/.x": "A=2"}), renames("s/.x", "s/db.env")), "A=2"},
			{all(writes(map[string]string{"x": "A=3"}), renames("x", "s/db.env")), "A=3"},
			{all(writes(map[string]string{"s/db.env~": "A=4"}), renames("s/db.env~", "s/db.env")), "A=4"}, // as editors do
		}},
		"an editor moves the file away first": {dir.Options{Path: "s"}, map[string]string{"s/db.yaml": "A: 1"}, []change{
			{all(renames("s/db.yaml", "s/db.yaml~"), writes(map[string]string{"s/db.yaml": "A: 2"})), "A=2"},
			{all(renames("s/db.yaml", "s/db.yaml~"), writes(map[string]string{"s/db.yaml": "A: 3"})), "A=3"},
		}},
		"a directory is removed and made again": {dir.Options{Path: "s"}, map[string]string{"s/db/A": "1"}, []change{
			{removes("s/db"), gone}, {writes(map[string]string{"s/db/A": "2"}), "A=2"}, {writes(map[string]string{"s/db/A": "3"}), "A=3"},
			{all(removes("s/db"), writes(map[string]string{"s/db/A": "4"})), "A=4"}, {writes(map[string]string{"s/db/A": "5"}), "A=5"},
		}},
		"a directory is renamed": {dir.Options{Path: "s"}, map[string]string{"s/db/A": "1", "s/.db2/A": "2"}, []change{
			{all(renames("s/db", "s/.db1"), renames("s/.db2", "s/db")), "A=2"}, {writes(map[string]string{"s/db/A": "3"}), "A=3"},
		}},
		"it was not there": {dir.Options{Path: "a/b/s"}, nil, []change{
			{writes(map[string]string{"a/b/": ""}), "cannot be read"}, {writes(map[string]string{"a/b/s/db/A": "1"}), "A=1"}, {writes(map[string]string{"a/b/s/db/A": "2"}), "A=2"},
		}},
		"the whole is removed and made again": {dir.Options{Path: "a/s"}, map[string]string{"a/s/db/A": "1"}, []change{
			{removes("a/s"), "cannot be read"}, {writes(map[string]string{"a/s/db/A": "2"}), "A=2"},
			{removes("a"), "cannot be read"}, {writes(map[string]string{"a/s/db/A": "3"}), "A=3"}, {writes(map[string]string{"a/s/db/A": "4"}), "A=4"},
		}},
		"the whole is replaced": {dir.Options{Path: "s"}, map[string]string{"s/db/A": "1", "s2/db/A": "2"}, []change{
			{all(renames("s", "s1"), renames("s2", "s")), "A=2"}, {writes(map[string]string{"s/db/A": "3"}), "A=3"},
			{exchange("s", "s1"), "A=1"}, {writes(map[string]string{"s/db/A": "4"}), "A=4"},
		}},
		"a link leads elsewhere": {dir.Options{Path: "current"}, map[string]string{"v1/db/A": "1", "v2/db/A": "2", "current": "->v1"}, []change{
			{relinks("v2", "current"), "A=2"}, {writes(map[string]string{"v2/db/A": "3"}), "A=3"}, {relinks("v1", "current"), "A=1"},
		}},
		"a secret is a link": {dir.Options{Path: "s"}, map[string]string{"v1/A": "1", "v2/A": "2", "s/db": "->../v1"}, []change{
			{writes(map[string]string{"v1/A": "1.1"}), "A=1.1"}, {relinks("../v2", "s/db"), "A=2"}, {writes(map[string]string{"v2/B": "3"}), "A=2 B=3"},
		}},
		"a key is a link": {dir.Options{Path: "s"}, map[string]string{"v/key": "1", "s/db/A": "->../../v/key"}, []change{
			{writes(map[string]string{"v/key": "2"}), "A=2"}, {all(writes(map[string]string{"v/x": "3"}), renames("v/x", "v/key")), "A=3"},
		}},
		"a file is a link": {dir.Options{Path: "s"}, map[string]string{"v/db.env": "A=1", "s/db.env": "->../v/db.env"}, []change{
			{writes(map[string]string{"v/db.env": "A=2"}), "A=2"}, {removes("v/db.env"), "no such file"}, {writes(map[string]string{"v/db.env": "A=3"}), "A=3"},
		}},
		"a volume of Kubernetes": {dir.Options{Path: "s"}, map[string]string{"s/db/..1/A": "1", "s/db/..data": "->..1", "s/db/A": "->..data/A"}, []change{
			{all(writes(map[string]string{"s/db/..2/A": "2"}), relinks("..2", "s/db/..data"), removes("s/db/..1")), "A=2"},
			{all(writes(map[string]string{"s/db/..3/B": "3"}), relinks("..3", "s/db/..data"), removes("s/db/..2")), "B=3"},
		}},
		"a volume is the whole": {dir.Options{Path: "s", Secret: "db"}, map[string]string{"s/..1/A": "1", "s/..data": "->..1", "s/A": "->..data/A"}, []change{
			{all(writes(map[string]string{"s/..2/A": "2"}), relinks("..2", "s/..data"), removes("s/..1")), "A=2"},
			{all(writes(map[string]string{"s/..3/A": "3"}), relinks("..3", "s/..data"), removes("s/..2")), "A=3"},
		}},
		"a volume of secrets": {dir.Options{Path: "s"}, map[string]string{"s/..1/db": "1", "s/..data": "->..1", "s/db": "->..data/db"}, []change{
			{all(writes(map[string]string{"s/..2/db": "2"}), relinks("..2", "s/..data"), removes("s/..1")), "db=2"},
			{all(writes(map[string]string{"s/..3/db": "3"}), relinks("..3", "s/..data"), removes("s/..2")), "db=3"},
		}},
		"environments": {dir.Options{Path: "s", Environment: "*"}, map[string]string{"s/dev/db/A": "0"}, []change{
			{writes(map[string]string{"s/prod/db/A": "1"}), "A=1"}, {writes(map[string]string{"s/prod/db/A": "2"}), "A=2"}, {removes("s/prod"), "no such file"},
			{writes(map[string]string{"s/prod/db.env": "A=3"}), "A=3"}, {removes("s/prod/db.env"), gone},
		}},
		"it may be read again": {dir.Options{Path: "s"}, map[string]string{"s/db/A": "1"}, []change{
			{writes(map[string]string{"s/db/sub/": ""}), "a directory"}, {removes("s/db/sub"), "A=1"}, {writes(map[string]string{"s/db.env": "A=2"}), "there twice"},
			{removes("s/db"), "A=2"},
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := t.TempDir()
			write(t, path, test.begin)
			test.options.Path = filepath.Join(path, test.options.Path)
			if test.options.Environment == "" {
				test.options.Environment = "prod"
			}
			f := follow(t, dir.New(test.options), "db")
			for _, c := range test.changes {
				c.do(t, path)
				f.untilLike(c.want)
			}
		})
	}
}

// untilLike is until for a content, or a part of an error.
func (f *follower) untilLike(want string) {
	f.t.Helper()
	last := "nothing"
	for timeout := time.After(patience); ; {
		select {
		case last = <-f.seen:
			if last == want || !strings.Contains(want, "=") && strings.Contains(last, want) {
				return
			}
		case <-timeout:
			f.t.Fatalf("last seen is %s; want %s", last, want)
		}
	}
}

func exchange(a, b string) func(t *testing.T, path string) {
	return func(t *testing.T, path string) {
		must(t, unix.Renameat2(unix.AT_FDCWD, filepath.Join(path, a), unix.AT_FDCWD, filepath.Join(path, b), unix.RENAME_EXCHANGE))
	}
}

// What is written in place again and again is never seen half, and is seen whenever it is
// left alone.
func TestWritesWhileReading(t *testing.T) {
	path := t.TempDir()
	long := func(i int) string { return strings.Repeat(fmt.Sprintf("%08d", i), 20_000) }
	write(t, path, map[string]string{"db/A": long(0)})
	f := follow(t, dir.New(dir.Options{Path: path, Environment: "prod"}), "db")
	for i := range 60 {
		file, err := os.OpenFile(filepath.Join(path, "db", "A"), os.O_WRONLY|os.O_TRUNC, 0)
		must(t, err)
		content := long(i)
		for len(content) > 0 { // in pieces
			n := min(len(content), 30_000)
			_, err := file.WriteString(content[:n])
			must(t, err)
			content = content[n:]
		}
		must(t, file.Close())
		if i%6 == 5 {
			f.untilWhole(long(i))
		}
	}
}

// untilWhole is until for a value of eight letters again and again; none of another kind
// is to be seen before.
func (f *follower) untilWhole(want string) {
	f.t.Helper()
	for timeout := time.After(patience); ; {
		select {
		case got := <-f.seen:
			value, ok := strings.CutPrefix(got, "A=")
			switch {
			case !ok && !strings.Contains(got, "written all the time"):
				f.t.Fatal(got)
			case ok && (len(value) != len(want) || strings.Repeat(value[:8], len(want)/8) != value):
				f.t.Fatalf("half written: %d bytes that begin with %.8s", len(value), value)
			case value == want:
				return
			}
		case <-timeout:
			f.t.Fatal("the last is not seen")
		}
	}
}

// More happens than the kernel has room for.
func TestQueueThatOverflows(t *testing.T) {
	path := t.TempDir()
	write(t, path, map[string]string{"a/A": "1", "b/A": "1"})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	told, blocked := make(chan []source.Name), make(chan struct{})
	done := make(chan error, 1)
	d := dir.New(dir.Options{Path: path, Environment: "prod"})
	go func() {
		done <- d.Watch(ctx, func(names ...source.Name) {
			select {
			case told <- names:
			case <-ctx.Done():
			}
			<-blocked
		})
	}()
	<-told // and is held up from here on
	var files []*os.File
	for _, name := range []string{"a/A", "b/A"} {
		file, err := os.OpenFile(filepath.Join(path, name), os.O_WRONLY, 0)
		must(t, err)
		defer file.Close()
		files = append(files, file)
	}
	for i := range 40_000 { // in turn, lest events be merged
		_, err := files[i%2].WriteAt([]byte("2"), 0)
		must(t, err)
	}
	close(blocked)
	for timeout := time.After(patience); ; {
		select {
		case names := <-told:
			if len(names) == 0 {
				cancel()
				<-done
				return
			}
		case err := <-done:
			t.Fatal(err)
		case <-timeout:
			t.Fatal("it does not say to look at all")
		}
	}
}
