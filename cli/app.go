package cli

import (
	"bytes"
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	purserv1 "github.com/purserd/purser/api/purser/v1"
)

func newApp(s *session) *cobra.Command {
	return group(&cobra.Command{
		Use:   "app",
		Short: "List apps, read their logs, roll them back, stop and remove them",
		Example: `  purser app list
  purser app rollback rag-qna`,
	}, newAppList(s), newAppLogs(s), newAppHistory(s), newAppRollback(s), newAppStop(s), newAppRm(s))
}

func newAppList(s *session) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "list",
		Aliases: []string{"ls"},
		Short:   "List the apps of an environment",
		Example: `  purser app list
  purser app list -A -o json`,
		Args:              takes(0, 0),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE:              func(cmd *cobra.Command, _ []string) error { return s.appList(cmd.Context()) },
	}
	s.everywhereFlag(cmd)
	return cmd
}

func (s *session) appList(ctx context.Context) error {
	api, err := s.dial()
	if err != nil {
		return err
	}
	response, err := api.Apps.List(ctx, connect.NewRequest(&purserv1.ListAppsRequest{Environment: s.scope()}))
	if err != nil {
		return err
	}
	return s.print(response.Msg, func() {
		t := s.newAppTable()
		for _, app := range response.Msg.GetApps() {
			t.row(app.GetName(), app.GetEnvironment(), fmt.Sprint(app.GetRevision()),
				fmt.Sprintf("%d/%d", app.GetHealthy(), app.GetFunctions()), ago(app.GetDeployedAt(), time.Now()))
		}
		t.flush()
	})
}

func (s *session) newAppTable() *table {
	t := newTable(s.out, "APP", "ENVIRONMENT", "REVISION", "HEALTHY", "DEPLOYED")
	t.whole = 2
	t.spare = []string{"DEPLOYED", "REVISION"}
	return t
}

func newAppLogs(s *session) *cobra.Command {
	var f logFlags
	cmd := &cobra.Command{
		Use:   "logs NAME",
		Short: "Print what all functions of an app have written",
		Long: `Print what all functions of an app have written, by time, each line behind the
ID of its workload.`,
		Example: `  purser app logs rag-qna
  purser app logs -f --since 1m rag-qna`,
		Args:              takes(1, 1),
		ValidArgsFunction: first(s.appNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			request, err := f.request(time.Now())
			if err != nil {
				return misuse(cmd, err)
			}
			request.Environment, request.App = s.environment, args[0]
			return s.appLogs(cmd.Context(), request)
		},
	}
	f.add(cmd)
	return cmd
}

func (s *session) appLogs(ctx context.Context, request *purserv1.LogsRequest) error {
	lines := newLineMerger(func(id string) string { return id + " | " })
	flush := func(stream string, data []byte) error { return writeStream(stream, data, s.out, s.err) }
	err := s.readLogs(ctx, request, func(entry *purserv1.LogsResponse) error {
		return flush(entry.GetStream(), lines.add(entry.GetId(), entry.GetStream(), entry.GetData()))
	})
	if rest := lines.rest(); len(rest) > 0 {
		_ = flush("stdout", rest)
	}
	return err
}

// lineMerger keeps the lines of several writers whole, each behind the name
// of who wrote it.
type lineMerger struct {
	// prefix is what stands before each line of a writer.
	prefix func(id string) string
	// partial holds the beginnings of lines by who writes them and where to.
	partial map[string][]byte
	order   []string
}

func newLineMerger(prefix func(id string) string) *lineMerger {
	return &lineMerger{prefix: prefix, partial: map[string][]byte{}}
}

// add returns the lines that are complete with data.
func (m *lineMerger) add(id, stream string, data []byte) []byte {
	key := id + "\x00" + stream
	if _, known := m.partial[key]; !known {
		m.order = append(m.order, key)
	}
	pending := append(m.partial[key], data...)
	var whole []byte
	for {
		line, rest, found := bytes.Cut(pending, []byte("\n"))
		if !found {
			break
		}
		whole = fmt.Appendf(whole, "%s%s\n", m.prefix(id), line)
		pending = rest
	}
	m.partial[key] = bytes.Clone(pending)
	return whole
}

// rest returns the lines that never ended, and forgets them.
func (m *lineMerger) rest() []byte {
	var rest []byte
	for _, key := range m.order {
		if line := m.partial[key]; len(line) > 0 {
			id, _, _ := strings.Cut(key, "\x00")
			rest = fmt.Appendf(rest, "%s%s\n", m.prefix(id), line)
			m.partial[key] = nil
		}
	}
	return rest
}

func newAppHistory(s *session) *cobra.Command {
	return &cobra.Command{
		Use:   "history NAME",
		Short: "List what was deployed, with the secret versions it ran on",
		Example: `  purser app history rag-qna
  purser app history rag-qna -o yaml`,
		Args:              takes(1, 1),
		ValidArgsFunction: first(s.appNames),
		RunE:              func(cmd *cobra.Command, args []string) error { return s.appHistory(cmd.Context(), args[0]) },
	}
}

func (s *session) appHistory(ctx context.Context, name string) error {
	api, err := s.dial()
	if err != nil {
		return err
	}
	response, err := api.Apps.History(ctx, connect.NewRequest(&purserv1.HistoryRequest{Environment: s.environment, App: name}))
	if err != nil {
		return err
	}
	return s.print(response.Msg, func() {
		t := s.newHistoryTable()
		for _, revision := range response.Msg.GetRevisions() {
			historyRows(t, revision)
		}
		t.flush()
	})
}

func (s *session) newHistoryTable() *table {
	t := newTable(s.out, "REVISION", "DEPLOYED", "CAUSE", "FUNCTION", "IMAGE", "SECRETS")
	t.spare = []string{"CAUSE", "DEPLOYED", "IMAGE"}
	return t
}

// historyRows shows a revision: a row for each function, the first of which
// tells the revision.
func historyRows(t *table, revision *purserv1.AppRevision) {
	head := []string{fmt.Sprint(revision.GetRevision()), clock(revision.GetDeployedAt()), revision.GetCause()}
	for _, f := range revision.GetFunctions() {
		t.row(append(head, f.GetSpec().GetFunction(), f.GetSpec().GetImage().GetRef(), pinsText(f.GetPins(), nil))...)
		head = []string{"", "", ""}
	}
	if len(revision.GetFunctions()) == 0 {
		t.row(head...)
	}
}

func newAppRollback(s *session) *cobra.Command {
	return &cobra.Command{
		Use:   "rollback NAME [REVISION]",
		Short: "Bring back an earlier revision: its specs and its secret versions",
		Long: `Bring back an earlier revision of an app, the one before the present when none
is named: its specs, and the versions of secrets that they ran on. This is
itself a new revision.`,
		Example: `  purser app rollback rag-qna
  purser app rollback -E prod rag-qna 3`,
		Args:              takes(1, 2),
		ValidArgsFunction: first(s.appNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			revision, err := optionalNumber(args[1:], "REVISION")
			if err != nil {
				return misuse(cmd, err)
			}
			return s.appRollback(cmd.Context(), args[0], revision)
		},
	}
}

func (s *session) appRollback(ctx context.Context, name string, revision uint32) error {
	api, err := s.dial()
	if err != nil {
		return err
	}
	request := &purserv1.RollbackAppRequest{Environment: s.environment, App: name, Revision: revision}
	response, err := api.Apps.Rollback(ctx, connect.NewRequest(request))
	if err != nil {
		return err
	}
	return s.print(response.Msg, func() {
		s.changeTable(&purserv1.DeployResponse{Changes: response.Msg.GetChanges(), Revision: response.Msg.GetRevision()}, "")
	})
}

// optionalNumber reads an argument that may be absent; 0 then.
func optionalNumber(args []string, name string) (uint32, error) {
	if len(args) == 0 {
		return 0, nil
	}
	n, err := strconv.ParseUint(args[0], 10, 32)
	if err != nil || n == 0 {
		return 0, fmt.Errorf("%s %q: must be a number from 1", name, args[0])
	}
	return uint32(n), nil
}

func newAppStop(s *session) *cobra.Command {
	return &cobra.Command{
		Use:   "stop NAME",
		Short: "Stop every function of an app and keep them",
		Example: `  purser app stop rag-qna
  purser app stop -E prod rag-qna`,
		Args:              takes(1, 1),
		ValidArgsFunction: first(s.appNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			return s.appStop(cmd.Context(), args[0])
		},
	}
}

func (s *session) appStop(ctx context.Context, name string) error {
	api, err := s.dial()
	if err != nil {
		return err
	}
	response, err := api.Apps.Stop(ctx, connect.NewRequest(&purserv1.StopAppRequest{Environment: s.environment, App: name}))
	if err != nil {
		return err
	}
	return s.print(response.Msg, func() {
		for _, w := range response.Msg.GetWorkloads() {
			fmt.Fprintln(s.out, w.GetId(), "stopped")
		}
	})
}

func newAppRm(s *session) *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use:        "rm NAME",
		SuggestFor: []string{"delete"},
		Aliases:    []string{"remove"},
		Short:      "Remove an app, with its history",
		Long: `Remove an app, with its history: it can't be rolled back any more. One that has
functions is refused, unless -f is given: then they are stopped, with the grace of
their specs, and removed first, with their logs.`,
		Example: `  purser app rm rag-qna
  purser app rm -f -E prod rag-qna`,
		Args:              takes(1, 1),
		ValidArgsFunction: first(s.appNames),
		RunE:              func(cmd *cobra.Command, args []string) error { return s.appRm(cmd.Context(), args[0], force) },
	}
	cmd.Flags().BoolVarP(&force, "force", "f", false, "stop and remove its functions first")
	return cmd
}

func (s *session) appRm(ctx context.Context, name string, force bool) error {
	api, err := s.dial()
	if err != nil {
		return err
	}
	request := &purserv1.RemoveAppRequest{Environment: s.environment, App: name, Force: force}
	response, err := api.Apps.Remove(ctx, connect.NewRequest(request))
	if err != nil {
		return err
	}
	return s.say(response.Msg, "app %s removed", name)
}
