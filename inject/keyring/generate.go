package keyring

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"filippo.io/age"

	"github.com/purserd/purser/inject/internal/durable"
)

// generate makes an identity that survives a crash of the machine once it is used.
// It never replaces one: of two processes that start at the same time, the slower
// would take away the key that the faster seals with.
func generate(path string) error {
	identity, err := age.GenerateX25519Identity()
	if err != nil {
		return err
	}
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	temporary, err := writeTemporary(dir, format(identity))
	if temporary != "" {
		defer os.Remove(temporary)
	}
	if err != nil {
		return err
	}
	// A rename would replace; a link fails when the name is taken.
	if err := os.Link(temporary, path); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return durable.Sync(dir)
}

// format writes an identity the way age-keygen does.
func format(identity *age.X25519Identity) []byte {
	return fmt.Appendf(nil, "# created: %s\n# public key: %s\n%s\n",
		time.Now().Format(time.RFC3339), identity.Recipient(), identity)
}

// writeTemporary returns the name of the file as soon as there is one, so that the
// caller can remove it after an error too. os.CreateTemp gives it mode 0600.
func writeTemporary(dir string, content []byte) (string, error) {
	file, err := os.CreateTemp(dir, ".identity-*")
	if err != nil {
		return "", err
	}
	_, err = file.Write(content)
	return file.Name(), errors.Join(err, file.Sync(), file.Close())
}
