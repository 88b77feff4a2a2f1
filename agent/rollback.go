package agent

import (
	"context"
	"errors"
	"fmt"

	purserv1 "github.com/purserd/purser/api/purser/v1"
	"github.com/purserd/purser/inject/audit"
)

// RollbackSecret writes a new version with the content of an old one.
func (a *Agent) RollbackSecret(ctx context.Context, request *purserv1.RollbackRequest) (*purserv1.RollbackResponse, error) {
	environment, name := orDev(request.GetEnvironment()), request.GetName()
	from, err := a.rollbackFrom(environment, name, request.GetVersion(), request.GetForce())
	if err != nil {
		return nil, err
	}
	changing, err := a.audit.begin(ctx, audit.Record{
		Action: audit.Rollback, Environment: AuditName(environment), Secrets: []audit.Secret{{Name: AuditName(name), Version: from}},
	})
	if err != nil {
		return nil, err
	}
	a.writing.Lock()
	defer a.writing.Unlock()
	number, err := a.rollback(ctx, environment, name, from)
	if err == nil && request.GetNow() {
		err = a.hurry(environment, name, number)
	}
	changing.record.Why = contentOf(from)
	changing.end(err, audit.Secret{Name: AuditName(name), Version: number})
	if err != nil {
		return nil, err
	}
	return &purserv1.RollbackResponse{Version: number, CopyOf: from, Note: a.heldNote(environment, name)}, nil
}

// rollbackFrom is the version whose content a secret is to have again: the one that is
// asked for, or for 0 the newest before the newest that is neither held nor quarantined.
func (a *Agent) rollbackFrom(environment, name string, version uint32, force bool) (uint32, error) {
	if version != 0 {
		if err := a.refusal(a.secrets.CheckRollback(environment, name, version)); err != nil {
			return 0, err
		}
		return version, a.refuseBad(environment, name, version, force)
	}
	live := a.secrets.Live(environment, name)
	for _, v := range live[min(1, len(live)):] {
		if a.book().Held(environment, name, v) || a.book().Quarantine(environment, name, v) != nil {
			continue
		}
		return v, a.refusal(a.secrets.CheckRollback(environment, name, v))
	}
	return 0, a.nothingBefore(environment, name, live)
}

// nothingBefore says why no earlier version of a secret can be had.
func (a *Agent) nothingBefore(environment, name string, live []uint32) error {
	err := a.refusal(a.secrets.CheckRollback(environment, name, 0))
	var refused *Refusal
	switch {
	case err == nil:
		return refuse(Precondition, "every version of secret %s in environment %s before its newest, %d, is held or quarantined; purser secret versions -E %s %s says why: set a good value, or name a version and force it",
			name, environment, live[0], environment, name)
	case errors.As(err, &refused) && refused.Reason == Invalid:
		return refuse(Precondition, "secret %s in environment %s has no version before its newest", name, environment)
	}
	return err
}

// refuseBad refuses a version that is quarantined, unless it is forced.
func (a *Agent) refuseBad(environment, name string, version uint32, force bool) error {
	v := a.book().Quarantine(environment, name, version)
	if v == nil || force {
		return nil
	}
	return refuse(Precondition, "version %d of secret %s in environment %s is quarantined on this node, as %s failed with it: %s; to have its content all the same: --force, or force in the request",
		version, name, environment, v.GetTriedBy(), v.GetReason())
}

// rollback writes a version and tells of it. The caller holds writing.
func (a *Agent) rollback(ctx context.Context, environment, name string, from uint32) (uint32, error) {
	number, err := a.secrets.Rollback(ctx, environment, name, from)
	if err != nil {
		return 0, a.storeError(err)
	}
	a.emit(normal, "SecretRolledBack", environment, name, "version %d %s", number, contentOf(from))
	a.newVersion(environment, name)
	return number, nil
}

func contentOf(version uint32) string { return fmt.Sprintf("with the content of version %d", version) }
