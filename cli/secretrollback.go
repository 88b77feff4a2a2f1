package cli

import (
	"context"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	purserv1 "github.com/purserd/purser/api/purser/v1"
)

func newSecretRollback(s *session) *cobra.Command {
	request := &purserv1.RollbackRequest{}
	cmd := &cobra.Command{
		Use:   "rollback NAME [VERSION]",
		Short: "Write a new version with an earlier one's content",
		Long: `Write a new version of a secret with the content of an earlier one: when none is
named, of the newest before the newest that is neither held nor quarantined.
Workloads move to it as to any other version: one of each app first, and the
others within their windows, for which --now does not wait. A version that is
quarantined stays so; to have its content all the same takes --force.`,
		Example: `  purser secret rollback openai-secret
  purser secret rollback -E prod openai-secret 3
  purser secret rollback -E prod leaked-secret --now`,
		Args:              takes(1, 2),
		ValidArgsFunction: first(s.secretNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			version, err := optionalNumber(args[1:], "VERSION")
			if err != nil {
				return misuse(cmd, err)
			}
			request.Environment, request.Name, request.Version = s.environment, args[0], version
			return s.secretRollback(cmd.Context(), request)
		},
	}
	cmd.Flags().BoolVar(&request.Force, "force", false, "take the VERSION that is named although it is quarantined")
	cmd.Flags().BoolVar(&request.Now, "now", false, "have workloads move at once, outside of their windows and without splay")
	return cmd
}

func (s *session) secretRollback(ctx context.Context, request *purserv1.RollbackRequest) error {
	api, err := s.dial()
	if err != nil {
		return err
	}
	response, err := api.Secrets.Rollback(ctx, connect.NewRequest(request))
	if err != nil {
		return unsure(err, s.lookAt(request.GetName()))
	}
	done := response.Msg
	if err := s.say(done, "secret %s in %s: version %d, with the content of version %d", request.GetName(), s.environment, done.GetVersion(), done.GetCopyOf()); err != nil {
		return err
	}
	s.warnOf(done.GetNote())
	s.tellBehind(ctx, api, request.GetName(), done.GetVersion())
	return nil
}

// warnOf warns of what there is to know about what was done; of nothing where there is
// nothing, or a program reads it.
func (s *session) warnOf(note string) {
	if note != "" && s.output == "table" {
		s.warn("%s", note)
	}
}
