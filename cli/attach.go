package cli

import (
	"context"
	"errors"
	"fmt"
	"syscall"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	purserv1 "github.com/purserd/purser/api/purser/v1"
)

// attachFlags say what of a workload to connect to.
type attachFlags struct {
	stdin, tty bool
	keys       string
}

func newAttach(s *session) *cobra.Command {
	var f attachFlags
	cmd := &cobra.Command{
		Use:   "attach ID",
		Short: "Connect to the streams of a running workload",
		Long: `Print what a running workload writes from now on, and with -i pass standard
input to it (its spec must say stdin: true). Exits with the function's status
when it ends. An interrupt, or another signal, ends only the attachment, with the
status of one that it ended (130, 143); the workload runs on.

With -i and a terminal on both sides (tty: true in the spec) the keys are the
function's, ctrl-c among them, and its terminal gets the size of this one; the
detach keys leave it. -t insists on that.`,
		Example: `  purser attach rag-qna/answer-question
  echo hello | purser attach -i tools/echo
  purser attach -it tools/shell`,
		Args:              takes(1, 1),
		Annotations:       map[string]string{standsInMark: ""},
		ValidArgsFunction: first(s.workloadNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			keys, err := parseDetachKeys(f.keys)
			if err != nil {
				return misuse(cmd, err)
			}
			return notRun(s.attach(cmd.Context(), args[0], f, keys))
		},
	}
	flags := cmd.Flags()
	flags.BoolVarP(&f.stdin, "interactive", "i", false, "pass standard input on to the function")
	flags.BoolVarP(&f.tty, "tty", "t", false, "fail unless the function has a terminal, and purser too")
	detachKeysFlag(cmd, &f.keys)
	return cmd
}

// attach stays with a workload until that ends, is detached from, or purser gets a
// signal, with whose status it then exits.
func (s *session) attach(ctx context.Context, id string, f attachFlags, keys []byte) error {
	at := &attachClient{session: s, id: id, environment: s.environment}
	ctx, cancel := context.WithCancelCause(ctx)
	defer passSignals(at.terminal.onPanic, func(number syscall.Signal) {
		cancel(&exitError{code: exitSignalled + int(number)})
	})()
	err := s.attachAs(ctx, at, f, keys)
	if err != nil && ctx.Err() != nil {
		s.warn("detached: %s runs on", id)
		return context.Cause(ctx)
	}
	return err
}

func (s *session) attachAs(ctx context.Context, at *attachClient, f attachFlags, keys []byte) error {
	api, err := s.dial()
	if err != nil {
		return err
	}
	if f.tty || f.stdin && s.onTerminal() {
		w, err := at.workload(ctx)
		if err != nil {
			return err
		}
		if f.tty && !w.GetSpec().GetTty() {
			return hint(fmt.Errorf("%s has no terminal", at.id), "leave -t out, or launch it with tty: true")
		}
		if w.GetSpec().GetTty() {
			if at.terminal, err = s.openTerminal(keys); err != nil {
				return err
			}
		}
	}
	defer at.terminal.restore()
	exit, err := at.connect(ctx, api.Workloads.Attach(ctx), f.stdin, s.writeOutput)
	at.terminal.restore()
	if errors.Is(err, errDetached) {
		s.warn("detached: %s runs on", at.id)
		return nil
	}
	if err != nil {
		return err
	}
	return at.status(ctx, exit)
}

// attachStream is a stream of Attach, seen from the client.
type attachStream = connect.BidiStreamForClient[purserv1.AttachRequest, purserv1.AttachResponse]

// attachClient is the client's side of one attachment.
type attachClient struct {
	session         *session
	environment, id string
	terminal        *terminal // nil without one
}

// connect passes on what is there to be until the workload, the stream or the
// person at the terminal ends it.
func (at *attachClient) connect(ctx context.Context, stream *attachStream, stdin bool, write func(output) error) (*purserv1.Exit, error) {
	request := &purserv1.AttachRequest{Environment: at.environment, Id: at.id}
	if at.terminal != nil {
		request.Size = at.terminal.size()
	}
	if err := stream.Send(request); err != nil {
		return nil, streamError(stream, err)
	}
	send := newSender(stream.Send, at.session.warnOfNoRoom(at.terminal))
	defer send.stop()
	if at.terminal != nil {
		defer at.terminal.passSizes(func(size *purserv1.TerminalSize) {
			_ = send.do(&purserv1.AttachRequest{Size: size})
		})()
	}
	left := make(chan struct{})
	if stdin {
		if err := at.terminal.hush(); err != nil {
			return nil, err
		}
		go at.sendStdin(send, left)
	}
	end := receive(at.terminal.onPanic, func() (output, error) { return stream.Receive() }, write, func(room uint32) error {
		send.grant(room)
		if !stdin || at.terminal == nil {
			return nil
		}
		return at.terminal.giveKeys()
	})
	select {
	case got := <-end:
		return got.exit, got.err
	case <-left:
		return nil, errDetached
	case <-ctx.Done(): // which a stream does not heed that may be sent to
		return nil, ctx.Err()
	}
}

// sendStdin sends all of standard input, or closes left when the detach keys are
// typed.
func (at *attachClient) sendStdin(send *sender[purserv1.AttachRequest], left chan<- struct{}) {
	defer at.terminal.onPanic()
	in := at.session.in
	if at.terminal != nil {
		in = at.terminal.input()
	}
	err := send.copy(in, func(data []byte) *purserv1.AttachRequest { return &purserv1.AttachRequest{Stdin: data} })
	switch {
	case errors.Is(err, errStreamOver):
	case at.terminal != nil:
		close(left) // by the keys, or because the terminal is gone
	default:
		_ = send.do(&purserv1.AttachRequest{CloseStdin: true})
	}
}

// status is the exit status for how the function ended: as that of run.
func (at *attachClient) status(ctx context.Context, exit *purserv1.Exit) error {
	// A workload that has been removed has told all in its exit.
	w, err := at.workload(ctx)
	if err == nil && w.GetLastExit().GetInstance() == exit.GetInstance() {
		return endStatus(w)
	}
	return passStatus(exit)
}

func (at *attachClient) workload(ctx context.Context) (*purserv1.Workload, error) {
	request := &purserv1.GetRequest{Environment: at.environment, Id: at.id}
	response, err := at.session.api.Workloads.Get(ctx, connect.NewRequest(request))
	if err != nil {
		return nil, err
	}
	return response.Msg.GetWorkload(), nil
}
