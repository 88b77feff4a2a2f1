package cli

import (
	"context"
	"fmt"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	purserv1 "github.com/purserd/purser/api/purser/v1"
)

func newEnvironment(s *session) *cobra.Command {
	return group(&cobra.Command{
		Use:     "environment",
		Aliases: []string{"env"},
		Short:   "List environments: namespaces of secrets, workloads and volumes",
		Example: `  purser environment list`,
	}, &cobra.Command{
		Use:     "list",
		Aliases: []string{"ls"},
		Short:   "List the environments that have secrets, workloads or volumes",
		Example: `  purser environment list
  purser environment list -o json`,
		Args:              takes(0, 0),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE:              func(cmd *cobra.Command, _ []string) error { return s.environmentList(cmd.Context()) },
	})
}

func (s *session) environmentList(ctx context.Context) error {
	api, err := s.dial()
	if err != nil {
		return err
	}
	response, err := api.Node.ListEnvironments(ctx, connect.NewRequest(&purserv1.ListEnvironmentsRequest{}))
	if err != nil {
		return err
	}
	return s.print(response.Msg, func() {
		t := s.newEnvironmentTable()
		for _, e := range response.Msg.GetEnvironments() {
			t.row(e.GetName(), fmt.Sprint(e.GetWorkloads()), fmt.Sprint(e.GetSecrets()), fmt.Sprint(e.GetVolumes()))
		}
		t.flush()
	})
}

func (s *session) newEnvironmentTable() *table {
	t := newTable(s.out, "ENVIRONMENT", "WORKLOADS", "SECRETS", "VOLUMES")
	t.spare = []string{"VOLUMES", "SECRETS"}
	return t
}
