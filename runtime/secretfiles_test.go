package runtime_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	purserv1 "github.com/purserd/purser/api/purser/v1"
	"github.com/purserd/purser/e2e/rig"
	"github.com/purserd/purser/inject"
	"github.com/purserd/purser/runtime"
)

// Files of secrets are in the container as asked for, on memory alone, and are
// replaced under it while it runs, with every runtime.
func TestSecretFiles(t *testing.T) {
	eachVersion(t, func(t *testing.T, n *node) { testSecretFiles(t, n, "runc") })
}

func TestSecretFilesWithOtherRuntimes(t *testing.T) {
	n := newNodeWith(t, rig.V24, "crun", "runsc")
	for name := range n.cfg.Runtimes {
		t.Run(name, func(t *testing.T) { testSecretFiles(t, n, name) })
	}
}

// secretFiles are two directories, one in the other.
func secretFiles(key, other string) []inject.Directory {
	owner := uint32(7)
	return []inject.Directory{
		{Target: "/run/secrets", Private: true, Within: []string{"keys"}, Files: []inject.File{
			{Name: "all.json", Content: inject.NewValue([]byte(other)), Mode: 0o444, UID: &owner, GID: &owner}}},
		{Target: "/run/secrets/keys", Files: []inject.File{{Name: "KEY", Content: inject.NewValue([]byte(key)), Mode: 0o400}}},
	}
}

func testSecretFiles(t *testing.T, n *node, oci string) {
	id := "files-" + oci
	s := spec("sh", "-c", "cat /run/secrets/keys/KEY; exec sleep 1000")
	s.Runtime, s.User = &oci, new("54321:54321")
	in := n.instance(id, s)
	in.Files = secretFiles(canary, `{"a": "b"}`)
	if err := n.Create(t.Context(), in); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.delete(id) })
	if _, err := n.Start(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	inside := func(script string) string {
		t.Helper()
		var out, errs bytes.Buffer
		if _, err := n.Exec(t.Context(), id, runtime.ExecSpec{Command: []string{"sh", "-c", script}, User: "0"}, &out, &errs); err != nil {
			t.Fatal(err)
		}
		return out.String() + errs.String()
	}
	n.await(id, canary) // its own user reads it
	if got := inside("cat /run/secrets/keys/KEY; cat /run/secrets/all.json"); got != canary+`{"a": "b"}` {
		t.Errorf("the files hold %q", got)
	}
	if got := inside("cd /run/secrets; stat -L -c '%a %u %g' all.json keys/KEY"); got != "444 7 7\n400 54321 54321\n" {
		t.Errorf("modes and owners: %q", got)
	}
	if got := inside("grep ' /run/secrets' /proc/mounts"); strings.Count(got, "\n") != 2 || strings.Count(got, " ro,") != 2 || oci != "runsc" && strings.Count(got, "nosuid,nodev,noexec") != 2 {
		t.Errorf("mounted as\n%s", got)
	}
	if got := inside("echo x >/run/secrets/keys/new; rm /run/secrets/keys/KEY; rm -r /run/secrets/keys/..data"); strings.Count(got, "Read-only file system") != 3 {
		t.Errorf("not read-only: %s", got)
	}
	n.wantNoCanary()
	in.Files = secretFiles("next", "[]")
	if err := n.Refresh(t.Context(), id, in.Files, in.Redactions); err != nil {
		t.Fatal(err)
	}
	if got := inside("cd /run/secrets; stat -L -c '%a %u %g' all.json keys/KEY"); got != "444 7 7\n400 54321 54321\n" {
		t.Errorf("modes and owners after they have been replaced: %q", got)
	}
	if got := inside("cat /run/secrets/keys/KEY; cat /run/secrets/all.json"); got != "next[]" {
		t.Errorf("the files hold %q after they have been replaced", got)
	}
	files := filepath.Join(n.cfg.RunDir, "private", "files", id)
	if err := os.RemoveAll(filepath.Join(files, "0")); err != nil { // as if it was being removed
		t.Fatal(err)
	}
	if err := n.Refresh(t.Context(), id, in.Files, in.Redactions); !errors.Is(err, runtime.ErrNotFound) {
		t.Errorf("refreshing what is being removed: %v", err)
	}
	if _, err := os.Stat(filepath.Join(files, "0")); err == nil {
		t.Error("a directory was made anew")
	}
	n.delete(id)
	if left, err := os.ReadDir(filepath.Join(n.cfg.RunDir, "private", "files")); err != nil || len(left) != 0 {
		t.Errorf("left: %v, %v", left, err)
	}
	if err := n.Refresh(t.Context(), id, in.Files, in.Redactions); !errors.Is(err, runtime.ErrNotFound) {
		t.Errorf("refreshing what is gone: %v", err)
	}
	n.wantNoCanary()
}

// A file in a directory where the image has files is refused: they would be hidden.
func TestFilesOverAnImage(t *testing.T) {
	n := newNode(t, rig.V24)
	in := n.instance("s", spec("true"))
	for target, refused := range map[string]bool{"/bin": true, "/run/secrets": false, "/no/such": false, "/bin/sh": true} {
		in.Files = []inject.Directory{{Target: target, Private: true, Files: []inject.File{{Name: "f", Content: inject.NewValue([]byte("x")), Mode: 0o400}}}}
		err := n.CheckFiles(t.Context(), in.Image, in.Spec, in.Files)
		var wrong *runtime.SpecError
		if errors.As(err, &wrong) != refused || err != nil && !refused {
			t.Errorf("%s: %v", target, err)
		}
		if refused {
			if err := n.Create(t.Context(), in); !errors.As(err, &wrong) || !strings.Contains(err.Error(), "the file f of a secret cannot be in "+target) {
				t.Errorf("creating with %s: %v", target, err)
			}
		}
	}
	n.wantNothing()
}

// Files of secrets that cannot be mounted are refused, in words, before anything is
// made: the path leads through a file, or into a mount where nobody can make
// it. What can be mounted, can.
func TestFilesOutOfPlace(t *testing.T) {
	n := newNode(t, rig.V24)
	data := t.TempDir()
	n.Close()
	n.cfg.AllowedRoots = []string{data}
	n.open()
	if err := errors.Join(os.Mkdir(filepath.Join(data, "there"), 0o755), os.WriteFile(filepath.Join(data, "file"), nil, 0o644)); err != nil {
		t.Fatal(err)
	}
	s := spec("true")
	s.Mounts = []*purserv1.Mount{
		{Source: &data, Target: new("/rw")}, {Source: &data, Target: new("/ro"), ReadOnly: new(true)},
		{Type: new("tmpfs"), Target: new("/tmpfs")}, {Type: new("tmpfs"), Target: new("/ro/there"), ReadOnly: new(true)},
	}
	in := n.instance("s", s)
	for target, want := range map[string]string{
		"/tmp":                "",
		"/bin/sh":             "image docker.io/library/busybox:test has a file where that needs a directory",
		"/etc/passwd/x/y":     "image docker.io/library/busybox:test has a file where that needs a directory",
		"/rw/new/dir":         "",
		"/rw/file/x":          "what is mounted on /rw has a file where that needs a directory",
		"/ro/there":           "",
		"/ro/none":            "what is mounted on /ro is read-only and has no directory none",
		"/ro/there/new":       "what is mounted on /ro/there is read-only and has no directory new",
		"/tmpfs/new":          "",
		"/readonly/elsewhere": "",
	} {
		in.Files = []inject.Directory{{Target: target, Files: []inject.File{{Name: "K", Secret: "s", Content: inject.NewValue([]byte("x")), Mode: 0o400}}}}
		err := n.Create(t.Context(), in)
		if want == "" && err != nil {
			t.Errorf("%s: %v", target, err)
		}
		text := "the files of secret s cannot be in " + target + ": " + want + "; use another directory, such as /run/secrets"
		if want != "" && (!errors.As(err, new(*runtime.SpecError)) || !strings.Contains(err.Error(), text)) {
			t.Errorf("got  %v\nwant %s", err, text)
		}
		n.delete("s")
	}
	n.wantNothing()
}

// What a container left that is gone goes when the next agent begins.
func TestLeftSecretFiles(t *testing.T) {
	n := newNode(t, rig.V24)
	n.Close()
	left := filepath.Join(n.cfg.RunDir, "private", "files", "gone", "0")
	if err := os.MkdirAll(left, 0o700); err != nil {
		t.Fatal(err)
	}
	n.open()
	if _, err := os.Stat(filepath.Dir(left)); err == nil {
		t.Error("it is still there")
	}
}
