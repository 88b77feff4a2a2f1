package dir

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/purserd/purser/inject/source"
)

// restless is a directory in which something is done each time that it is waited for it
// to come to rest.
func restless(t *testing.T, do func(path string, i int) error) (d *Dir, path string) {
	t.Helper()
	path = t.TempDir()
	must(t, os.Mkdir(filepath.Join(path, "db"), 0o700))
	d = New(Options{Path: path, Environment: "prod"})
	i := 0
	d.wait = func(context.Context, time.Duration) error {
		i++
		return do(path, i)
	}
	for _, name := range []string{"db/A", "db/B", "one"} {
		must(t, overwrite(filepath.Join(path, name), "0", 0))
	}
	return d, path
}

// overwrite writes in place, at a later time than before, as a file system's clock goes in
// steps; and in the future, where a time tells nothing of rest, lest a slow machine be some.
func overwrite(path, content string, i int) error {
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		return err
	}
	at := time.Now().Add(time.Hour + time.Duration(i)*time.Second)
	return os.Chtimes(path, at, at)
}

// replace puts another file in the place of one.
func replace(path, content string, i int) error {
	next := filepath.Join(filepath.Dir(path), ".next")
	if err := overwrite(next, content, i); err != nil {
		return err
	}
	return os.Rename(next, path)
}

func (d *Dir) text(secret string) string {
	content, err := d.Get(context.Background(), source.Name{Environment: "prod", Secret: secret}, "")
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

func TestFilesThatAreWrittenAllTheTime(t *testing.T) {
	const refused = "written all the time"
	whole := func(i int) string { return strings.Repeat(fmt.Sprint(i%10), 100+i) }
	for name, test := range map[string]struct {
		secret string
		do     func(path string, i int) error
		want   string
	}{
		"one, replaced": {"one", func(path string, i int) error { return replace(filepath.Join(path, "one"), whole(i), i) }, "one=" + whole(18)},
		"one, in place": {"one", func(path string, i int) error { return overwrite(filepath.Join(path, "one"), whole(i), i) }, refused},
		"one, in place, half at times": {"one", func(path string, i int) error {
			return overwrite(filepath.Join(path, "one"), "whole"[:5-3*(i%2)], i)
		}, refused},
		"one of two, replaced": {"db", func(path string, i int) error { return replace(filepath.Join(path, "db", "A"), fmt.Sprint(i), i) }, refused},
		"two in turn, replaced": {"db", func(path string, i int) error {
			return replace(filepath.Join(path, "db", string("AB"[i%2])), fmt.Sprint(i/2), i)
		}, refused},
		"two, and then at rest": {"db", func(path string, i int) error {
			if i > 12 {
				return nil
			}
			return replace(filepath.Join(path, "db", string("AB"[i%2])), fmt.Sprint(i/2), i)
		}, "A=6 B=5"},
		"one, in place, and then at rest": {"one", func(path string, i int) error {
			if i > 12 {
				return nil
			}
			return overwrite(filepath.Join(path, "one"), fmt.Sprint(i), i)
		}, "one=12"},
	} {
		t.Run(name, func(t *testing.T) {
			d, path := restless(t, test.do)
			got := d.text(test.secret)
			if got != test.want && (test.want != refused || !strings.Contains(got, refused)) {
				t.Errorf("got %q, want %q", got, test.want)
			}
			if test.want != refused {
				return
			}
			for _, word := range []string{filepath.Join(path, test.secret), "rename"} {
				if !strings.Contains(got, word) {
					t.Errorf("%q does not say %q", got, word)
				}
			}
		})
	}
}

// A file that somebody has open to write to it is read when they have closed it, however
// long they pause.
func TestFileThatIsOpenForWriting(t *testing.T) {
	var file *os.File
	closed := false
	d, path := restless(t, func(_ string, i int) error {
		if i < 15 || closed {
			return nil
		}
		closed = true
		_, err := file.WriteString("=whole\n")
		return errors.Join(err, file.Close())
	})
	var err error
	file, err = os.Create(filepath.Join(path, "open.env"))
	must(t, err)
	_, err = file.WriteString("A=half")
	must(t, err)
	if got := d.text("open"); got != "A=half=whole" || !closed {
		t.Errorf("got %q", got)
	}
}

// Who never closes it is told to.
func TestFileThatStaysOpenForWriting(t *testing.T) {
	d, path := restless(t, func(string, int) error { return nil })
	file, err := os.OpenFile(filepath.Join(path, "one"), os.O_WRONLY, 0)
	must(t, err)
	defer file.Close()
	if got := d.text("one"); !strings.Contains(got, "is open in a process") || !strings.Contains(got, "rename it") {
		t.Errorf("got %q", got)
	}
}

// Who writes into a directory file after file is given the time.
func TestDirectoryThatIsBeingFilled(t *testing.T) {
	want := "A=0 B=0"
	d, _ := restless(t, func(path string, i int) error {
		if i > 10 {
			return nil
		}
		want += fmt.Sprintf(" C%02d=1", i)
		return overwrite(filepath.Join(path, "db", fmt.Sprintf("C%02d", i)), "1", i)
	})
	if got := d.text("db"); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
