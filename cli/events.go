package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"syscall"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"
	"google.golang.org/protobuf/proto"

	purserv1 "github.com/purserd/purser/api/purser/v1"
)

func newEvents(s *session) *cobra.Command {
	var follow bool
	var after uint64
	cmd := &cobra.Command{
		Use:   "events",
		Short: "Print what happened on the node",
		Long: `Print what happened on the node, oldest first, and with -f go on until
interrupted. Unlike elsewhere, all environments are shown unless -E is given.
With -o json and -f each event is an object on a line of its own. The numbers
for --after are those that -o json shows as sequence.`,
		Example: `  purser events
  purser events -f -E prod
  purser events --after "$(purser events -o json | jq -r '.events[-1].sequence')" -f`,
		Args:              takes(0, 0),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			request := &purserv1.EventsRequest{Follow: follow, After: after}
			if s.given {
				request.Environment = s.environment
			}
			ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			err := s.events(ctx, request)
			if follow && errors.Is(context.Cause(ctx), context.Canceled) {
				return nil // the usual end
			}
			if connect.CodeOf(err) == connect.CodeOutOfRange {
				return hint(fmt.Errorf("events after %d are not kept, or were never there", after), "leave out --after to print all that are kept")
			}
			return err
		},
	}
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "go on printing")
	cmd.Flags().Uint64Var(&after, "after", 0, "only events after this sequence `NUMBER`")
	return cmd
}

func (s *session) events(ctx context.Context, request *purserv1.EventsRequest) error {
	api, err := s.dial()
	if err != nil {
		return err
	}
	stream, err := api.Node.Events(ctx, connect.NewRequest(request))
	if err != nil {
		return err
	}
	defer stream.Close()
	printer := s.messagePrinter("events", request.GetFollow(), s.eventTable())
	for stream.Receive() {
		if err := printer.add(stream.Msg().GetEvent()); err != nil {
			return err
		}
	}
	if err := stream.Err(); err != nil {
		return err
	}
	return printer.finish()
}

// eventColumns are wide enough for most, instead of being measured at the end: a
// line is printed at once.
const eventColumns = "%-19s  %s  %-16s  %-32s  %s\n"

// eventWidth is that of all columns but the last.
const eventWidth = 19 + 2 + 8 + 2 + 16 + 2 + 32 + 2

// eventTable prints events under a heading, which comes with the first.
func (s *session) eventTable() func(proto.Message) error {
	heading := sync.OnceFunc(func() {
		fmt.Fprintf(s.out, eventColumns, "TIME", "SEVERITY", "TYPE", "SUBJECT", "MESSAGE")
	})
	return func(m proto.Message) error {
		heading()
		return s.eventLine(m.(*purserv1.Event))
	}
}

func (s *session) eventLine(e *purserv1.Event) error {
	on := screenOf(s.out)
	message := printable(e.GetMessage())
	if on.width > 0 {
		message = shorten(message, max(on.width-eventWidth, least))
	}
	_, err := fmt.Fprintf(s.out, eventColumns, orDash(clock(e.GetTime())),
		on.paint(fmt.Sprintf("%-8s", printable(e.GetSeverity())), severityStyle(e.GetSeverity())), printable(e.GetType()), printable(subjectText(e)), message)
	return err
}

// The events whose subject is the name of a secret, or of a volume.
var (
	ofSecret = []string{"SecretSet", "SecretRolledBack", "SecretDeleted"}
	ofVolume = []string{"VolumeCreated", "VolumeRemoved"}
)

func subjectText(e *purserv1.Event) string {
	subject := e.GetSubject()
	if slices.Contains(ofSecret, e.GetType()) {
		subject = "secret " + subject
	}
	if slices.Contains(ofVolume, e.GetType()) {
		subject = "volume " + subject
	}
	return strings.TrimSpace(e.GetEnvironment() + " " + subject)
}
