package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"
	"google.golang.org/protobuf/proto"

	purserv1 "github.com/purserd/purser/api/purser/v1"
)

func newAudit(s *session) *cobra.Command {
	return group(&cobra.Command{
		Use:   "audit",
		Short: "Read and check the audit trail: who did or was given what",
		Long: `Read and check the node's audit trail: who changed a secret, which keys of which
version an instance was given, what was run in a container, and what was refused.
It never holds a value.`,
		Example: `  purser audit tail -f
  purser audit verify`,
	}, newAuditTail(s), newAuditVerify(s))
}

// auditLimit is how many records are shown unless -n says otherwise, and
// mostRecords how many at most, unless all.
const (
	auditLimit  = 50
	mostRecords = 100000
)

func newAuditTail(s *session) *cobra.Command {
	var follow bool
	var limit int
	var after uint64
	cmd := &cobra.Command{
		Use:   "tail",
		Short: "Print the newest records of the audit trail",
		Long: `Print the newest records of the audit trail, oldest first, and with -f go on until
interrupted. All environments are shown unless -E is given. Records are printed as
they are; whether they are authentic is for purser audit verify to tell, and lines
that are no records are left out. With -o json and -f each record is an object on a
line of its own.`,
		Example: `  purser audit tail
  purser audit tail -f -n 0 -E prod
  purser audit tail -n -1 -o json | jq '.records[] | select(.action == "resolve")'`,
		Args:              takes(0, 0),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if limit > mostRecords {
				return misuse(cmd, fmt.Errorf("--limit %d: must be %d at most, or negative for all", limit, mostRecords))
			}
			request := &purserv1.TailRequest{Follow: follow, After: after}
			if limit >= 0 {
				request.Limit = proto.Uint32(uint32(limit))
			}
			if s.given {
				request.Environment = s.environment
			}
			ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			err := s.auditTail(ctx, request)
			if follow && errors.Is(context.Cause(ctx), context.Canceled) {
				return nil // the usual end
			}
			return err
		},
	}
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "go on printing")
	cmd.Flags().IntVarP(&limit, "limit", "n", auditLimit, "begin with the last `RECORDS`; all when negative")
	cmd.Flags().Uint64Var(&after, "after", 0, "only records after this `NUMBER`")
	return cmd
}

func (s *session) auditTail(ctx context.Context, request *purserv1.TailRequest) error {
	api, err := s.dial()
	if err != nil {
		return err
	}
	stream, err := api.Audit.Tail(ctx, connect.NewRequest(request))
	if err != nil {
		return err
	}
	defer stream.Close()
	printer := s.messagePrinter("records", request.GetFollow(), s.auditTable())
	for stream.Receive() {
		if err := printer.add(stream.Msg().GetRecord()); err != nil {
			return err
		}
	}
	if err := stream.Err(); err != nil {
		return err
	}
	return printer.finish()
}

// auditTable prints records under a heading, which comes with the first.
func (s *session) auditTable() func(proto.Message) error {
	t := s.newAuditTable()
	return func(m proto.Message) error {
		t.stream(auditCells(m.(*purserv1.AuditRecord))...)
		return nil
	}
}

// newAuditTable has columns that are wide enough for most; numbers are to the right.
func (s *session) newAuditTable() *table {
	t := newTable(s.out, "   SEQ", "TIME", "ACTION", "OUTCOME", "CALLER", "SUBJECT", "DETAILS")
	t.fixed = []int{6, 19, 8, 9, 20, 32, leastText}
	t.whole, t.wraps = 4, true
	t.short = []shortForm{shortTime}
	t.spare = []string{"CALLER", "   SEQ", "OUTCOME"}
	return t
}

func auditCells(r *purserv1.AuditRecord) []string {
	return []string{
		fmt.Sprintf("%6d", r.GetSeq()), orDash(clock(r.GetTime())), r.GetAction(), r.GetOutcome(),
		callerText(r.GetCaller()), auditSubject(r), orDash(auditDetails(r)),
	}
}

func callerText(c *purserv1.AuditCaller) string {
	if c == nil {
		return "-"
	}
	text := fmt.Sprintf("uid %d", c.GetUid())
	if c.GetPid() != 0 {
		text += fmt.Sprintf(", pid %d", c.GetPid())
	}
	return text
}

// auditSubject is what a record is about: a workload, or else secrets.
func auditSubject(r *purserv1.AuditRecord) string {
	subject := r.GetWorkload()
	if subject == "" && len(r.GetSecrets()) > 0 {
		subject = "secret " + r.GetSecrets()[0].GetName()
	}
	return orDash(strings.TrimSpace(r.GetEnvironment() + " " + subject))
}

// auditDetails is the rest of a record.
func auditDetails(r *purserv1.AuditRecord) string {
	var parts []string
	add := func(format string, args ...any) { parts = append(parts, fmt.Sprintf(format, args...)) }
	if r.GetOf() != 0 {
		add("of %d", r.GetOf())
	}
	if r.GetInstance() != "" {
		add("container %s", r.GetInstance())
	}
	if r.GetCommand() != "" {
		add("runs %q", r.GetCommand())
	}
	for _, secret := range r.GetSecrets() {
		if text := secretText(secret, r.GetWorkload() != ""); text != "" {
			add("%s", text)
		}
	}
	if r.Exit != nil {
		add("exit status %d", r.GetExit())
	}
	if r.GetCode() != "" {
		add("%s: %s", r.GetCall(), strings.ReplaceAll(r.GetCode(), "_", " "))
	}
	if r.GetCount() > 1 {
		add("%d times", r.GetCount())
	}
	if r.GetWhy() != "" {
		add("%s", r.GetWhy())
	}
	return strings.Join(parts, "; ")
}

// secretText is a version of a secret and its keys.
func secretText(secret *purserv1.AuditSecret, named bool) string {
	var words []string
	if named {
		words = append(words, secret.GetName())
	}
	if secret.GetVersion() != 0 {
		words = append(words, fmt.Sprintf("version %d", secret.GetVersion()))
	}
	if keys := secret.GetKeys(); len(keys) > 0 {
		words = append(words, "keys "+strings.Join(keys, ", "))
	}
	if removed := secret.GetRemoved(); len(removed) > 0 {
		words = append(words, "without "+strings.Join(removed, ", "))
	}
	if versions := secret.GetVersions(); len(versions) > 0 {
		words = append(words, "versions "+strings.Trim(fmt.Sprint(versions), "[]"))
	}
	if secret.GetMore() > 0 {
		words = append(words, fmt.Sprintf("and %d more", secret.GetMore()))
	}
	return strings.Join(words, " ")
}

func newAuditVerify(s *session) *cobra.Command {
	return &cobra.Command{
		Use:   "verify",
		Short: "Check that nothing of the audit trail was changed, dropped, reordered or cut off",
		Long: `Check the whole audit trail: that every record is as the agent wrote it, that none is
missing and all are in order, and that it ends where the sealed head says. What is
wrong is named by file, line and record, and the exit status is 1.`,
		Example: `  purser audit verify
  purser audit verify -o json | jq '.problems'`,
		Args:              takes(0, 0),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE:              func(cmd *cobra.Command, _ []string) error { return s.auditVerify(cmd.Context()) },
	}
}

func (s *session) auditVerify(ctx context.Context) error {
	api, err := s.dial()
	if err != nil {
		return err
	}
	response, err := api.Audit.Verify(ctx, connect.NewRequest(&purserv1.VerifyRequest{}))
	if err != nil {
		return err
	}
	r := response.Msg
	if err := s.print(r, func() { s.showVerified(r) }); err != nil {
		return err
	}
	if r.GetOk() {
		return nil
	}
	return hint(fmt.Errorf("the audit trail is not as the agent wrote it: %s", count(int(r.GetTotalProblems()), "problem", "problems")),
		"keep a copy of its directory, audit/ in the agent's state directory, and compare it with what was shipped off the node")
}

func (s *session) showVerified(r *purserv1.VerifyResponse) {
	if r.GetOk() {
		fmt.Fprintf(s.out, "ok: %s, %d to %d, in %s\n", count(int(r.GetRecords()), "record", "records"), r.GetOldest(), r.GetNewest(), count(int(r.GetFiles()), "file", "files"))
		return
	}
	t := s.newProblemTable()
	for _, p := range r.GetProblems() {
		t.row(p.GetKind(), orDash(problemPlace(p)), orDash(problemRecords(p)), p.GetText())
	}
	t.flush()
	if more := int(r.GetTotalProblems()) - len(r.GetProblems()); more > 0 {
		fmt.Fprintf(s.out, "and %d more\n", more)
	}
}

func (s *session) newProblemTable() *table {
	t := newTable(s.out, "WHAT", "WHERE", "RECORD", "PROBLEM")
	t.wraps = true
	t.spare = []string{"RECORD"}
	return t
}

func problemPlace(p *purserv1.AuditProblem) string {
	if p.GetLine() == 0 {
		return p.GetFile()
	}
	return fmt.Sprintf("%s:%d", p.GetFile(), p.GetLine())
}

func problemRecords(p *purserv1.AuditProblem) string {
	switch {
	case p.GetSeq() == 0:
		return ""
	case p.GetLastSeq() > p.GetSeq():
		return fmt.Sprintf("%d-%d", p.GetSeq(), p.GetLastSeq())
	default:
		return fmt.Sprint(p.GetSeq())
	}
}
