package agent

import (
	"context"

	"google.golang.org/protobuf/types/known/timestamppb"

	purserv1 "github.com/purserd/purser/api/purser/v1"
	"github.com/purserd/purser/inject/audit"
)

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
