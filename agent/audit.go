package agent

import (
	"context"
	"errors"
	"path/filepath"
	"sync"

	statev1 "github.com/purserd/purser/api/purser/state/v1"
	purserv1 "github.com/purserd/purser/api/purser/v1"
	"github.com/purserd/purser/inject"
	"github.com/purserd/purser/inject/audit"
	"github.com/purserd/purser/inject/keyring"
)

// auditor writes the audit trail, and tells when it cannot.
type auditor struct {
	*audit.Log
	agent *Agent

	mu      sync.Mutex
	failing bool
}

func (a *Agent) openAudit(keys *keyring.Keyring) error {
	t := &auditor{agent: a}
	a.audit = t
	var err error
	t.Log, err = audit.Open(filepath.Join(a.cfg.StateDir, "audit"), keys, a.db, audit.Options{
		FileSize: int64(a.cfg.Audit.FileSize),
		Files:    a.cfg.Audit.Files,
		Note:     "purser " + a.build.Version,
		Warn:     t.warn,
		Synced:   t.synced,
		Written:  func(action audit.Action) { a.metrics.Audited(string(action)) },
	})
	return err
}

// auditActions are the names of all actions, for the metrics.
func auditActions() []string {
	var names []string
	for _, action := range audit.Actions {
		names = append(names, string(action))
	}
	return names
}

// warn tells, once, that the trail cannot be written, and each time that it was
// changed.
func (t *auditor) warn(err error) {
	var damage *audit.DamageError
	if errors.As(err, &damage) {
		t.agent.emit(warning, "AuditDamaged", "", "", "%s; purser audit verify names what is wrong", damage)
		return
	}
	t.agent.metrics.Unaudited()
	t.mu.Lock()
	first := !t.failing
	t.failing = true
	t.mu.Unlock()
	if first {
		t.agent.emit(warning, "AuditFailing", "", "", "%s; %s", err, t.consequence())
	}
}

func (t *auditor) consequence() string {
	if t.agent.cfg.Audit.FailClosed {
		return "secrets cannot be changed until it is written again, all else goes on without a record"
	}
	return "all goes on without a record"
}

func (t *auditor) synced() {
	t.mu.Lock()
	again := t.failing
	t.failing = false
	t.mu.Unlock()
	if again {
		t.agent.emit(normal, "AuditResumed", "", "", "the audit trail is written again")
	}
}

// note records something with its caller, without waiting for the disk. What cannot
// be written keeps nothing from going on.
func (t *auditor) note(ctx context.Context, r audit.Record) *audit.Pending {
	noted, err := t.Note(t.called(ctx, r))
	if err != nil {
		t.warn(err)
		return nil
	}
	return noted
}

// called fills in who made the call that a context is of.
func (t *auditor) called(ctx context.Context, r audit.Record) audit.Record {
	if c := CallOf(ctx); c != nil {
		if r.Action != audit.Pull { // which a call may need before it is refused
			c.recorded.Store(true)
		}
		r.Caller, r.Call = c.Caller, c.Method
	}
	return r
}

// change is one of a secret that is being made.
type change struct {
	audit  *auditor
	ctx    context.Context
	record audit.Record
}

// begin records, on disk, a change of a secret that is about to be made. Where that
// cannot be done and the configuration says so, the change is refused.
func (t *auditor) begin(ctx context.Context, r audit.Record) (*change, error) {
	r.Outcome = audit.Begun
	seq, err := t.Commit(t.called(ctx, r))
	if err != nil {
		t.warn(err)
	}
	if err != nil && t.agent.cfg.Audit.FailClosed {
		return nil, refuse(Precondition, "the audit trail cannot be written, and no secret is changed without a record ([audit] fail_closed in the configuration): %w", err)
	}
	r.Of = seq
	return &change{audit: t, ctx: ctx, record: r}, nil
}

// end records what became of a change, as err says: done unless it says otherwise.
func (c *change) end(err error, secret audit.Secret) {
	r := c.record
	r.Outcome, r.Secrets = audit.Done, []audit.Secret{secret}
	var refusal *Refusal
	switch {
	case errors.As(err, &refusal):
		// The text may repeat what the request had in the wrong place.
		r.Outcome, r.Code = audit.Denied, refusal.Reason.String()
	case err != nil:
		r.Outcome, r.Why = audit.Failed, err.Error()
	}
	c.audit.note(c.ctx, r)
}

// unchanged records that there was nothing to do.
func (c *change) unchanged(secret audit.Secret) {
	r := c.record
	r.Outcome, r.Secrets = audit.Unchanged, []audit.Secret{secret}
	c.audit.note(c.ctx, r)
}

// Refused records a call that was refused before there was any record of it.
func (a *Agent) Refused(c *Call, r audit.Record) {
	r.Caller, r.Call = c.Caller, c.Method
	if err := a.audit.Refuse(r); err != nil {
		a.audit.warn(err)
	}
}

// given are the secrets that a resolution has, by version and key.
func given(resolution *inject.Resolution) []audit.Secret {
	var all []audit.Secret
	for _, s := range resolution.Secrets {
		all = append(all, audit.Secret{Name: s.Name, Version: s.Version, Keys: s.Keys})
	}
	return all
}

// pinnedSecrets are the secrets that pins name.
func pinnedSecrets(pins []*purserv1.Pin) []audit.Secret {
	var all []audit.Secret
	for _, p := range pins {
		if p.GetVersion() != 0 {
			all = append(all, audit.Secret{Name: p.GetSecret(), Version: p.GetVersion()})
		}
	}
	return all
}

// recordGiven records which secrets an instance is given. The launch goes on without
// a record, and does not wait for the disk.
func (w *workload) recordGiven(ctx context.Context, r *statev1.Workload, resolution *inject.Resolution, instance string) {
	secrets := given(resolution)
	if len(secrets) == 0 {
		return
	}
	w.agent.audit.note(ctx, audit.Record{
		Action: audit.Resolve, Outcome: audit.Done, Environment: r.GetEnvironment(), Workload: r.GetId(),
		Generation: r.GetGeneration(), Instance: instance, Secrets: secrets,
	})
}

// recordWish records what was asked for of a workload.
func (a *Agent) recordWish(ctx context.Context, action audit.Action, r *statev1.Workload) {
	a.audit.note(ctx, audit.Record{
		Action: action, Outcome: audit.Done, Environment: r.GetEnvironment(), Workload: r.GetId(), Generation: r.GetGeneration(),
		Image: r.GetSpec().GetImage().GetRef(), Secrets: pinnedSecrets(r.GetPins()),
	})
}
