package agent

import (
	"context"
	"fmt"

	"github.com/purserd/purser/agent/rotate"
	purserv1 "github.com/purserd/purser/api/purser/v1"
	"github.com/purserd/purser/inject"
)

// latest is the secret store as a spec sees it: the newest version of a secret is the
// latest, which is neither held nor quarantined.
type latest struct {
	inject.Source
	environment string
	chosen      map[string]uint32
	// there says of a secret without a latest version that it has others.
	there map[string]bool
}

// latestFor are the secrets that a spec's references name.
func (a *Agent) latestFor(environment string, refs []*purserv1.SecretRef) latest {
	l := latest{Source: a.secrets, environment: environment, there: map[string]bool{}}
	versions := map[string][]uint32{}
	for _, ref := range refs {
		versions[ref.GetName()] = a.secrets.Live(environment, ref.GetName())
		l.there[ref.GetName()] = len(versions[ref.GetName()]) > 0
	}
	l.chosen = a.book().Choose(environment, versions)
	return l
}

// Get is the store's, but for the newest version.
func (l latest) Get(ctx context.Context, environment, name string, version uint32) (*inject.Secret, error) {
	if version == 0 {
		version = l.chosen[name]
	}
	if version == 0 && l.there[name] {
		return nil, &Refusal{Reason: Precondition, Err: fmt.Errorf("every version of it is held or quarantined on this node; see purser secret show -E %s %s", l.environment, name)}
	}
	return l.Source.Get(ctx, environment, name, version)
}

// book is what the node has learnt of versions of secrets.
func (a *Agent) book() rotate.Book { return a.learnt.get() }

// refuseQuarantined refuses references to versions that are quarantined, unless they are
// forced.
func (a *Agent) refuseQuarantined(environment string, refs []*purserv1.SecretRef, force bool) error {
	for i, ref := range refs {
		v := a.book().Quarantine(environment, ref.GetName(), ref.GetVersion())
		if ref.GetVersion() == 0 || v == nil || force {
			continue
		}
		return refuse(Precondition, "secrets[%d].version: version %d of secret %s is quarantined on this node, as %s failed with it: %s; to take it all the same: --force, or force in the request",
			i, ref.GetVersion(), ref.GetName(), v.GetTriedBy(), v.GetReason())
	}
	return nil
}
