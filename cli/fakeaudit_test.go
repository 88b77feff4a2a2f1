package cli

import (
	"context"

	"connectrpc.com/connect"

	purserv1 "github.com/purserd/purser/api/purser/v1"
	"github.com/purserd/purser/api/purser/v1/purserv1connect"
)

// fakeAudit has a trail of four records, which is whole until there is a secret
// named damaged.
type fakeAudit struct {
	purserv1connect.UnimplementedAuditHandler
	node *fakeNode
}

func (f fakeAudit) Tail(_ context.Context, r *connect.Request[purserv1.TailRequest], stream *connect.ServerStream[purserv1.TailResponse]) error {
	exit := uint32(3)
	caller := &purserv1.AuditCaller{Uid: 1000, Gid: 100, Pid: 42, Program: "/usr/bin/purser"}
	records := []*purserv1.AuditRecord{
		{Seq: 1, Time: now(), Action: "set", Outcome: "done", Of: 9, Caller: caller, Call: "Secrets/Put", Environment: "dev",
			Secrets: []*purserv1.AuditSecret{{Name: "db", Version: 2, Keys: []string{"A", "B"}, More: 3}}},
		{Seq: 2, Time: now(), Action: "resolve", Outcome: "done", Environment: "prod", Workload: "shop/cart", Instance: "x1",
			Secrets: []*purserv1.AuditSecret{{Name: "db", Version: 2, Keys: []string{"A"}}}},
		{Seq: 3, Time: now(), Action: "exec", Outcome: "done", Caller: caller, Environment: "dev", Workload: "shop/cart", Command: "sh\x1b[2J", Exit: &exit},
		{Seq: 4, Time: now(), Action: "refused", Outcome: "refused", Caller: &purserv1.AuditCaller{Uid: 7}, Call: "Secrets/Put", Code: "invalid_argument", Why: "fields: name", Count: 12},
	}
	records = records[max(0, len(records)-int(r.Msg.GetLimit())):]
	for _, record := range records {
		if e := r.Msg.GetEnvironment(); record.GetSeq() <= r.Msg.GetAfter() || e != "" && e != record.GetEnvironment() {
			continue
		}
		if err := stream.Send(&purserv1.TailResponse{Record: record}); err != nil {
			return err
		}
	}
	return nil
}

func (f fakeAudit) Verify(context.Context, *connect.Request[purserv1.VerifyRequest]) (*connect.Response[purserv1.VerifyResponse], error) {
	f.node.mu.Lock()
	defer f.node.mu.Unlock()
	r := &purserv1.VerifyResponse{Ok: true, Records: 3, Files: 1, Oldest: 1, Newest: 3}
	if f.node.secrets["dev:damaged"] != nil {
		r.Ok, r.TotalProblems = false, 3
		r.Problems = []*purserv1.AuditProblem{
			{Kind: "changed", File: "audit-000000000001.jsonl", Line: 2, Seq: 2, Text: "it is not as it was written"},
			{Kind: "dropped", File: "audit-000000000001.jsonl", Line: 4, Seq: 4, LastSeq: 6, Text: "records 4 to 6 are missing before this line"},
		}
	}
	return connect.NewResponse(r), nil
}
