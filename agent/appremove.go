package agent

import (
	"context"
	"fmt"

	"golang.org/x/sync/errgroup"

	"github.com/purserd/purser/agent/state"
	statev1 "github.com/purserd/purser/api/purser/state/v1"
	purserv1 "github.com/purserd/purser/api/purser/v1"
)

// RemoveApp forgets an app with its history. One that has functions is refused
// unless force is set: then they are stopped and removed first.
func (a *Agent) RemoveApp(ctx context.Context, environment, app string, force bool) error {
	environment = orDev(environment)
	functions := a.functionsOf(environment, app)
	if len(functions) == 0 {
		if _, err := a.history(environment, app); err != nil {
			return err
		}
	}
	if force {
		if err := a.removeAll(ctx, functions); err != nil {
			return err
		}
	}
	a.writing.Lock()
	defer a.writing.Unlock()
	// Looked for again: one may have been deployed meanwhile.
	if left := a.functionsOf(environment, app); len(left) > 0 {
		return refuse(Precondition, "app %s in environment %s has functions: %s; to stop and remove them, too: purser app rm -f -E %s %s",
			app, environment, some(idsOf(left)), environment, app)
	}
	return a.forgetApp(environment, app)
}

func (a *Agent) removeAll(ctx context.Context, all []*workload) error {
	group, ctx := errgroup.WithContext(ctx)
	for _, w := range all {
		group.Go(func() error { return a.Remove(ctx, w.environment(), w.id(), false) })
	}
	return group.Wait()
}

// forgetApp deletes an app's history, and the versions of secrets that nothing but
// a rollback to it needed. The caller holds writing.
func (a *Agent) forgetApp(environment, app string) error {
	history, err := a.db.App(environment, app)
	if err != nil {
		return err
	}
	if err := a.db.Update(func(tx *state.Tx) error { return tx.DeleteApp(environment, app) }); err != nil {
		return fmt.Errorf("deleting the history of app %s: %w", app, err)
	}
	a.emit(normal, "AppRemoved", environment, app, "removed, with its history")
	a.pruneSecrets(environment, pinsIn(history))
	return nil
}

// pinsIn has one pin for each secret that a revision of an app ran on.
func pinsIn(history *statev1.App) []*purserv1.Pin {
	var pins []*purserv1.Pin
	known := map[string]bool{}
	for _, r := range history.GetRevisions() {
		for _, f := range r.GetFunctions() {
			for _, p := range f.GetPins() {
				if p.GetVersion() != 0 && !known[p.GetSecret()] {
					known[p.GetSecret()] = true
					pins = append(pins, p)
				}
			}
		}
	}
	return pins
}

func idsOf(all []*workload) []string {
	var ids []string
	for _, w := range all {
		ids = append(ids, w.id())
	}
	return ids
}
