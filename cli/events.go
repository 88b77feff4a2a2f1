package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"
	"google.golang.org/protobuf/proto"

	purserv1 "github.com/purserd/purser/api/purser/v1"
)

func newEvents(s *session) *cobra.Command {
	request := &purserv1.EventsRequest{}
	cmd := &cobra.Command{
		Use:   "events [SUBJECT]",
		Short: "Print what happened on the node",
		Long: `Print what happened on the node, oldest first, and with -f go on until
interrupted. Unlike elsewhere, all environments are shown unless -E is given.
With SUBJECT only what happened to it: a workload by its ID, the workloads of an
app by its name, or a secret, a source, an image or a volume by its name.
With -o json and -f each event is an object on a line of its own. The numbers
for --after are those that -o json shows as sequence.`,
		Example: `  purser events
  purser events -f -E prod
  purser events rag-qna/answer --severity warning
  purser events --after "$(purser events -o json | jq -r '.events[-1].sequence')" -f`,
		Args:              takes(0, 1),
		ValidArgsFunction: first(s.workloadNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			request.Subject = strings.Join(args, "")
			if s.given {
				request.Environment = s.environment
			}
			ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			err := s.events(ctx, request)
			if request.GetFollow() && errors.Is(context.Cause(ctx), context.Canceled) {
				return nil // the usual end
			}
			if connect.CodeOf(err) == connect.CodeOutOfRange {
				return hint(fmt.Errorf("events after %d are not kept, or were never there", request.GetAfter()), "leave out --after to print all that are kept")
			}
			return err
		},
	}
	cmd.Flags().BoolVarP(&request.Follow, "follow", "f", false, "go on printing")
	cmd.Flags().Uint64Var(&request.After, "after", 0, "only events after this sequence `NUMBER`")
	cmd.Flags().StringVar(&request.Severity, "severity", "", "only events of this `SEVERITY`: normal or warning")
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

// eventTable prints events under a heading, which comes with the first.
func (s *session) eventTable() func(proto.Message) error {
	t := s.newEventTable()
	return func(m proto.Message) error {
		t.stream(eventCells(m.(*purserv1.Event))...)
		return nil
	}
}

// newEventTable has columns that are wide enough for most, instead of being measured at
// the end: a line is printed at once.
func (s *session) newEventTable() *table {
	t := newTable(s.out, "TIME", "SEVERITY", "TYPE", "SUBJECT", "MESSAGE")
	t.fixed = []int{19, 8, 18, 32, leastText}
	t.whole, t.wraps = 3, true
	t.short = []shortForm{shortTime, {"SEVERITY", 1, severityMark}}
	t.spare = []string{"TYPE"}
	t.style("SEVERITY", severityStyle)
	return t
}

func eventCells(e *purserv1.Event) []string {
	return []string{orDash(clock(e.GetTime())), e.GetSeverity(), e.GetType(), subjectText(e), e.GetMessage()}
}

// severityMark is a severity on a screen that has no room for the word.
func severityMark(severity string) string {
	if severity == "warning" {
		return "!"
	}
	return ""
}

// The events whose subject is the name of a secret, of a source of them, or of a volume.
var (
	ofSecret = []string{"SecretSet", "SecretRolledBack", "SecretDeleted", "SecretHeld", "SecretReleased", "SecretRetried", "SecretQuarantined", "RotationHalted", "SecretConflict", "SecretNotTaken", "SecretTaken"}
	ofSource = []string{"SecretSourceUp", "SecretSourceDown", "SecretSourcePolled"}
	ofVolume = []string{"VolumeCreated", "VolumeRemoved"}
)

func subjectText(e *purserv1.Event) string {
	subject := e.GetSubject()
	if slices.Contains(ofSecret, e.GetType()) {
		subject = "secret " + subject
	}
	if slices.Contains(ofSource, e.GetType()) {
		subject = "source " + subject
	}
	if slices.Contains(ofVolume, e.GetType()) {
		subject = "volume " + subject
	}
	return strings.TrimSpace(e.GetEnvironment() + " " + subject)
}
