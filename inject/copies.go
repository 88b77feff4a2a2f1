package inject

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"hash/maphash"
	"maps"
	"slices"
	"sync"
)

// minCopy is the least number of bytes of a value that is looked for elsewhere:
// shorter ones are found where they mean something else.
const minCopy = 16

// Inventory is a [Source] that can tell all that it has.
type Inventory interface {
	Source
	// Kept returns every version of an environment's secrets, also of deleted ones.
	Kept(environment string) []Version
	// Sequence goes up with every change of what is kept, and is never 0.
	Sequence() uint64
}

// Version names one version of a secret, which never changes.
type Version struct {
	Secret string
	Number uint32
}

// Copies finds the values of secrets in text that is to be kept in plain: those of
// 16 bytes and more, of every version that is kept. It opens each version once and
// remembers keyed hashes of its values, under a key that lives as long as the Copies.
// It is safe for concurrent use.
type Copies struct {
	inventory Inventory
	seed      maphash.Seed
	key       [sha256.Size]byte

	mu           sync.Mutex // of the map alone
	environments map[string]*fingerprints
}

// fingerprints are those of the values of an environment.
type fingerprints struct {
	mu       sync.Mutex
	sequence uint64 // of the inventory, as far as they are up to date
	known    map[Version]bool
	// byHead has the values by the hash of their first minCopy bytes.
	byHead map[uint64][]fingerprint
}

// fingerprint is what is remembered of a value.
type fingerprint struct {
	version Version
	key     string
	length  int
	tail    uint64 // hash of the last minCopy bytes
	mac     [sha256.Size]byte
}

// NewCopies returns a Copies that knows nothing yet.
func NewCopies(inventory Inventory) *Copies {
	c := &Copies{inventory: inventory, seed: maphash.MakeSeed(), environments: map[string]*fingerprints{}}
	_, _ = rand.Read(c.key[:]) // never fails
	return c
}

// Learn opens the versions of an environment that it does not know yet, which takes
// a tenth of a millisecond for each, and forgets those that are gone. Find does it
// by itself; who has the time calls it before. The error is that of ctx.
func (c *Copies) Learn(ctx context.Context, environment string) error {
	f := c.environment(environment)
	f.mu.Lock()
	defer f.mu.Unlock()
	return c.update(ctx, environment, f)
}

// Find returns the secret and key, of an environment, whose value a text contains;
// found is false for none. The error is that of ctx.
func (c *Copies) Find(ctx context.Context, environment, text string) (secret, key string, found bool, err error) {
	f := c.environment(environment)
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := c.update(ctx, environment, f); err != nil {
		return "", "", false, err
	}
	p, found, err := c.find(ctx, f, text)
	return p.version.Secret, p.key, found, err
}

// find looks at every place of the text where a value may begin.
func (c *Copies) find(ctx context.Context, f *fingerprints, text string) (_ fingerprint, found bool, _ error) {
	if len(f.byHead) == 0 {
		return fingerprint{}, false, nil
	}
	for i := range max(len(text)-minCopy+1, 0) {
		for _, p := range f.byHead[maphash.String(c.seed, text[i:i+minCopy])] {
			if c.is(p, text[i:]) {
				return p, true, nil
			}
			if err := ctx.Err(); err != nil {
				return fingerprint{}, false, fmt.Errorf("looking for values of secrets: %w", err)
			}
		}
	}
	return fingerprint{}, false, nil
}

// is says whether a text begins with a value.
func (c *Copies) is(p fingerprint, text string) bool {
	return len(text) >= p.length &&
		maphash.String(c.seed, text[p.length-minCopy:p.length]) == p.tail &&
		c.mac([]byte(text[:p.length])) == p.mac
}

func (c *Copies) environment(name string) *fingerprints {
	c.mu.Lock()
	defer c.mu.Unlock()
	f := c.environments[name]
	if f == nil {
		f = &fingerprints{known: map[Version]bool{}, byHead: map[uint64][]fingerprint{}}
		c.environments[name] = f
	}
	return f
}

func (c *Copies) update(ctx context.Context, environment string, f *fingerprints) error {
	// Read first, so that a change in the meantime is seen the next time.
	sequence := c.inventory.Sequence()
	if sequence == f.sequence {
		return nil
	}
	versions := c.inventory.Kept(environment)
	f.keep(versions)
	for _, v := range versions {
		if f.known[v] {
			continue
		}
		secret, err := c.inventory.Get(ctx, environment, v.Secret, v.Number)
		if ctx.Err() != nil {
			return fmt.Errorf("looking at the secrets of environment %q: %w", environment, ctx.Err())
		}
		// A version that cannot be opened has no value that anybody could use, and
		// whoever reads it is told. It is tried again after the next change.
		if err == nil {
			c.add(f, v, secret.Data)
		}
	}
	f.sequence = sequence
	return nil
}

// keep forgets the versions that are not among these.
func (f *fingerprints) keep(versions []Version) {
	gone := maps.Clone(f.known)
	for _, v := range versions {
		delete(gone, v)
	}
	if len(gone) == 0 {
		return
	}
	for v := range gone {
		delete(f.known, v)
	}
	for head, all := range f.byHead {
		f.byHead[head] = slices.DeleteFunc(all, func(p fingerprint) bool { return gone[p.version] })
		if len(f.byHead[head]) == 0 {
			delete(f.byHead, head)
		}
	}
}

func (c *Copies) add(f *fingerprints, v Version, data map[string]Value) {
	f.known[v] = true
	for _, key := range slices.Sorted(maps.Keys(data)) {
		data[key].use(func(content []byte) {
			if len(content) < minCopy {
				return
			}
			head := maphash.Bytes(c.seed, content[:minCopy])
			f.byHead[head] = append(f.byHead[head], fingerprint{version: v, key: key, length: len(content),
				tail: maphash.Bytes(c.seed, content[len(content)-minCopy:]), mac: c.mac(content)})
		})
	}
}

func (c *Copies) mac(content []byte) [sha256.Size]byte {
	h := hmac.New(sha256.New, c.key[:])
	h.Write(content)
	return [sha256.Size]byte(h.Sum(nil))
}
