package cli

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	purserv1 "github.com/purserd/purser/api/purser/v1"
)

func newAttach(s *session) *cobra.Command {
	var stdin bool
	cmd := &cobra.Command{
		Use:   "attach ID",
		Short: "Connect to the streams of a running workload",
		Long: `Print what a running workload writes from now on, and with -i pass standard
input to it (its spec must say stdin: true). Exits with the function's status
when it ends. An interrupt ends only the attachment; the workload runs on.`,
		Example: `  purser attach rag-qna/answer-question
  echo hello | purser attach -i tools/echo`,
		Args:              takes(1, 1),
		Annotations:       map[string]string{standsInMark: ""},
		ValidArgsFunction: first(s.workloadNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			return notRun(s.attach(ctx, args[0], stdin))
		},
	}
	cmd.Flags().BoolVarP(&stdin, "interactive", "i", false, "pass standard input on to the function")
	return cmd
}

func (s *session) attach(ctx context.Context, id string, stdin bool) error {
	api, err := s.dial()
	if err != nil {
		return err
	}
	stream := api.Workloads.Attach(ctx)
	if err := stream.Send(&purserv1.AttachRequest{Environment: s.environment, Id: id}); err != nil {
		return streamError(stream, err)
	}
	if stdin {
		go sendStdin(s, stream.Send)
	}
	exit, err := s.receive(func() (output, error) { return stream.Receive() })
	if err != nil {
		return err
	}
	return passStatus(exit)
}

// sendStdin sends all of standard input to an attached workload.
func sendStdin(s *session, send func(*purserv1.AttachRequest) error) {
	newSender(send).copy(s.in,
		func(data []byte) *purserv1.AttachRequest { return &purserv1.AttachRequest{Stdin: data} },
		&purserv1.AttachRequest{CloseStdin: true})
}
