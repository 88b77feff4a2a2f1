package agent

import (
	"context"
	"fmt"
	"slices"

	"github.com/purserd/purser/agent/rotate"
	purserv1 "github.com/purserd/purser/api/purser/v1"
	"github.com/purserd/purser/inject"
	"github.com/purserd/purser/inject/store"
)

// latest is the secret store as a spec sees it: the newest version of a secret is the
// latest, which is neither held nor quarantined.
type latest struct {
	inject.Source
	environment string
	// newest and chosen are versions by secret; there are none of one that is not there, and
	// none chosen of one of which all are held or quarantined.
	newest, chosen map[string]uint32
}

// latestFor are the secrets that a spec's references name.
func (a *Agent) latestFor(environment string, refs []*purserv1.SecretRef) latest {
	l := latest{Source: a.secrets, environment: environment, newest: map[string]uint32{}}
	versions := map[string][]uint32{}
	for _, ref := range refs {
		live := a.secrets.Live(environment, ref.GetName())
		if len(live) > 0 {
			l.newest[ref.GetName()] = live[0]
		}
		addVersions(versions, ref, live)
	}
	l.chosen = a.book().Choose(environment, versions)
	for name, newest := range l.newest {
		isLatest := func(ref *purserv1.SecretRef) bool { return ref.GetName() == name && ref.GetVersion() == 0 }
		if !slices.ContainsFunc(refs, isLatest) {
			l.chosen[name] = newest // nobody gets it: a version is named
		}
	}
	return l
}

// addVersions adds what there is to choose from for a reference to a secret: of one that
// names a version, no other.
func addVersions(to map[string][]uint32, ref *purserv1.SecretRef, live []uint32) {
	switch {
	case len(live) == 0:
	case ref.GetVersion() == 0:
		to[ref.GetName()] = live
	case to[ref.GetName()] == nil:
		to[ref.GetName()] = []uint32{ref.GetVersion()}
	}
}

// Get is the store's, but for the newest version.
func (l latest) Get(ctx context.Context, environment, name string, version uint32) (*inject.Secret, error) {
	newest, chosen := l.newest[name], l.chosen[name]
	if version != 0 || newest == 0 || chosen == newest {
		return l.Source.Get(ctx, environment, name, version)
	}
	if chosen == 0 {
		return nil, &Refusal{Reason: Precondition, Err: fmt.Errorf("every version of it is held or quarantined on this node; see purser secret show -E %s %s", l.environment, name)}
	}
	// What is wrong with the secret as a whole is said of its newest version.
	if _, err := l.Source.Get(ctx, environment, name, 0); isA[*store.ConflictError](err) {
		return nil, err
	}
	return l.Source.Get(ctx, environment, name, chosen)
}

// refuseQuarantinedSet refuses versions that are quarantined together, where a spec names any
// of them, unless they are forced.
func (a *Agent) refuseQuarantinedSet(environment string, refs []*purserv1.SecretRef, pins []*purserv1.Pin, force bool) error {
	named := slices.ContainsFunc(refs, func(ref *purserv1.SecretRef) bool { return ref.GetVersion() != 0 })
	v := a.book().Verdict(rotate.Who{Environment: environment}, pins)
	if force || !named || v == nil {
		return nil
	}
	return refuse(Precondition, "secrets: %s are quarantined on this node together, as %s failed with them: %s; to take them all the same: --force, or force in the request",
		setText(v.GetSet()), v.GetTriedBy(), v.GetReason())
}

// resolveLatest has the values of references, in the versions of pins where these have one
// and in the latest otherwise.
func (a *Agent) resolveLatest(ctx context.Context, environment string, refs []*purserv1.SecretRef, pins []*purserv1.Pin) (*inject.Resolution, error) {
	return inject.Resolve(ctx, a.latestFor(environment, refs), inject.Request{Environment: environment, Refs: refs, Pins: pins})
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
