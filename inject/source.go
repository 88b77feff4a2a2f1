package inject

import (
	"context"
	"errors"
)

// ErrNotFound is what a [Source] returns, wrapped, for a secret or a version that
// it does not have. Any other error means that it could not tell: a source must
// not return ErrNotFound for something that it has and fails to read, because an
// optional secret would then go missing unnoticed.
var ErrNotFound = errors.New("not found")

// Source is where secrets come from.
type Source interface {
	// Get returns one version of a secret, or the newest usable one when version
	// is 0. The caller owns what it gets.
	Get(ctx context.Context, environment, name string, version uint32) (*Secret, error)
}

// Secret is one version of a secret.
type Secret struct {
	Environment string
	Name        string
	Version     uint32
	// Deleted says that the secret was deleted and this version is kept for the
	// workloads pinned to it. Get with version 0 never returns such a one.
	Deleted bool
	Data    map[string]Value
}
