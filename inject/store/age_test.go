package store_test

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"filippo.io/age"

	"github.com/purserd/purser/e2e/rig"
	"github.com/purserd/purser/inject/store"
)

// The node's identity and every further recipient open a version with age alone, and
// read what is in it.
func TestAgeOpensAVersion(t *testing.T) {
	place := newPlace(t)
	other, err := age.GenerateX25519Identity()
	must(t, err)
	otherPath := filepath.Join(t.TempDir(), "recovery.txt")
	overwrite(t, otherPath, []byte(other.String()+"\n"))
	s, err := store.Open(place.dir, place.keys, store.Options{Recipients: []string{other.Recipient().String()}})
	must(t, err)
	put(t, s, "dev", "openai-secret", "OPENAI_API_KEY=sk-1<&>2", "BINARY=\xff")
	must(t, s.Close())
	path := place.file("dev", "openai-secret", "1.age")
	for name, identity := range map[string]string{
		"node":      filepath.Join(filepath.Dir(place.dir), "identity.age"),
		"recipient": otherPath,
	} {
		t.Run("library/"+name, func(t *testing.T) { wantReadable(t, openWithLibrary(t, path, identity)) })
		t.Run("command/"+name, func(t *testing.T) {
			command := rig.Program(t, "age", "apt-get install age")
			out, err := exec.CommandContext(t.Context(), command, "-d", "-i", identity, path).Output()
			must(t, err)
			wantReadable(t, out)
		})
	}
}

func openWithLibrary(t *testing.T, path, identityPath string) []byte {
	t.Helper()
	file, err := os.Open(identityPath)
	must(t, err)
	defer file.Close()
	identities, err := age.ParseIdentities(file)
	must(t, err)
	r, err := age.Decrypt(bytes.NewReader(read(t, path)), identities...)
	must(t, err)
	plain, err := io.ReadAll(r)
	must(t, err)
	return plain
}

func wantReadable(t *testing.T, plain []byte) {
	t.Helper()
	var got map[string]any
	must(t, json.Unmarshal(plain, &got))
	data, _ := got["data"].(map[string]any)
	binary, _ := got["binary"].(map[string]any)
	if got["environment"] != "dev" || got["name"] != "openai-secret" || got["version"] != 1.0 || got["created_at"] == nil ||
		data["OPENAI_API_KEY"] != "sk-1<&>2" || binary["BINARY"] != "/w==" {
		t.Errorf("got %s", plain)
	}
	if !strings.Contains(string(plain), "\n    \"OPENAI_API_KEY\": \"sk-1<&>2\"\n") {
		t.Errorf("not for people: %s", plain)
	}
}

// No file of the store holds a value in plain text.
func TestNothingPlainOnDisk(t *testing.T) {
	place := newPlace(t)
	s := place.open(t)
	put(t, s, "dev", "db", "A=hunter2-hunter2")
	for _, path := range append(sealedFiles(t, place), place.file("_manifest.json")) {
		if bytes.Contains(read(t, path), []byte("hunter2")) {
			t.Errorf("%s holds the value", path)
		}
	}
}
