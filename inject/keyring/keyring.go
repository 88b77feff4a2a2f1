// Package keyring holds the node's identity: the one age key that every secret on
// the node is sealed to, and from which every other key is derived.
//
//	keys, err := keyring.Open("/var/lib/purser/identity.age") // made when absent
//	age.Encrypt(out, keys.Recipient())                        // seal
//	age.Decrypt(in, keys.Identity())                          // open
//	mac := keys.Derive("store manifest")                      // another key, one for each purpose
//
// The file is what age-keygen writes, so that age itself opens what the node
// sealed: age -d -i identity.age FILE. Whoever loses it has lost the secrets. A
// key that systemd passes as a credential is read by [OpenCredential].
package keyring

import (
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/hex"
	"fmt"

	"filippo.io/age"

	"github.com/purserd/purser/inject/internal/opaque"
)

type mark = opaque.Mark

// Keyring is the node's identity. It shows "[redacted]" to everything that formats
// or encodes it.
type Keyring struct {
	mark
	identity *age.X25519Identity
}

// Identity opens what is sealed to the node. It prints itself in plain text: keep
// it out of messages.
func (k *Keyring) Identity() age.Identity { return k.identity }

// Recipient is the public half, which things are sealed to.
func (k *Keyring) Recipient() *age.X25519Recipient { return k.identity.Recipient() }

// NodeID names the node, for as long as it has this identity: 16 hexadecimal
// digits, which tell nothing about the key.
func (k *Keyring) NodeID() string {
	id := k.Derive("node id")
	return hex.EncodeToString(id[:8])
}

// Derive returns a key for one purpose by HKDF with SHA-256. The same identity and
// purpose always give the same key, and none tells anything about another.
func (k *Keyring) Derive(purpose string) [32]byte {
	derived, err := hkdf.Key(sha256.New, []byte(k.identity.String()), []byte("purser.v1"), purpose, 32)
	if err != nil {
		// Only for a length beyond 255 hashes, or in FIPS mode for a key that is
		// too short; neither can be.
		panic(fmt.Sprintf("deriving the key for %q: %v", purpose, err))
	}
	return [32]byte(derived)
}
