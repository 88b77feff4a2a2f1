package server

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strings"

	"connectrpc.com/connect"
	"google.golang.org/genproto/googleapis/rpc/errdetails"

	"github.com/purserd/purser/agent"
	"github.com/purserd/purser/api/launchspec"
	purserv1 "github.com/purserd/purser/api/purser/v1"
	"github.com/purserd/purser/inject/audit"
)

// auditTrail serves purser.v1.Audit.
type auditTrail struct{ agent *agent.Agent }

func (s auditTrail) Tail(ctx context.Context, r *connect.Request[purserv1.TailRequest], stream *connect.ServerStream[purserv1.TailResponse]) error {
	return coded(s.agent.AuditTail(ctx, r.Msg, stream.Send))
}

func (s auditTrail) Verify(ctx context.Context, _ *connect.Request[purserv1.VerifyRequest]) (*connect.Response[purserv1.VerifyResponse], error) {
	return respond(s.agent.AuditVerify(ctx))
}

// audited are the calls whose refusal is recorded: those that change, show or give
// secrets.
var audited = map[string]bool{
	"Secrets/Put": true, "Secrets/List": true, "Secrets/Describe": true, "Secrets/Rollback": true, "Secrets/Delete": true,
	"Workloads/Launch": true, "Workloads/Restart": true, "Workloads/Exec": true, "Workloads/Attach": true,
	"Apps/Deploy": true, "Apps/Rollback": true,
	"Audit/Tail": true, "Audit/Verify": true,
}

// refusals are the codes of a call that was refused, and did not just fail.
var refusals = map[connect.Code]bool{
	connect.CodeInvalidArgument: true, connect.CodeNotFound: true, connect.CodeFailedPrecondition: true, connect.CodeOutOfRange: true,
	connect.CodePermissionDenied: true, connect.CodeUnauthenticated: true, connect.CodeResourceExhausted: true, connect.CodeUnimplemented: true,
}

// observed is a call of the API as it goes through the handlers.
type observed struct {
	call *agent.Call
	// entered tells that the request could be read.
	entered bool
	// subject is what the request is about.
	subject audit.Record
	err     error
}

type observedKey struct{}

// watch gives each request its caller, and records those that are refused.
func watch(a *agent.Agent, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		method, ours := strings.CutPrefix(r.URL.Path, "/purser.v1.")
		o := &observed{call: &agent.Call{Caller: peerOf(r.Context()), Method: method}}
		ctx := agent.WithCall(r.Context(), o.call)
		next.ServeHTTP(w, r.WithContext(context.WithValue(ctx, observedKey{}, o)))
		if ours && audited[method] && !o.call.Recorded() {
			o.record(a)
		}
	})
}

// record records a call that was refused; another is none of its business.
func (o *observed) record(a *agent.Agent) {
	r := o.subject
	switch code := connect.CodeOf(o.err); {
	case !o.entered:
		r.Code, r.Why = connect.CodeInvalidArgument.String(), "the request could not be read"
	case o.err == nil || !refusals[code]:
		return
	default:
		r.Code, r.Why = code.String(), fieldsOf(o.err)
	}
	a.Refused(o.call, r)
}

// fieldsOf names the fields for which a request was refused. The texts are left out:
// they may repeat what the request had in the wrong place.
func fieldsOf(err error) string {
	var refused *connect.Error
	if !errors.As(err, &refused) {
		return ""
	}
	var fields []string
	for _, detail := range refused.Details() {
		value, _ := detail.Value() // one of another kind tells no field
		bad, _ := value.(*errdetails.BadRequest)
		for _, v := range bad.GetFieldViolations() {
			fields = append(fields, subscript.ReplaceAllString(v.GetField(), "[]"))
		}
	}
	if len(fields) == 0 {
		return ""
	}
	return fmt.Sprintf("fields: %s", strings.Join(fields[:min(len(fields), 8)], ", "))
}

// subscript is a key of a map in the path of a field, which is the client's text.
var subscript = regexp.MustCompile(`\[.*\]`)

// watcher notes what becomes of a call. It is the outermost interceptor.
type watcher struct{}

func (watcher) WrapUnary(next connect.UnaryFunc) connect.UnaryFunc {
	return func(ctx context.Context, r connect.AnyRequest) (connect.AnyResponse, error) {
		o, ok := ctx.Value(observedKey{}).(*observed)
		if !ok {
			return next(ctx, r)
		}
		o.entered, o.subject = true, subjectOf(r.Any())
		response, err := next(ctx, r)
		o.err = err
		return response, err
	}
}

func (watcher) WrapStreamingClient(next connect.StreamingClientFunc) connect.StreamingClientFunc {
	return next
}

func (watcher) WrapStreamingHandler(next connect.StreamingHandlerFunc) connect.StreamingHandlerFunc {
	return func(ctx context.Context, conn connect.StreamingHandlerConn) error {
		o, ok := ctx.Value(observedKey{}).(*observed)
		if !ok {
			return next(ctx, conn)
		}
		o.entered = true
		o.err = next(ctx, &firstSeen{StreamingHandlerConn: conn, see: func(m any) { o.subject = subjectOf(m) }})
		return o.err
	}
}

// firstSeen shows the first message that a stream receives.
type firstSeen struct {
	connect.StreamingHandlerConn
	see func(any)
}

func (c *firstSeen) Receive(m any) error {
	err := c.StreamingHandlerConn.Receive(m)
	if err == nil && c.see != nil {
		c.see(m)
		c.see = nil
	}
	return err
}

// subjectOf is what a request names, as far as these are names.
func subjectOf(m any) audit.Record {
	if r, ok := m.(*purserv1.ExecRequest); ok {
		m = r.GetStart()
	}
	var r audit.Record
	if launch, ok := m.(*purserv1.LaunchRequest); ok {
		m = launch.GetSpec()
		r.Workload = agent.AuditID(launchspec.ID(launch.GetSpec()))
	}
	if named, ok := m.(interface{ GetEnvironment() string }); ok {
		r.Environment = agent.AuditName(named.GetEnvironment())
	}
	if named, ok := m.(interface{ GetName() string }); ok && agent.AuditName(named.GetName()) != "" {
		r.Secrets = []audit.Secret{{Name: named.GetName()}}
	}
	if named, ok := m.(interface{ GetId() string }); ok && r.Workload == "" {
		r.Workload = agent.AuditID(named.GetId())
	}
	if spec, ok := m.(interface{ GetApp() string }); ok && r.Workload == "" {
		r.Workload = agent.AuditID(spec.GetApp())
	}
	return r
}
