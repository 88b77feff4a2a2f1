package cli

import (
	"bytes"
	"context"
	"encoding/json"
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

	"github.com/purserd/purser/api/codec"
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
	printer := s.eventPrinter(request.GetFollow())
	for stream.Receive() {
		if err := printer.add(stream.Msg()); err != nil {
			return err
		}
	}
	if err := stream.Err(); err != nil {
		return err
	}
	return printer.finish()
}

// eventPrinter prints one event after the other.
type eventPrinter struct {
	add    func(*purserv1.EventsResponse) error
	finish func() error
}

func (s *session) eventPrinter(follow bool) eventPrinter {
	nothing := func() error { return nil }
	switch {
	case s.output == "table":
		return eventPrinter{s.eventTable(), nothing}
	case s.output == "yaml" && follow:
		return eventPrinter{s.eventDocument, nothing}
	case follow:
		return eventPrinter{s.eventJSONLine, nothing}
	default:
		return s.eventList()
	}
}

// eventColumns are wide enough for most, instead of being measured at the end: a
// line is printed at once.
const eventColumns = "%-19s  %s  %-16s  %-32s  %s\n"

// eventWidth is that of all columns but the last.
const eventWidth = 19 + 2 + 8 + 2 + 16 + 2 + 32 + 2

// eventTable prints events under a heading, which comes with the first.
func (s *session) eventTable() func(*purserv1.EventsResponse) error {
	heading := sync.OnceFunc(func() {
		fmt.Fprintf(s.out, eventColumns, "TIME", "SEVERITY", "TYPE", "SUBJECT", "MESSAGE")
	})
	return func(r *purserv1.EventsResponse) error {
		heading()
		return s.eventLine(r)
	}
}

func (s *session) eventLine(r *purserv1.EventsResponse) error {
	e, on := r.GetEvent(), screenOf(s.out)
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

func (s *session) eventDocument(r *purserv1.EventsResponse) error {
	fmt.Fprintln(s.out, "---")
	return s.encode(r)
}

func (s *session) eventJSONLine(r *purserv1.EventsResponse) error {
	line, err := eventJSON(r)
	if err != nil {
		return err
	}
	_, err = s.out.Write(append(line, '\n'))
	return err
}

func eventJSON(r *purserv1.EventsResponse) ([]byte, error) {
	data, err := codec.MarshalJSON(r.GetEvent())
	if err != nil {
		return nil, fmt.Errorf("encoding an event: %w", err)
	}
	var line bytes.Buffer
	if err := json.Compact(&line, data); err != nil {
		return nil, fmt.Errorf("encoding an event: %w", err)
	}
	return line.Bytes(), nil
}

// eventList collects the events that there are into an object with one array,
// as other lists are.
func (s *session) eventList() eventPrinter {
	var all []*purserv1.Event
	return eventPrinter{
		add: func(r *purserv1.EventsResponse) error {
			all = append(all, r.GetEvent())
			return nil
		},
		finish: func() error { return s.encodeEvents(all) },
	}
}

func (s *session) encodeEvents(all []*purserv1.Event) error {
	if len(all) == 0 {
		empty := map[string]string{"json": "{\n  \"events\": []\n}\n", "yaml": "events: []\n"}
		_, err := fmt.Fprint(s.out, empty[s.output])
		return err
	}
	if s.output == "yaml" {
		return s.encodeEventsYAML(all)
	}
	return s.encodeEventsJSON(all)
}

func (s *session) encodeEventsJSON(all []*purserv1.Event) error {
	lines := make([]json.RawMessage, 0, len(all))
	for _, e := range all {
		data, err := codec.MarshalJSON(e)
		if err != nil {
			return fmt.Errorf("encoding an event: %w", err)
		}
		lines = append(lines, data)
	}
	encoder := json.NewEncoder(s.out)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	return encoder.Encode(map[string][]json.RawMessage{"events": lines})
}

func (s *session) encodeEventsYAML(all []*purserv1.Event) error {
	fmt.Fprintln(s.out, "events:")
	for _, e := range all {
		data, err := codec.MarshalYAML(e)
		if err != nil {
			return fmt.Errorf("encoding an event: %w", err)
		}
		text := strings.ReplaceAll(string(trimNewline(data)), "\n", "\n    ")
		if _, err := fmt.Fprintln(s.out, "  - "+text); err != nil {
			return err
		}
	}
	return nil
}
