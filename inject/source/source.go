// Package source is the interface to where secrets come from outside of the embedded
// store: a watched directory, later Vault and others. Package dir has the first;
// the store itself is one, too (store.Store.Source), for what copies from it.
//
// A source has the present content of secrets and nothing else: no versions, no
// history. Package mirror keeps all that it sees of one in the embedded store, which
// numbers the versions and has them when the source is down.
//
// What every source has to keep to is tested by package sourcetest:
//
//	func TestConformance(t *testing.T) {
//		sourcetest.Run(t, func(t *testing.T) sourcetest.Place { … })
//	}
package source

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"github.com/purserd/purser/inject"
)

// Errors that steer. A secret that the source positively does not have is
// [inject.ErrNotFound]; any other error says that the source could not tell, and
// nothing may be concluded from it about the secret.
var (
	// ErrUnchanged: the secret is what it was at the revision that was named.
	ErrUnchanged = errors.New("unchanged")
	// ErrUnavailable: it is the whole source that cannot be read.
	ErrUnavailable = errors.New("the source cannot be read")
)

// Name names a secret.
type Name struct{ Environment, Secret string }

// String is the name in words.
func (n Name) String() string {
	return fmt.Sprintf("secret %s in environment %s", n.Secret, n.Environment)
}

// Compare orders by environment and then by secret.
func (n Name) Compare(other Name) int {
	return cmp.Or(cmp.Compare(n.Environment, other.Environment), cmp.Compare(n.Secret, other.Secret))
}

// Revision is a source's own mark of what a secret held when it was read. Nobody but
// the source knows what it means. An equal one says that nothing has changed; another
// does not say that something has. The empty one is that of nothing.
type Revision string

// Content is what a secret holds at present. It belongs to who gets it.
type Content struct {
	Revision Revision
	Data     map[string]inject.Value
}

// Source is where secrets come from. It is safe for concurrent use.
//
// Errors name the secret's place and what is wrong with it, and no value.
type Source interface {
	// Get returns what a secret holds, all of it as it was at one moment. It returns
	// ErrUnchanged, wrapped or not, when that is still what it was at the revision
	// unless, which may be empty.
	Get(ctx context.Context, name Name, unless Revision) (Content, error)
	// List returns the names of all secrets, sorted by environment and name. Names may
	// be among them that are none, for which Get says so.
	List(ctx context.Context) ([]Name, error)
	// Watch calls changed with the names of secrets that may have changed, have come or
	// have gone; without any when that may be so of all. It does so once it watches,
	// too, so that no change is missed by who calls it before List. Changes close to each
	// other may be one call, and changed does not have to return before the next change
	// is noticed. Watch returns when ctx ends, or with the error for which it cannot go
	// on, and has no goroutine left then.
	Watch(ctx context.Context, changed func(...Name)) error
}
