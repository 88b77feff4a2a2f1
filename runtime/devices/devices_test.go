package devices_test

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"go.uber.org/goleak"

	"github.com/purserd/purser/runtime/devices"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// zero is a specification with one device that is a copy of /dev/zero.
const zero = `cdiVersion: "0.6.0"
kind: example.com/zero
containerEdits: {env: [ALL=1]}
devices:
  - name: "0"
    containerEdits:
      env: [ZERO=%s]
      deviceNodes: [{path: /dev/copy, hostPath: /dev/zero}]
  - name: "1"
    containerEdits: {env: [ONE=1]}
`

// rig is a node with two directories of specifications, and what it has logged.
type rig struct {
	*devices.Node
	t             *testing.T
	first, second string
	log           *strings.Builder
}

func newRig(t *testing.T) *rig {
	r := &rig{t: t, first: t.TempDir(), second: t.TempDir(), log: &strings.Builder{}}
	r.Node = devices.Open([]string{r.first, filepath.Join(r.first, "none"), r.second}, slog.New(slog.NewTextHandler(r.log, nil)))
	return r
}

func (r *rig) write(dir, name, content string) string {
	r.t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		r.t.Fatal(err)
	}
	return path
}

func (r *rig) resolve(names ...string) *devices.Set {
	r.t.Helper()
	set, err := r.Resolve(names)
	if err != nil {
		r.t.Fatal(err)
	}
	return set
}

// refused wants an error with several texts, and returns it.
func (r *rig) refused(name string, texts ...string) string {
	r.t.Helper()
	_, err := r.Resolve([]string{name})
	if !errors.Is(err, devices.ErrMissing) {
		r.t.Fatalf("%s: got %v", name, err)
	}
	for _, text := range texts {
		if !strings.Contains(err.Error(), text) {
			r.t.Errorf("%s: got %q, want %q in it", name, err, text)
		}
	}
	return err.Error()
}

func TestResolve(t *testing.T) {
	r := newRig(t)
	r.write(r.first, "zero.yaml", fmt.Sprintf(zero, "2"))
	set := r.resolve("example.com/zero=1", "example.com/zero=0")
	// What belongs to all devices of a file is there once, and before theirs.
	if want := []string{"ALL=1", "ONE=1", "ZERO=2"}; !slices.Equal(set.Env(), want) {
		t.Errorf("variables %q, want %q", set.Env(), want)
	}
	s := &specs.Spec{Process: &specs.Process{User: specs.User{UID: 7}}}
	if err := set.Edits().Apply(s); err != nil {
		t.Fatal(err)
	}
	if len(s.Process.Env) > 0 {
		t.Errorf("the other edits set variables: %q", s.Process.Env)
	}
	if d := s.Linux.Devices; len(d) != 1 || d[0].Path != "/dev/copy" || d[0].Type != "c" || d[0].Major != 1 || d[0].Minor != 5 || *d[0].UID != 7 {
		t.Errorf("device nodes: %+v", d)
	}
	if d := s.Linux.Resources.Devices; len(d) != 1 || !d[0].Allow || *d[0].Major != 1 || *d[0].Minor != 5 || d[0].Access != "rwm" {
		t.Errorf("leave to use: %+v", d)
	}
	if none := r.resolve(); none.Env() != nil || none.Edits() != nil {
		t.Errorf("without a name: %+v", none)
	}
}

// What has changed since is seen, however it has: written over, swapped, removed.
func TestChangesAreSeen(t *testing.T) {
	r := newRig(t)
	r.refused("example.com/zero=0", "name none")
	path := r.write(r.first, "zero.yaml", fmt.Sprintf(zero, "2"))
	value := func() string { return r.resolve("example.com/zero=0").Env()[1] }
	if got := value(); got != "ZERO=2" {
		t.Errorf("got %s", got)
	}
	r.write(r.first, "zero.yaml", fmt.Sprintf(zero, "10"))
	if got := value(); got != "ZERO=10" {
		t.Errorf("written over: got %s", got)
	}
	if err := os.Rename(r.write(r.first, "new", fmt.Sprintf(zero, "11")), path); err != nil {
		t.Fatal(err)
	}
	if got := value(); got != "ZERO=11" {
		t.Errorf("swapped: got %s", got)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	r.refused("example.com/zero=0", "name none")
}

// A later directory goes before an earlier one, as what is made at run time before what was
// written once.
func TestLaterDirectoryCounts(t *testing.T) {
	r := newRig(t)
	r.write(r.first, "zero.yaml", fmt.Sprintf(zero, "2"))
	r.write(r.first, "again.yaml", fmt.Sprintf(zero, "3"))
	r.refused("example.com/zero=0", "zero.yaml: device example.com/zero=0 is also in "+r.first+"/again.yaml, and neither counts")
	r.write(r.second, "zero.json", `{"cdiVersion": "0.6.0", "kind": "example.com/zero", "devices": [{"name": "0", "containerEdits": {"env": ["ZERO=4"]}}]}`)
	if got := r.resolve("example.com/zero=0").Env(); !slices.Equal(got, []string{"ZERO=4"}) {
		t.Errorf("got %q", got)
	}
}

// A directory that is named twice is no conflict with itself, whenever it is looked into.
func TestDirectoryTwice(t *testing.T) {
	r := newRig(t)
	r.Node = devices.Open([]string{r.first, r.first + "/"}, slog.New(slog.NewTextHandler(r.log, nil)))
	r.write(r.first, "zero.yaml", fmt.Sprintf(zero, "2"))
	for range 3 {
		r.resolve("example.com/zero=0")
	}
	if r.log.Len() > 0 {
		t.Errorf("it has logged %s", r.log)
	}
}

// What is no file is told of, and not waited for.
func TestNoFiles(t *testing.T) {
	for name, plant := range map[string]func(path string) error{
		"no regular file (p": func(path string) error { return syscall.Mkfifo(path, 0o600) },
		"no regular file (d": func(path string) error { return os.Mkdir(path, 0o700) },
		"no regular file (D": func(path string) error { return os.Symlink("/dev/zero", path) },
		"no such file":       func(path string) error { return os.Symlink("none", path) },
		"too many levels":    func(path string) error { return os.Symlink(filepath.Base(path), path) },
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			r.write(r.first, "zero.yaml", fmt.Sprintf(zero, "2"))
			if err := plant(filepath.Join(r.first, "a.yaml")); err != nil {
				t.Fatal(err)
			}
			r.resolve("example.com/zero=0")
			r.refused("a.b/c=a", "of no use are "+filepath.Join(r.first, "a.yaml")+": ", name)
		})
	}
}

// A file may be elsewhere, and what changes there is seen.
func TestLinkedFile(t *testing.T) {
	r := newRig(t)
	elsewhere := r.write(t.TempDir(), "zero", fmt.Sprintf(zero, "2"))
	if err := os.Symlink(elsewhere, filepath.Join(r.first, "zero.yaml")); err != nil {
		t.Fatal(err)
	}
	r.resolve("example.com/zero=0")
	if err := os.WriteFile(elsewhere, []byte(fmt.Sprintf(zero, "33")), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := r.resolve("example.com/zero=0").Env()[1]; got != "ZERO=33" {
		t.Errorf("got %s", got)
	}
}

// Files that cannot be used are told of once, and spoil nothing.
func TestMalformedFiles(t *testing.T) {
	for name, content := range map[string]string{
		"empty": "", "text": "x", "a wrong type": "kind: [x]", "cut off": `{"cdiVersion": "0.6.0", "kind"`,
		"many mistakes":   "cdiVersion: 0.6.0\nkind: a.b/c\n" + strings.Repeat("nonsense: x\n", 100),
		"no devices":      "cdiVersion: 0.6.0\nkind: a.b/c\n",
		"an unknown key":  "cdiVersion: 0.6.0\nkind: a.b/c\nnonsense: 1\ndevices: [{name: a, containerEdits: {env: [A=b]}}]\n",
		"a later version": "cdiVersion: 9.0.0\nkind: a.b/c\ndevices: [{name: a, containerEdits: {env: [A=b]}}]\n",
		"no nodes":        "cdiVersion: 0.6.0\nkind: a.b/c\ndevices: [{name: a, containerEdits: {deviceNodes: [null]}}]\n",
		"no mounts":       "cdiVersion: 0.6.0\nkind: a.b/c\ndevices: [{name: a, containerEdits: {mounts: [null]}}]\n",
		"no hooks":        "cdiVersion: 0.6.0\nkind: a.b/c\ndevices: [{name: a, containerEdits: {hooks: [null]}}]\n",
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			path := r.write(r.first, "a.yaml", content)
			r.write(r.first, "zero.yaml", fmt.Sprintf(zero, "2"))
			r.write(r.first, "zero.yaml.orig", content)
			for range 3 {
				r.resolve("example.com/zero=0")
			}
			if told := strings.Count(r.log.String(), path+": "); told != 1 || strings.Count(r.log.String(), "\n") != 1 {
				t.Errorf("it is told %d times: %s", told, r.log)
			}
			if text := r.refused("a.b/c=a", "of no use are "+path+": "); strings.Contains(text, "\n") || len(text) > 800 || strings.Contains(text, strconv.Quote(path)) {
				t.Errorf("told on several lines: %q", text)
			}
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
			if text := r.refused("a.b/c=a"); strings.Contains(text, "of no use") {
				t.Errorf("it is still told of: %q", text)
			}
		})
	}
}

// A directory that cannot be looked into does not hide those behind it.
func TestNoDirectory(t *testing.T) {
	r := newRig(t)
	file := r.write(t.TempDir(), "file", "")
	r.write(r.second, "zero.yaml", fmt.Sprintf(zero, "2"))
	r.Node = devices.Open([]string{file, r.second}, slog.New(slog.NewTextHandler(r.log, nil)))
	r.resolve("example.com/zero=0")
	if !strings.Contains(r.log.String(), file+": not a directory") {
		t.Errorf("not told: %s", r.log)
	}
	// Of no directory at all, the system's are not taken.
	r.Node = devices.Open(nil, slog.New(slog.NewTextHandler(r.log, nil)))
	r.refused("example.com/zero=0", "none at all: cdi_spec_dirs in its configuration is empty")
}

func TestUnknownDevice(t *testing.T) {
	r := newRig(t)
	r.refused("nvidia.com/gpu=0", "resources.devices[0]: this node has no device nvidia.com/gpu=0: the CDI specifications in "+r.first+" and ", r.second+" name none;", "nvidia-ctk cdi generate")
	var many strings.Builder
	for i := range 20 {
		fmt.Fprintf(&many, "  - {name: gpu%02d, containerEdits: {env: [A=b]}}\n", i)
	}
	r.write(r.first, "a.yaml", "cdiVersion: 0.6.0\nkind: example.com/card\ndevices:\n"+many.String())
	r.write(r.first, "zero.yaml", fmt.Sprintf(zero, "2"))
	r.refused("example.com/zero=O", "(did you mean example.com/zero=0?)", "name example.com/zero=0, example.com/zero=1, example.com/card=gpu00,", "gpu03 and 16 more")
	if text := r.refused("vendor/class=other"); strings.Contains(text, "did you mean") {
		t.Errorf("nothing comes near: %s", text)
	}
	_, err := r.Resolve([]string{"example.com/zero=5", "example.com/zero=0", "example.com/zero=6"})
	if err == nil || !strings.Contains(err.Error(), "[0]: this node has no device example.com/zero=5") || !strings.Contains(err.Error(), "[2]: this node has no device example.com/zero=6") {
		t.Errorf("of two: %v", err)
	}
}

// However many are missing, not all are told of.
func TestManyUnknownDevices(t *testing.T) {
	r := newRig(t)
	var names []string
	for i := range 128 {
		names = append(names, fmt.Sprintf("example.com/card=%d", i))
	}
	_, err := r.Resolve(names)
	if !errors.Is(err, devices.ErrMissing) || !strings.Contains(err.Error(), "122 more of resources.devices") || len(err.Error()) > 6000 {
		t.Errorf("got %v", err)
	}
}

// What outlives the driver that it was written for is no device, and no fault of a workload.
func TestStaleSpecification(t *testing.T) {
	for edits, want := range map[string]string{
		"deviceNodes: [{path: /dev/none}]":                                                `/dev/none`,
		"deviceNodes: [{path: /dev/copy, hostPath: /dev/null, type: b}]":                  "type mismatch",
		"mounts: [{hostPath: /none/lib.so, containerPath: /lib.so, options: [ro, bind]}]": "what is mounted at /lib.so: stat /none/lib.so",
		"mounts: [{hostPath: /none, containerPath: /x, type: bind}]":                      "what is mounted at /x: stat /none",
		"hooks: [{hookName: createContainer, path: /none/hook}]":                          "a hook (createContainer): stat /none/hook",
		"netDevices: [{hostInterfaceName: eth7, name: eth0}]":                             "network interfaces (netDevices) cannot be given",
	} {
		r := newRig(t)
		path := r.write(r.first, "a.yaml", "cdiVersion: 1.1.0\nkind: a.b/c\ndevices: [{name: x, containerEdits: {"+edits+"}}]\n")
		r.refused("a.b/c=x", "resources.devices[0]: device a.b/c=x cannot be used as "+path+" says: ", want)
	}
	r := newRig(t)
	r.write(r.first, "a.yaml", "cdiVersion: 0.6.0\nkind: a.b/c\ndevices: [{name: x, containerEdits: {mounts: [{hostPath: tmpfs, type: tmpfs, containerPath: /x}], hooks: [{hookName: startContainer, path: /none}]}}]\n")
	r.resolve("a.b/c=x")
}

// Containers that are made at the same time do not share what is noted in device nodes.
func TestAtTheSameTime(t *testing.T) {
	r := newRig(t)
	r.write(r.first, "zero.yaml", fmt.Sprintf(zero, "2"))
	done := make(chan error)
	for range 8 {
		go func() {
			set, err := r.Resolve([]string{"example.com/zero=0"})
			if err == nil {
				err = set.Edits().Apply(&specs.Spec{})
			}
			done <- err
		}()
	}
	for range 8 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

func BenchmarkResolve(b *testing.B) {
	dir := b.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "zero.yaml"), fmt.Appendf(nil, zero, "2"), 0o600); err != nil {
		b.Fatal(err)
	}
	node := devices.Open([]string{dir}, slog.New(slog.DiscardHandler))
	for b.Loop() {
		if _, err := node.Resolve([]string{"example.com/zero=0"}); err != nil {
			b.Fatal(err)
		}
	}
}
