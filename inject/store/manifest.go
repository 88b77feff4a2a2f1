package store

import (
	"bytes"
	"cmp"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/purserd/purser/inject/keyring"
)

// manifestName cannot be an environment's: those start with a letter or digit.
const manifestName = "_manifest.json"

// A title begins the first line, which the MAC in hexadecimal ends. A manifest of the first
// format has no journal: who knows that one alone would not miss what is in it.
const (
	manifestTitle      = "purser secret store 2, hmac-sha256 "
	firstManifestTitle = "purser secret store 1, hmac-sha256 "
	anyManifestTitle   = "purser secret store "
)

// manifest is the authenticated list of what the store holds. A manifest in use is
// never changed; [manifest.with] makes another.
type manifest struct {
	// Recipient tells which identity's key the MAC is under.
	Recipient string `json:"recipient"`
	Sequence  uint64 `json:"sequence"`
	// Environments hold records by the secret's name. A record stays when its last
	// version goes, so that no number is used twice.
	Environments map[string]map[string]record `json:"environments"`
}

// record is a secret.
type record struct {
	// Next is the number of the next version.
	Next    uint32    `json:"next"`
	Created time.Time `json:"created_at"`
	// Source owns the secret: where its versions come from. Empty when they were set
	// through the API.
	Source string `json:"source,omitempty"`
	// Versions, oldest first.
	Versions []version `json:"versions,omitempty"`
}

// version is one version of a secret, and how to know its file again.
type version struct {
	Version uint32    `json:"version"`
	Created time.Time `json:"created_at"`
	Keys    []string  `json:"keys"`
	// Size and SHA256, in hexadecimal, are the sealed file's.
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
	CopyOf uint32 `json:"copy_of,omitempty"`
	// Deleted versions are kept for the workloads pinned to them.
	Deleted bool `json:"deleted,omitempty"`
}

// record returns the secret's record. One that never existed has Next 1.
func (m manifest) record(environment, name string) record {
	if r, ok := m.Environments[environment][name]; ok {
		return r
	}
	return record{Next: 1}
}

// with returns the manifest that follows m, with one record replaced.
func (m manifest) with(environment, name string, r record) manifest {
	m.Sequence++
	m.Environments = cloneOrMake(m.Environments)
	records := cloneOrMake(m.Environments[environment])
	records[name] = r
	m.Environments[environment] = records
	return m
}

func cloneOrMake[V any](m map[string]V) map[string]V {
	if m == nil {
		return map[string]V{}
	}
	return maps.Clone(m)
}

// newest returns the version that a new launch gets.
func (r record) newest() (version, bool) {
	for _, v := range slices.Backward(r.Versions) {
		if !v.Deleted {
			return v, true
		}
	}
	return version{}, false
}

// find returns a version by number, deleted or not, or the newest for 0.
func (r record) find(number uint32) (version, bool) {
	if number == 0 {
		return r.newest()
	}
	i, found := slices.BinarySearchFunc(r.Versions, number, func(v version, number uint32) int { return cmp.Compare(v.Version, number) })
	if !found {
		return version{}, false
	}
	return r.Versions[i], true
}

// encodeManifest writes the title with the MAC, and then the manifest as JSON.
func encodeManifest(m manifest, keys *keyring.Keyring) (data []byte, mac [sha256.Size]byte, err error) {
	body, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return nil, mac, fmt.Errorf("encoding the manifest: %w", err)
	}
	mac = manifestMAC(manifestTitle, body, keys)
	head := fmt.Appendf(nil, "%s%x\n", manifestTitle, mac)
	return append(append(head, body...), '\n'), mac, nil
}

func manifestMAC(title string, body []byte, keys *keyring.Keyring) (mac [sha256.Size]byte) {
	key := keys.Derive("store manifest")
	h := hmac.New(sha256.New, key[:])
	h.Write([]byte(title))
	h.Write(bytes.TrimSuffix(body, []byte("\n")))
	h.Sum(mac[:0])
	return mac
}

// decodeManifest checks the MAC before it looks at the rest, and returns it.
func decodeManifest(data []byte, keys *keyring.Keyring) (m manifest, mac [sha256.Size]byte, err error) {
	head, body, _ := bytes.Cut(data, []byte("\n"))
	title, digits, err := cutTitle(string(head))
	if err != nil {
		return m, mac, err
	}
	mac = manifestMAC(title, body, keys)
	said, err := hex.DecodeString(digits)
	if err != nil || !hmac.Equal(said, mac[:]) {
		return m, mac, explainMAC(body, keys)
	}
	if err := decodeStrictly(body, &m); err != nil {
		return m, mac, err
	}
	return m, mac, m.check()
}

// cutTitle takes a manifest's first line apart.
func cutTitle(head string) (title, digits string, err error) {
	for _, title := range []string{manifestTitle, firstManifestTitle} {
		if digits, is := strings.CutPrefix(head, title); is {
			return title, digits, nil
		}
	}
	if strings.HasPrefix(head, anyManifestTitle) {
		return "", "", errors.New("it has another format: a newer purser wrote it; run that one")
	}
	return "", "", errors.New("it does not start as a manifest does; restore it")
}

// explainMAC tells a manifest under another key from one that was changed. It goes by
// what the unauthenticated body says, which is good enough for a hint.
func explainMAC(body []byte, keys *keyring.Keyring) error {
	var claim struct {
		Recipient string `json:"recipient"`
	}
	own := keys.Recipient().String()
	if json.Unmarshal(body, &claim) == nil && claim.Recipient != "" && claim.Recipient != own {
		return fmt.Errorf("it belongs to another identity, %s, and this node's is %s; restore the identity that the store was made with", claim.Recipient, own)
	}
	return errors.New("it was changed by something other than purser; restore it")
}

// check refuses what no purser writes. It guards the rest of the package, above all
// where a name becomes a path.
func (m manifest) check() error {
	for environment, records := range m.Environments {
		for name, r := range records {
			if err := checkRecord(environment, name, r); err != nil {
				return err
			}
		}
	}
	return nil
}

func checkRecord(environment, name string, r record) error {
	if !validName(environment) || !validName(name) {
		return fmt.Errorf("it has a secret %q in an environment %q, which are no names", name, environment)
	}
	if err := r.check(); err != nil {
		return fmt.Errorf("its secret %s in environment %s %w", name, environment, err)
	}
	return nil
}

// check returns an error that continues a sentence about the secret.
func (r record) check() error {
	var previous uint32
	for _, v := range r.Versions {
		if v.Version <= previous {
			return fmt.Errorf("has version %d after %d", v.Version, previous)
		}
		previous = v.Version
	}
	if r.Next <= previous {
		return fmt.Errorf("has version %d and %d for the next one", previous, r.Next)
	}
	return nil
}

// decodeStrictly refuses unknown fields and anything after the one JSON value.
func decodeStrictly(data []byte, into any) error {
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(into); err != nil {
		return fmt.Errorf("it is not what purser writes: %w", err)
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return errors.New("it is not what purser writes: something follows the JSON")
	}
	return nil
}
