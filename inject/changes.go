package inject

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	purserv1 "github.com/purserd/purser/api/purser/v1"
)

// Changes tells which keys are others in another version of a secret. It opens a version
// once and remembers keyed hashes of its values, under a key that lives as long as the
// Changes. It is safe for concurrent use.
type Changes struct {
	source Source
	key    [sha256.Size]byte

	mu    sync.Mutex
	known map[versionOf]map[string][sha256.Size]byte
}

// versionOf is a version of a secret of an environment.
type versionOf struct {
	environment, secret string
	number              uint32
}

// NewChanges returns a Changes that knows nothing yet.
func NewChanges(source Source) *Changes {
	c := &Changes{source: source, known: map[versionOf]map[string][sha256.Size]byte{}}
	_, _ = rand.Read(c.key[:]) // never fails
	return c
}

// Keys are the keys, sorted, that a workload with this reference uses and of which the
// value is another one, or there in one of the versions alone. A version that is not there
// has no keys.
func (c *Changes) Keys(ctx context.Context, environment string, ref *purserv1.SecretRef, from, to uint32) ([]string, error) {
	if from == to {
		return nil, nil
	}
	before, err := c.of(ctx, versionOf{environment, ref.GetName(), from})
	if err != nil {
		return nil, err
	}
	after, err := c.of(ctx, versionOf{environment, ref.GetName(), to})
	if err != nil {
		return nil, err
	}
	uses := func(key string) bool {
		_, named := ref.GetKeys()[key]
		return named || len(ref.GetKeys()) == 0
	}
	var changed []string
	for key, hash := range before {
		if other, there := after[key]; uses(key) && (!there || other != hash) {
			changed = append(changed, key)
		}
	}
	for key := range after {
		if _, there := before[key]; uses(key) && !there {
			changed = append(changed, key)
		}
	}
	slices.Sort(changed)
	return changed, nil
}

// of are the hashes of a version's values by its keys.
func (c *Changes) of(ctx context.Context, v versionOf) (map[string][sha256.Size]byte, error) {
	if v.number == 0 {
		return nil, nil
	}
	c.mu.Lock()
	known, ok := c.known[v]
	c.mu.Unlock()
	if ok {
		return known, nil
	}
	secret, err := c.source.Get(ctx, v.environment, v.secret, v.number)
	if errors.Is(err, ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("comparing versions of secret %s in environment %s: %w", v.secret, v.environment, err)
	}
	hashes := make(map[string][sha256.Size]byte, len(secret.Data))
	for key, value := range secret.Data {
		value.use(func(content []byte) {
			mac := hmac.New(sha256.New, c.key[:])
			mac.Write(content)
			hashes[key] = [sha256.Size]byte(mac.Sum(nil))
		})
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.known[v] = hashes
	return hashes, nil
}

// Forget drops what is known of versions that are not needed any more.
func (c *Changes) Forget(needed func(environment, secret string, version uint32) bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	maps.DeleteFunc(c.known, func(v versionOf, _ map[string][sha256.Size]byte) bool {
		return !needed(v.environment, v.secret, v.number)
	})
}
