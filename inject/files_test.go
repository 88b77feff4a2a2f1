package inject_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/compose-spec/compose-go/v2/dotenv"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	purserv1 "github.com/purserd/purser/api/purser/v1"
	"github.com/purserd/purser/inject"
)

func inFile(path, format string) func(*purserv1.SecretRef) {
	return func(r *purserv1.SecretRef) {
		r.File = &purserv1.SecretFile{Path: &path, Format: &format}
	}
}

func notInEnv(r *purserv1.SecretRef) { r.Env = proto.Bool(false) }

// layout is what directories hold, in words.
func layout(all []inject.Directory) string {
	var words []string
	for _, d := range all {
		word := d.Target
		if d.Private {
			word += "!"
		}
		for _, f := range d.Files {
			word += " " + f.Name
		}
		for _, name := range d.Within {
			word += " " + name + "/"
		}
		words = append(words, word)
	}
	return strings.Join(words, "; ")
}

func TestDirectories(t *testing.T) {
	source := memory{"s": {version(1, "A=1", "B=2")}, "t": {version(1, "B=3", "C=4")}, "binary": {version(1, "X=\xff", "N=a\x00b")}, "quotes": {version(1, "Q=a'b`c")}}
	for name, c := range map[string]struct {
		refs []*purserv1.SecretRef
		want string // the layout, or a part of the error
	}{
		"a file a key":         {[]*purserv1.SecretRef{ref("s", inFile("/run/s", "keys"))}, "/run/s A B"},
		"some, renamed":        {[]*purserv1.SecretRef{ref("s", inFile("/run/s", "keys"), renamed(map[string]string{"B": "other"}))}, "/run/s other"},
		"one file":             {[]*purserv1.SecretRef{ref("s", inFile("/run/s.json", "json"))}, "/run! s.json"},
		"files side by side":   {[]*purserv1.SecretRef{ref("t", inFile("/run/t.env", "dotenv")), ref("s", inFile("/run/s.json", "json"))}, "/run! s.json t.env"},
		"named as programs do": {[]*purserv1.SecretRef{ref("s", inFile("/run/s", "keys"), renamed(map[string]string{"A": "tls.crt", "B": ".b-1"}), notInEnv)}, "/run/s .b-1 tls.crt"},
		"a directory in one":   {[]*purserv1.SecretRef{ref("s", inFile("/run/x/keys", "keys")), ref("t", inFile("/run/t.json", "json"))}, "/run! t.json x/keys/; /run/x/keys A B"},
		"names that are alike": {[]*purserv1.SecretRef{ref("s", inFile("/run/a", "keys")), ref("t", inFile("/run/ab", "keys"))}, "/run/a A B; /run/ab B C"},
		"two in one directory": {[]*purserv1.SecretRef{ref("s", inFile("/run/s", "keys"), renamed(map[string]string{"A": "A"})), ref("t", inFile("/run/s", "keys"))}, "/run/s A B C"},
		"binary":               {[]*purserv1.SecretRef{ref("binary", inFile("/run/b", "keys"), notInEnv)}, "/run/b N X"},
		"optional":             {[]*purserv1.SecretRef{ref("none", inFile("/run/b", "keys"), optional)}, ""},

		"one name twice":    {[]*purserv1.SecretRef{ref("s", inFile("/run/s", "keys")), ref("t", inFile("/run/s", "keys"))}, "key B of secret t cannot be the file /run/s/B: secret s has a file of that name"},
		"a file in the way": {[]*purserv1.SecretRef{ref("s", inFile("/run/A/x", "keys")), ref("t", inFile("/run/A", "json"))}, "secret t cannot be the file /run/A: the files of secret s are to be in /run/A/x"},
		"binary as JSON":    {[]*purserv1.SecretRef{ref("binary", inFile("/run/b", "json"), notInEnv, renamed(map[string]string{"X": "X"}))}, "secret binary cannot be the file /run/b: key X is not UTF-8"},
		"NUL in dotenv":     {[]*purserv1.SecretRef{ref("binary", inFile("/run/b", "dotenv"), notInEnv, renamed(map[string]string{"N": "N"}))}, "key N contains a NUL byte"},
		"no agreed form":    {[]*purserv1.SecretRef{ref("quotes", inFile("/run/q", "dotenv"), notInEnv)}, "key Q has a backtick and a single quote"},
		"binary in env":     {[]*purserv1.SecretRef{ref("binary", inFile("/run/b", "keys"))}, "cannot be the environment variable N"},
	} {
		r, err := inject.Resolve(t.Context(), source, inject.Request{Environment: "dev", Refs: c.refs})
		if err != nil {
			if !strings.Contains(err.Error(), c.want) || c.want == "" {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		if got := layout(r.Directories); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}

// A secret that is delivered in files alone sets no variable.
func TestFilesWithoutVariables(t *testing.T) {
	r, err := inject.Resolve(t.Context(), memory{"s": {version(1, "A=1")}}, inject.Request{
		Environment: "dev", Refs: []*purserv1.SecretRef{ref("s", inFile("/run/s", "keys"), notInEnv)},
	})
	if err != nil || r.SetsVariables() || len(r.Secrets) != 1 || len(r.Secrets[0].Vars) != 0 || len(r.Directories) != 1 {
		t.Errorf("%+v, %v", r, err)
	}
}

// write resolves one secret to a file and returns what is in it.
func write(t *testing.T, dir, format string, data map[string]string) string {
	t.Helper()
	secret := version(1)
	for key, value := range data {
		secret.Data[key] = inject.NewValue([]byte(value))
	}
	r, err := inject.Resolve(t.Context(), memory{"s": {secret}}, inject.Request{
		Environment: "dev", Refs: []*purserv1.SecretRef{ref("s", inFile("/run/file", format), notInEnv)},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Directories[0].Write(dir, uint32(os.Getuid()), uint32(os.Getgid())); err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(filepath.Join(dir, "file"))
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

// values are of the kinds that quoting goes wrong with.
var values = rapid.MapOfN(rapid.StringMatching(`[A-Z][A-Z_0-9]{0,6}`),
	rapid.OneOf(rapid.StringMatching("[ -~\n\t]{0,20}"), rapid.StringMatching("['\"$`\\\\#\n ={}!]{0,8}"), rapid.StringMatching("[<>&\u2028äß€]{0,6}")), 0, 5)

func TestJSONFile(t *testing.T) {
	dir := t.TempDir()
	rapid.Check(t, func(rt *rapid.T) {
		data := values.Draw(rt, "data")
		var got map[string]string
		if err := json.Unmarshal([]byte(write(t, dir, "json", data)), &got); err != nil || fmt.Sprint(got) != fmt.Sprint(data) {
			rt.Errorf("%v, %v", got, err)
		}
	})
}

// What is written is read back alike by a library for such files and by a shell.
func TestDotenvFile(t *testing.T) {
	dir := t.TempDir()
	rapid.Check(t, func(rt *rapid.T) {
		data := values.Draw(rt, "data")
		for name, value := range data {
			if strings.Contains(value, "`") && (strings.Contains(value, "'") || strings.HasSuffix(value, `\`)) {
				delete(data, name) // may be refused
			}
		}
		text := write(t, dir, "dotenv", data)
		script := `. "$1"; shift; for k; do eval "printf '%s\0' \"\$$k\""; done`
		names := sorted(data)
		out, err := exec.Command("sh", append([]string{"-c", script, "sh", filepath.Join(dir, "file")}, names...)...).Output()
		want := ""
		for _, name := range names {
			want += data[name] + "\x00"
		}
		if err != nil || string(out) != want {
			rt.Errorf("sh reads %q, not %q: %v; of\n%s", out, want, err, text)
		}
		got, err := dotenv.Parse(strings.NewReader(text))
		if err != nil || fmt.Sprint(got) != fmt.Sprint(data) {
			rt.Errorf("compose reads %q, not %q: %v; of\n%s", got, data, err, text)
		}
	})
}

func sorted(data map[string]string) []string {
	var names []string
	for name := range data {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

func directory(pairs ...string) inject.Directory {
	d := inject.Directory{Target: "/run/s"}
	for _, pair := range pairs {
		name, value, _ := strings.Cut(pair, "=")
		d.Files = append(d.Files, inject.File{Name: name, Content: inject.NewValue([]byte(value)), Mode: 0o440})
	}
	return d
}

// names are those in a directory that a container would use.
func names(t *testing.T, dir string) string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), "..") {
			all = append(all, e.Name())
		}
	}
	return strings.Join(all, " ")
}

func TestWrite(t *testing.T) {
	dir := t.TempDir()
	own := func(d inject.Directory) {
		t.Helper()
		if err := d.Write(dir, uint32(os.Getuid()), uint32(os.Getgid())); err != nil {
			t.Fatal(err)
		}
	}
	first := directory("A=1", "B=2")
	first.Within = []string{"x/keys"}
	own(first)
	info, err := os.Stat(filepath.Join(dir, "A"))
	if err != nil || info.Mode() != 0o440 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	if got := names(t, dir); got != "A B x" {
		t.Errorf("names %q", got)
	}
	own(directory("D=4"))
	own(directory("B=3", "C=4"))
	if got := names(t, dir); got != "B C x" {
		t.Errorf("names %q", got)
	}
	if got, err := os.ReadFile(filepath.Join(dir, "B")); err != nil || string(got) != "3" {
		t.Errorf("%q, %v", got, err)
	}
	left, err := filepath.Glob(filepath.Join(dir, "..*"))
	if err != nil || len(left) != 3 {
		t.Errorf("left: %v, %v", left, err)
	}
}

// A write that fails changes nothing.
func TestWriteFails(t *testing.T) {
	dir := t.TempDir()
	write := func(d inject.Directory) error { return d.Write(dir, uint32(os.Getuid()), uint32(os.Getgid())) }
	if err := write(directory("A=1", "B=2")); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "Y"), 0o700); err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := write(directory("B=3", "X=4", "Y=5")); !errors.Is(err, fs.ErrExist) {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"A": "1", "B": "2"} {
		if got, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(got) != want {
			t.Errorf("%s is %q, %v", name, got, err)
		}
	}
	if after, err := os.ReadDir(dir); err != nil || fmt.Sprint(after) != fmt.Sprint(before) {
		t.Errorf("%v, %v; it was %v", after, err, before)
	}
	if err := os.Remove(filepath.Join(dir, "Y")); err != nil {
		t.Fatal(err)
	}
	if err := write(directory("B=3", "X=4", "Y=5")); err != nil || names(t, dir) != "B X Y" {
		t.Errorf("%v; names %q", err, names(t, dir))
	}
}

// Whoever reads while files are replaced sees the old ones or the new ones, all of
// them.
func TestWriteIsAtOneMoment(t *testing.T) {
	dir := t.TempDir()
	numbered := func(n int) inject.Directory { return directory(fmt.Sprintf("A=%d", n), fmt.Sprintf("B=%d", n)) }
	rewrite := func(n int) {
		if err := numbered(n).Write(dir, uint32(os.Getuid()), uint32(os.Getgid())); err != nil {
			t.Error(err)
		}
	}
	rewrite(0)
	var writing sync.WaitGroup
	done := make(chan struct{})
	writing.Go(func() {
		for n := range 300 {
			rewrite(n)
		}
		close(done)
	})
	for reads := 0; ; reads++ {
		// As a program does that wants files that belong together.
		data, err := os.Readlink(filepath.Join(dir, "..data"))
		if err != nil {
			t.Fatal(err)
		}
		a, errA := os.ReadFile(filepath.Join(dir, data, "A"))
		b, errB := os.ReadFile(filepath.Join(dir, data, "B"))
		if errA == nil && errB == nil && string(a) != string(b) {
			t.Fatalf("A is %s, B %s", a, b)
		}
		_, err = os.ReadFile(filepath.Join(dir, "A"))
		if errors.Is(err, fs.ErrNotExist) { // two replacements while it was opened
			_, err = os.ReadFile(filepath.Join(dir, "A"))
		}
		if err != nil {
			t.Fatalf("A is away: %v", err)
		}
		select {
		case <-done:
			writing.Wait()
			if reads < 10 {
				t.Errorf("%d reads show nothing", reads)
			}
			return
		default:
		}
	}
}
