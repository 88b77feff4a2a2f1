package watch

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// A change is told of once, when nothing has happened for a while, and in any case
// after a longer one.
func TestDebounce(t *testing.T) {
	const ms = time.Millisecond
	for name, test := range map[string]struct {
		touches []time.Duration // since the start
		want    string
	}{
		"one":             {[]time.Duration{0}, "200ms"},
		"a burst":         {[]time.Duration{0, 1 * ms, 50 * ms, 249 * ms, 250 * ms}, "450ms"},
		"two":             {[]time.Duration{0, 300 * ms}, "200ms 500ms"},
		"just in time":    {[]time.Duration{0, 199 * ms, 398 * ms}, "598ms"},
		"without an end":  {every(90*ms, 45), "2s 4.07s"},
		"long afterwards": {[]time.Duration{0, time.Hour}, "200ms 1h0m0.2s"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				start := time.Now()
				d := newDebouncer(quiet, longest)
				touch := make(chan struct{})
				go func() {
					for _, at := range test.touches {
						<-time.After(time.Until(start.Add(at)))
						touch <- struct{}{}
					}
					<-time.After(time.Hour)
					close(touch)
				}()
				var got []string
				for {
					select {
					case _, more := <-touch:
						if !more {
							if text := strings.Join(got, " "); text != test.want {
								t.Errorf("told at %s, want %s", text, test.want)
							}
							return
						}
						d.touch()
					case <-d.timer.C:
						d.over()
						got = append(got, time.Since(start).String())
					}
				}
			})
		})
	}
}

func every(pause time.Duration, times int) []time.Duration {
	var all []time.Duration
	for i := range times {
		all = append(all, time.Duration(i)*pause)
	}
	return all
}

func TestWay(t *testing.T) {
	dir := realDir(t)
	must(t, os.MkdirAll(filepath.Join(dir, "real/..v1"), 0o700))
	must(t, os.Symlink("..v1", filepath.Join(dir, "real/..data")))
	must(t, os.Symlink("..data/app.yaml", filepath.Join(dir, "real/app.yaml")))
	must(t, os.Symlink(filepath.Join(dir, "real"), filepath.Join(dir, "link")))
	must(t, os.Symlink("loop", filepath.Join(dir, "loop")))
	for path, want := range map[string]string{
		"link/app.yaml":         "[link real] real[app.yaml ..data ..v1] real/..v1[app.yaml] last real/..v1",
		"link/../x":             "[link real x] last ",
		"none/deep/app.yaml":    "[none] none[deep] none/deep[app.yaml] last none/deep",
		"real//./..v1/app.yaml": "[real] real[..v1] real/..v1[app.yaml] last real/..v1",
	} {
		names, last := way(dir + "/" + path)
		var got []string
		for _, d := range []string{"", "/real", "/real/..v1", "/none", "/none/deep"} {
			if n := names[dir+d]; len(n) > 0 {
				got = append(got, strings.TrimPrefix(d, "/")+fmt.Sprint(n))
			}
		}
		got = append(got, "last "+strings.TrimPrefix(strings.TrimPrefix(last, dir), "/"))
		if text := strings.Join(got, " "); text != want {
			t.Errorf("%s: %s, want %s", path, text, want)
		}
	}
	if names, _ := way(dir + "/loop"); len(names[dir]) != mostLinks+1 {
		t.Errorf("a link to itself was followed %d times", len(names[dir])-1)
	}
}

func realDir(t *testing.T) string {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	must(t, err)
	return dir
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// Every way to save a file is seen, with what is in it afterwards.
func TestSaves(t *testing.T) {
	write := func(t *testing.T, path, text string) { must(t, os.WriteFile(path, []byte(text), 0o600)) }
	for name, save := range map[string]func(t *testing.T, dir string){
		"in place": func(t *testing.T, dir string) { write(t, dir+"/d/f", "new") },
		"renamed over": func(t *testing.T, dir string) {
			write(t, dir+"/d/f.tmp", "new")
			must(t, os.Rename(dir+"/d/f.tmp", dir+"/d/f"))
		},
		"moved away and written": func(t *testing.T, dir string) {
			must(t, os.Rename(dir+"/d/f", dir+"/d/f~"))
			write(t, dir+"/d/f", "new")
			must(t, os.Remove(dir+"/d/f~"))
		},
		"directory replaced": func(t *testing.T, dir string) {
			must(t, os.Mkdir(dir+"/e", 0o700))
			write(t, dir+"/e/f", "new")
			must(t, os.Rename(dir+"/d", dir+"/old"))
			must(t, os.Rename(dir+"/e", dir+"/d"))
		},
		"directory made anew": func(t *testing.T, dir string) {
			must(t, os.RemoveAll(dir+"/d"))
			must(t, os.Mkdir(dir+"/d", 0o700))
			write(t, dir+"/d/f", "new")
		},
		"replaced by a link": func(t *testing.T, dir string) {
			write(t, dir+"/g", "new")
			must(t, os.Symlink("../g", dir+"/d/l"))
			must(t, os.Rename(dir+"/d/l", dir+"/d/f"))
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := realDir(t)
			must(t, os.Mkdir(dir+"/d", 0o700))
			write(t, dir+"/d/f", "old")
			f, err := New(dir + "/d/f")
			must(t, err)
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan error)
			go func() { ended <- f.Run(ctx) }()
			save(t, dir)
			awaitText(t, f, dir+"/d/f", "new")
			// Seen again wherever the file is by now.
			write(t, dir+"/d/f", "newer")
			awaitText(t, f, dir+"/d/f", "newer")
			cancel()
			must(t, <-ended)
		})
	}
}

// Swaps of ..data, as Kubernetes does them, are seen.
func TestSwaps(t *testing.T) {
	dir := realDir(t)
	version := func(n int) {
		name := fmt.Sprintf("..v%d", n)
		must(t, os.Mkdir(filepath.Join(dir, name), 0o700))
		must(t, os.WriteFile(filepath.Join(dir, name, "f"), []byte(name), 0o600))
		must(t, os.Symlink(name, filepath.Join(dir, "..tmp")))
		must(t, os.Rename(filepath.Join(dir, "..tmp"), filepath.Join(dir, "..data")))
	}
	version(1)
	must(t, os.Symlink("..data/f", filepath.Join(dir, "f")))
	f, err := New(filepath.Join(dir, "f"))
	must(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- f.Run(ctx) }()
	for n := 2; n < 5; n++ {
		version(n)
		awaitText(t, f, filepath.Join(dir, "f"), fmt.Sprintf("..v%d", n))
		must(t, os.RemoveAll(filepath.Join(dir, fmt.Sprintf("..v%d", n-1))))
	}
	cancel()
	must(t, <-ended)
}

// awaitText waits for a change after which the file has a text.
func awaitText(t *testing.T, f *File, path, want string) {
	t.Helper()
	timeout := time.After(20 * time.Second)
	for {
		select {
		case <-f.Changed():
		case <-timeout:
			t.Fatalf("no change after which it has %q", want)
		}
		if data, _ := os.ReadFile(path); string(data) == want {
			return
		}
	}
}

// What happens beside the file is no change of it.
func TestNoise(t *testing.T) {
	dir := realDir(t)
	f, err := New(dir + "/f")
	must(t, err)
	defer f.watcher.Close()
	for _, name := range []string{".f.swp", "f~", "4913", ".#f", "other", "f/x"} {
		if f.concerns(filepath.Join(dir, name)) {
			t.Errorf("%s is taken for the file", name)
		}
	}
	if !f.concerns(filepath.Join(dir, "f")) || !f.concerns(dir) {
		t.Error("the file, or its directory, is not taken for it")
	}
}

func TestNoDirectory(t *testing.T) {
	if _, err := New(filepath.Join(t.TempDir(), "none", "f")); err == nil || !strings.Contains(err.Error(), "no such directory") {
		t.Errorf("watching in no directory: %v", err)
	}
}
