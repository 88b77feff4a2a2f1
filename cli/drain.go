package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"
	"google.golang.org/protobuf/proto"

	purserv1 "github.com/purserd/purser/api/purser/v1"
)

func newDrain(s *session) *cobra.Command {
	var deadline time.Duration
	var noWait bool
	cmd := &cobra.Command{
		Use:   "drain",
		Short: "Stop all workloads, and start none until undrain",
		Long: `Have the node refuse launches, starts and restarts, and stop all that runs, each
by its own pre_stop, stop signal and grace, all at once. What still runs at the deadline is
killed. The workloads are kept as they were wanted: "purser undrain" brings them
back.

Progress is told on stderr until nothing runs. The node goes on with it when this
command is interrupted, and after a restart of the agent or the machine; called
again, the command joins in.`,
		Example: `  purser drain --deadline 60s
  purser drain --no-wait && purser node`,
		Args:              takes(0, 0),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			request := &purserv1.DrainRequest{}
			if cmd.Flags().Changed("deadline") {
				request.Deadline = proto.String(deadline.String())
			}
			ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			return s.drain(ctx, request, noWait)
		},
	}
	cmd.Flags().DurationVar(&deadline, "deadline", 0, "kill what still runs after this long; none unless given")
	cmd.Flags().BoolVar(&noWait, "no-wait", false, "return when the node has begun")
	return cmd
}

// drain starts a drain, or joins one, and tells how far it has come.
func (s *session) drain(ctx context.Context, request *purserv1.DrainRequest, noWait bool) error {
	api, err := s.dial()
	if err != nil {
		return err
	}
	stream, err := api.Node.Drain(ctx, connect.NewRequest(request))
	if err != nil {
		return s.drainGoesOn(ctx, err, nil)
	}
	defer stream.Close()
	var last *purserv1.DrainResponse
	for stream.Receive() {
		next := stream.Msg()
		if noWait {
			return s.say(next, "draining: %d workloads are being stopped", len(next.GetRemaining()))
		}
		if last == nil || next.GetStopped() != last.GetStopped() {
			s.tellDrain(next)
		}
		last = next
	}
	if err := stream.Err(); err != nil {
		return s.drainGoesOn(ctx, err, last)
	}
	return s.say(last, "the node is drained: %d of %d workloads stopped", last.GetStopped(), last.GetTotal())
}

// drainGoesOn says of a drain that has begun and is not watched any more what becomes
// of it.
func (s *session) drainGoesOn(ctx context.Context, err error, last *purserv1.DrainResponse) error {
	switch {
	case ctx.Err() != nil:
		err = errors.New("interrupted") // and the node has been asked
	case last == nil || connect.CodeOf(err) == connect.CodeFailedPrecondition:
		return err // it has not begun, or was ended
	}
	return hint(err, "the node goes on draining: purser drain waits for that, purser undrain ends it")
}

// remainingTold is how many workloads a line of progress names.
const remainingTold = 5

// tellDrain prints how far a drain has come, where a person looks and not where a
// program reads.
func (s *session) tellDrain(r *purserv1.DrainResponse) {
	if len(r.GetRemaining()) == 0 || s.output != "table" {
		return
	}
	var names []string
	for _, w := range r.GetRemaining()[:min(remainingTold, len(r.GetRemaining()))] {
		names = append(names, w.GetEnvironment()+" "+w.GetId())
	}
	if more := len(r.GetRemaining()) - len(names); more > 0 {
		names = append(names, fmt.Sprintf("%d more", more))
	}
	s.warn("%d of %d stopped; still there: %s", r.GetStopped(), r.GetTotal(), strings.Join(names, ", "))
}

func newUndrain(s *session) *cobra.Command {
	return &cobra.Command{
		Use:   "undrain",
		Short: "End a drain: accept launches, and start what is to run",
		Long: `End a drain. The node accepts launches again. Services come back on the versions
of secrets that they ran on; a job that the drain stopped has used up an attempt,
and runs again if its retries allow that. A drain that is under way ends, too.`,
		Example:           `  purser undrain && purser ps`,
		Args:              takes(0, 0),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			api, err := s.dial()
			if err != nil {
				return err
			}
			response, err := api.Node.Undrain(cmd.Context(), connect.NewRequest(&purserv1.UndrainRequest{}))
			if err != nil {
				return err
			}
			if !response.Msg.GetChanged() {
				return s.say(response.Msg, "the node was not drained")
			}
			return s.say(response.Msg, "the node accepts launches again")
		},
	}
}

// drainText is the state of a drain in a line.
func drainText(d *purserv1.DrainState, now time.Time) string {
	if d.GetDrainedAt() != nil {
		return fmt.Sprintf("drained for %s; purser undrain ends it", age(d.GetSince(), now))
	}
	text := fmt.Sprintf("under way for %s", age(d.GetSince(), now))
	if d.GetDeadline() == nil {
		return text
	}
	if left := d.GetDeadline().AsTime().Sub(now); left > 0 {
		return fmt.Sprintf("%s; what still runs in %s is killed", text, shortDuration(left))
	}
	return text + "; what still runs is being killed"
}
