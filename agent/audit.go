package agent

import (
	"context"
	"errors"
	"path/filepath"
	"regexp"
	"sync"
	"sync/atomic"

	"google.golang.org/protobuf/types/known/timestamppb"

	statev1 "github.com/purserd/purser/api/purser/state/v1"
	purserv1 "github.com/purserd/purser/api/purser/v1"
	"github.com/purserd/purser/inject"
	"github.com/purserd/purser/inject/audit"
	"github.com/purserd/purser/inject/keyring"
)

// Call is a call of the API, in the context of the methods that serve it.
type Call struct {
	// Caller is nil when the kernel does not tell who it is.
	Caller *audit.Caller
	// Method is the API's, as "Secrets/Put".
	Method string

	recorded atomic.Bool
}

// Recorded says whether the audit trail has a record of the call.
func (c *Call) Recorded() bool { return c.recorded.Load() }

type callKey struct{}

// WithCall returns a context of a call.
func WithCall(ctx context.Context, c *Call) context.Context {
	return context.WithValue(ctx, callKey{}, c)
}

// CallOf is the call that a context is of; nil for none.
func CallOf(ctx context.Context) *Call {
	c, _ := ctx.Value(callKey{}).(*Call)
	return c
}

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

// note records something with its caller and returns the record's number; 0 when it
// could not be written, which keeps nothing from going on.
func (t *auditor) note(ctx context.Context, r audit.Record) uint64 {
	seq, err := t.Append(t.called(ctx, r))
	if err != nil {
		t.warn(err)
		return 0
	}
	t.agent.metrics.Audited(string(r.Action))
	return seq
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
	} else {
		t.agent.metrics.Audited(string(r.Action))
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

// Names as the API has them. Anything else that a request has in their place is kept
// out of the trail, as it may be a value.
var (
	nameText = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)
	keyText  = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]{0,255}$`)
	idText   = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._/-]{0,128}$`)
)

// named is a secret by a name and keys that come from a request.
func named(name string, keys, removed []string) audit.Secret {
	s := audit.Secret{Name: AuditName(name)}
	for _, key := range keys {
		s.Keys = appendKey(s.Keys, key, &s.More)
	}
	for _, key := range removed {
		s.Removed = appendKey(s.Removed, key, &s.More)
	}
	return s
}

func appendKey(keys []string, key string, more *int) []string {
	if !keyText.MatchString(key) {
		*more++
		return keys
	}
	return append(keys, key)
}

// AuditName returns a name out of a request if it is one.
func AuditName(name string) string {
	if !nameText.MatchString(name) {
		return ""
	}
	return name
}

// AuditID returns a workload's ID out of a request if it is one.
func AuditID(id string) string {
	if !idText.MatchString(id) {
		return ""
	}
	return id
}

// Refused records a call that was refused before there was any record of it.
func (a *Agent) Refused(c *Call, r audit.Record) {
	r.Caller, r.Call = c.Caller, c.Method
	written, err := a.audit.Refuse(r)
	if err != nil {
		a.audit.warn(err)
	} else if written {
		a.metrics.Audited(string(audit.Refusal))
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

// AuditTail sends the newest records of the audit trail.
func (a *Agent) AuditTail(ctx context.Context, r *purserv1.TailRequest, send func(*purserv1.TailResponse) error) error {
	query := audit.Query{Last: -1, After: r.GetAfter(), Follow: r.GetFollow()}
	if r.Limit != nil {
		query.Last = int(r.GetLimit())
	}
	if environment := r.GetEnvironment(); environment != "" {
		query.Match = func(r audit.Record) bool { return r.Environment == environment }
	}
	for record, err := range a.audit.Read(ctx, query) {
		if err == nil {
			err = send(&purserv1.TailResponse{Record: auditMessage(record)})
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func auditMessage(r audit.Record) *purserv1.AuditRecord {
	m := &purserv1.AuditRecord{
		Seq: r.Seq, Time: timestamppb.New(r.Time), Action: string(r.Action), Outcome: string(r.Outcome), Of: r.Of,
		Call: r.Call, Environment: r.Environment, Workload: r.Workload, Generation: r.Generation, Instance: r.Instance,
		Command: r.Command, Image: r.Image, Exit: r.Exit, Code: r.Code, Why: r.Why, Count: r.Count,
	}
	if c := r.Caller; c != nil {
		m.Caller = &purserv1.AuditCaller{Uid: c.UID, Gid: c.GID, Pid: c.PID, Program: c.Program, Unit: c.Unit}
	}
	for _, s := range r.Secrets {
		m.Secrets = append(m.Secrets, &purserv1.AuditSecret{
			Name: s.Name, Version: s.Version, Keys: s.Keys, Removed: s.Removed, Versions: s.Versions, More: uint32(s.More),
		})
	}
	return m
}

// AuditVerify checks the whole audit trail.
func (a *Agent) AuditVerify(ctx context.Context) (*purserv1.VerifyResponse, error) {
	report, err := a.audit.Verify(ctx)
	if err != nil {
		return nil, err
	}
	m := &purserv1.VerifyResponse{
		Ok: report.OK(), Records: report.Records, Files: uint32(report.Files), Oldest: report.Oldest, Newest: report.Last,
		TotalProblems: uint32(report.TotalProblems),
	}
	for _, p := range report.Problems {
		m.Problems = append(m.Problems, &purserv1.AuditProblem{
			Kind: string(p.Kind), File: p.File, Line: uint32(p.Line), Seq: p.Seq, LastSeq: p.Last, Text: p.Text,
		})
	}
	if !m.Ok {
		a.emit(warning, "AuditDamaged", "", "", "purser audit verify found the audit trail changed, at %d places", report.TotalProblems)
	}
	return m, nil
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
