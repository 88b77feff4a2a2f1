package agent

import (
	"context"
	"fmt"
	"time"
)

// What follows a new version of a secret and costs as much as the version itself, or grows
// with the number of workloads, is done once for many of them.

// upkeepPause is how long it waits at most.
const upkeepPause = time.Second

// burst is how close to each other changes of secrets are that are one, most of which nobody
// will see.
const burst = 10 * time.Millisecond

// mostUnpruned is how many versions of a secret may come before those are dropped that are
// not to be kept.
const mostUnpruned = 50

// newVersion does what follows a new version of a secret at once, and has the rest done. The
// caller holds writing.
func (a *Agent) newVersion(environment, name string) {
	if a.toPrune(environment, name) >= mostUnpruned {
		a.prune(environment, name)
	}
	raise(a.versionsDue)
	a.rotator.notice(environment, name)
}

// toPrune notes that a secret is to be pruned, and returns how often that was noted. The
// caller holds writing.
func (a *Agent) toPrune(environment, name string) int {
	if a.unpruned == nil {
		a.unpruned = map[[2]string]int{}
	}
	at := [2]string{environment, name}
	a.unpruned[at]++
	return a.unpruned[at]
}

// keepSecrets does what follows new versions until ctx ends.
func (a *Agent) keepSecrets(ctx context.Context) {
	for ctx.Err() == nil {
		a.tendSecrets(ctx)
		select {
		case <-a.versionsDue:
			sleep(ctx, upkeepPause)
		case <-ctx.Done():
		}
	}
}

// tendSecrets drops old versions of the secrets that have new ones, remembers how far the
// store has come, and learns the values.
func (a *Agent) tendSecrets(ctx context.Context) {
	a.writing.Lock()
	a.pruneHeld()
	if err := a.secrets.WriteFiles(); err != nil {
		a.log.Error("versions of secrets are in the journal of the secret store alone", "error", err)
	}
	err := a.noteSequence()
	a.writing.Unlock()
	if err != nil {
		a.log.Error("the next agent may not notice that the secret store was put back to an earlier state", "error", err)
	}
	a.learnValues(ctx)
}

// learnValues does now what the next launch would have to do first: get to know the
// values that its spec must not contain.
func (a *Agent) learnValues(ctx context.Context) {
	for _, environment := range a.secrets.Environments() {
		// It fails with ctx alone; then the next launch does it.
		_ = a.copies.Learn(ctx, environment)
	}
}

// noteSequence remembers how far the store has come, so that an older copy put
// in its place is noticed at the next start. The caller holds writing.
func (a *Agent) noteSequence() error {
	if now := a.secrets.Sequence(); now != a.noted {
		if err := a.db.SetSecretsSequence(now); err != nil {
			return fmt.Errorf("noting the state of the secret store: %w", err)
		}
		a.noted = now
	}
	return nil
}
