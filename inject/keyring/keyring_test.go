package keyring_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"filippo.io/age"
	"golang.org/x/sys/unix"

	"github.com/purserd/purser/e2e/rig"
	"github.com/purserd/purser/inject/keyring"
)

func identityPath(t *testing.T) string { return filepath.Join(t.TempDir(), "state", "identity.age") }

// write puts content into a file of that mode, whatever the umask.
func write(t *testing.T, path, content string, mode fs.FileMode) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
}

func newIdentity(t *testing.T) *age.X25519Identity {
	t.Helper()
	identity, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	return identity
}

func TestOpenMakesAnIdentityOnce(t *testing.T) {
	path := identityPath(t)
	first, err := keyring.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	second, err := keyring.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	if first.Recipient().String() != second.Recipient().String() {
		t.Error("the second Open made another identity")
	}
	for path, want := range map[string]fs.FileMode{path: 0o600, filepath.Dir(path): fs.ModeDir | 0o700} {
		if info, err := os.Stat(path); err != nil || info.Mode() != want {
			t.Errorf("%s: mode %v, %v; want %v", path, info.Mode(), err, want)
		}
	}
	if entries, err := os.ReadDir(filepath.Dir(path)); err != nil || len(entries) != 1 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
}

// Two processes that start together must not seal to two identities.
func TestConcurrentOpensAgree(t *testing.T) {
	path := identityPath(t)
	var recipients sync.Map
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			keys, err := keyring.Open(path)
			if err != nil {
				t.Error(err)
				return
			}
			recipients.Store(keys.Recipient().String(), true)
		})
	}
	group.Wait()
	var seen []any
	recipients.Range(func(recipient, _ any) bool { seen = append(seen, recipient); return true })
	if len(seen) != 1 {
		t.Errorf("identities: %v", seen)
	}
}

func TestSealedDataOpensWithTheFileAsAgeReadsIt(t *testing.T) {
	path := identityPath(t)
	keys, err := keyring.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	var sealed bytes.Buffer
	w, err := age.Encrypt(&sealed, keys.Recipient())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(w, "hello"); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	identities, err := age.ParseIdentities(file)
	if err != nil {
		t.Fatal(err)
	}
	for name, identity := range map[string]age.Identity{"file": identities[0], "keyring": keys.Identity()} {
		r, err := age.Decrypt(bytes.NewReader(sealed.Bytes()), identity)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if plain, err := io.ReadAll(r); err != nil || string(plain) != "hello" {
			t.Errorf("%s: got %q, %v", name, plain, err)
		}
	}
}

func TestOpenRefuses(t *testing.T) {
	identity := newIdentity(t).String()
	hybrid, err := age.GenerateHybridIdentity()
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name    string
		prepare func(t *testing.T, path string)
		want    string
	}{
		{"world-readable", func(t *testing.T, path string) { write(t, path, identity, 0o644) }, "is open to others (mode 0644); if nobody has read it: chmod 600"},
		{"group-readable", func(t *testing.T, path string) { write(t, path, identity, 0o640) }, "is open to others (mode 0640)"},
		{"executable", func(t *testing.T, path string) { write(t, path, identity, 0o700) }, "is open to others (mode 0700)"},
		{"empty", func(t *testing.T, path string) { write(t, path, "", 0o600) }, "not an age identity"},
		{"not an identity", func(t *testing.T, path string) { write(t, path, "hello\n", 0o600) }, "not an age identity"},
		{"two identities", func(t *testing.T, path string) {
			write(t, path, identity+"\n"+newIdentity(t).String()+"\n", 0o600)
		}, "holds 2 identities"},
		{"hybrid identity", func(t *testing.T, path string) { write(t, path, hybrid.String()+"\n", 0o600) }, "of a kind that purser does not use"},
		{"directory", func(t *testing.T, path string) { mustDo(t, os.MkdirAll(path, 0o700)) }, "is not a regular file"},
		{"FIFO", func(t *testing.T, path string) {
			mustDo(t, os.MkdirAll(filepath.Dir(path), 0o700))
			mustDo(t, unix.Mkfifo(path, 0o600))
		}, "is not a regular file"},
		{"another user's", func(t *testing.T, path string) {
			write(t, path, identity, 0o600)
			rig.Root(t)
			mustDo(t, os.Chown(path, 12345, 12345))
		}, "belongs to user 12345, not to 0"},
	} {
		t.Run(test.name, func(t *testing.T) {
			path := identityPath(t)
			test.prepare(t, path)
			keys, err := keyring.Open(path)
			if keys != nil || err == nil || !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), path) {
				t.Errorf("got %v\nwant one with %q and the path", err, test.want)
			}
		})
	}
}

func mustDo(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestOpenTakesAReadOnlyFile(t *testing.T) {
	path := identityPath(t)
	write(t, path, newIdentity(t).String(), 0o400)
	if _, err := keyring.Open(path); err != nil {
		t.Error(err)
	}
}

// A broken key in the file must not get into a log by way of the error.
func TestErrorsQuoteNoKey(t *testing.T) {
	path := identityPath(t)
	identity := newIdentity(t).String()
	for name, content := range map[string]string{
		"cut":         identity[:len(identity)-1],
		"changed":     identity[:30] + "QQQQ" + identity[34:],
		"lower case":  strings.ToLower(identity),
		"with a word": "key " + identity,
	} {
		write(t, path, content, 0o600)
		_, err := keyring.Open(path)
		if err == nil || strings.Contains(strings.ToUpper(err.Error()), identity[20:30]) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestOpenCredential(t *testing.T) {
	path := identityPath(t)
	if _, err := keyring.OpenCredential(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("absent: got %v", err)
	}
	// systemd shows an access list as group permissions.
	write(t, path, newIdentity(t).String()+"\n", 0o440)
	if _, err := keyring.OpenCredential(path); err != nil {
		t.Error(err)
	}
}

func TestDerive(t *testing.T) {
	path := identityPath(t)
	// A fixed identity holds the derivation fast: another one would lose every MAC.
	write(t, path, "AGE-SECRET-KEY-1GFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPQ4EGAEX\n", 0o600)
	keys, err := keyring.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	manifest, audit := keys.Derive("store manifest"), keys.Derive("audit")
	const want = "295ae9e8322d36a25f68d423484f5a961020f67e1f66050bd93c4d0be451f42d"
	if got := hex.EncodeToString(manifest[:]); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if manifest == audit {
		t.Error("two purposes have one key")
	}
	other, err := keyring.Open(identityPath(t))
	if err != nil {
		t.Fatal(err)
	}
	if manifest == other.Derive("store manifest") {
		t.Error("two identities have one key")
	}
}

func TestKeyringPrintsNothing(t *testing.T) {
	path := identityPath(t)
	keys, err := keyring.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	type hiding struct{ keys *keyring.Keyring }
	for _, format := range []string{"%v", "%+v", "%#v", "%s", "%x", "%d"} {
		for _, thing := range []any{keys, *keys, hiding{keys}} {
			if out := fmt.Sprintf(format, thing); strings.Contains(out, "AGE-SECRET-KEY") || len(out) > 100 {
				t.Errorf("%s of a %T prints %s", format, thing, out)
			}
		}
	}
}

func FuzzOpen(f *testing.F) {
	f.Add([]byte("AGE-SECRET-KEY-1GFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPQ4EGAEX\n"))
	f.Add([]byte("# created: 2026-01-01T00:00:00Z\n\nAGE-SECRET-KEY-1"))
	f.Add([]byte("AGE-SECRET-KEY-PQ-1"))
	f.Add([]byte{})
	path := filepath.Join(f.TempDir(), "identity.age")
	f.Fuzz(func(t *testing.T, content []byte) {
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		keys, err := keyring.Open(path)
		if (keys == nil) == (err == nil) {
			t.Errorf("keys and error: %v, %v", keys, err)
		}
	})
}
