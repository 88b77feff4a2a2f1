package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	purserv1 "github.com/purserd/purser/api/purser/v1"
)

func newExec(s *session) *cobra.Command {
	start := &purserv1.ExecStart{}
	var env []string
	var keys string
	cmd := &cobra.Command{
		Use:   "exec ID -- COMMAND…",
		Short: "Run a command in a workload's container",
		Long: `Run a command in a workload's running container, beside its function and with
its environment. Exits with the command's status; 125 when purser failed, 126
when the command cannot be executed, 127 when it is not found. Signals are
passed on to the command.

With -t the command runs on a terminal as large as the one that purser is on,
with -it its keys are the command's, ctrl-c among them. The detach keys leave it
running, with its output dropped. When purser itself ends, or its terminal
closes, the command is ended too, with all that it started in its session.`,
		Example: `  purser exec -it rag-qna/answer-question -- sh
  purser exec rag-qna/answer-question -- sh -c 'echo $PURSER_WORKLOAD'
  purser exec -e DEBUG=1 --user 0 rag-qna/answer-question -- sh -c 'echo $DEBUG'
  echo hello | purser exec -i rag-qna/answer-question -- sh -c 'read line; echo "got $line"'`,
		Args:              execArgs,
		Annotations:       map[string]string{standsInMark: ""},
		ValidArgsFunction: first(s.workloadNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			vars, err := parseEnv(env)
			if err != nil {
				return misuse(cmd, err)
			}
			detach, err := parseDetachKeys(keys)
			if err != nil {
				return misuse(cmd, err)
			}
			start.Environment, start.Id, start.Command, start.Env = s.environment, args[0], args[1:], vars
			return notRun(s.exec(cmd.Context(), start, detach))
		},
	}
	cmd.SetFlagErrorFunc(commandFlagError(1))
	flags := cmd.Flags()
	flags.BoolVarP(&start.Stdin, "interactive", "i", false, "pass standard input on to the command")
	flags.BoolVarP(&start.Tty, "tty", "t", false, "run the command on a terminal, as large as this one")
	flags.StringArrayVarP(&env, "env", "e", nil, "set a variable: `K=V`; repeatable")
	flags.StringVar(&start.User, "user", "", "run as this user[:group] instead of the container's")
	flags.StringVar(&start.Workdir, "workdir", "", "absolute path of the working directory")
	detachKeysFlag(cmd, &keys)
	return cmd
}

func execArgs(cmd *cobra.Command, args []string) error {
	before, _ := splitArgs(cmd, args)
	switch {
	case len(before) == 0:
		return errors.New("needs the ID of a workload: purser exec [flags] ID -- COMMAND…")
	case len(args) == 1:
		return errors.New("needs a command: purser exec [flags] ID -- COMMAND…")
	default:
		return nil
	}
}

func (s *session) exec(ctx context.Context, start *purserv1.ExecStart, keys []byte) error {
	api, err := s.dial()
	if err != nil {
		return err
	}
	x := &execClient{session: s, start: start}
	if start.GetTty() {
		if x.terminal, err = s.openTerminal(keys); err != nil {
			return err
		}
		start.Size = x.terminal.size()
		start.Term, _ = s.lookup("TERM")
	}
	defer x.terminal.restore()
	x.hungUp, x.hangUp = context.WithCancelCause(ctx)
	stream := api.Workloads.Exec(ctx)
	if err := stream.Send(&purserv1.ExecRequest{Start: start}); err != nil {
		return streamError(stream, err)
	}
	x.send = newSender(stream.Send, s.warnOfNoRoom(x.terminal))
	return x.run(func() (output, error) { return stream.Receive() })
}

// execClient is the client's side of one exec.
type execClient struct {
	session  *session
	start    *purserv1.ExecStart
	terminal *terminal // nil without one
	send     *sender[purserv1.ExecRequest]
	// hangUp ends purser, and with its connection the command. The stream alone
	// can't be ended while it may be sent to.
	hungUp context.Context
	hangUp context.CancelCauseFunc

	// detaching tells that the agent was asked to let the command run on. It then
	// ends the stream without an exit, and no other stream so.
	detaching atomic.Bool
	// asked tells that the command was asked to end by a signal.
	asked atomic.Bool
}

func (x *execClient) run(next func() (output, error)) error {
	defer x.send.stop()
	defer passSignals(x.terminal.onPanic, x.signal)()
	if x.terminal != nil {
		defer x.terminal.passSizes(func(size *purserv1.TerminalSize) {
			_ = x.send.do(&purserv1.ExecRequest{Size: size})
		})()
	}
	if x.start.GetStdin() {
		if err := x.terminal.hush(); err != nil {
			return err
		}
		go x.sendStdin()
	}
	end := receive(x.terminal.onPanic, next, x.session.writeOutput, x.room)
	var got received
	select {
	case got = <-end:
	case <-x.hungUp.Done():
		got.err = context.Cause(x.hungUp)
	}
	x.terminal.restore()
	switch {
	case got.err == nil:
		return passStatus(got.exit)
	case errors.Is(got.err, errNoExit) && x.detaching.Load():
		x.session.warn("detached: the command runs on in %s", x.start.GetId())
		return nil
	default:
		return got.err
	}
}

// room notes that the command reads its standard input: from now on the keys are
// its own.
func (x *execClient) room(n uint32) error {
	x.send.grant(n)
	if x.terminal == nil {
		return nil
	}
	return x.terminal.giveKeys()
}

// signal passes a signal on. On a terminal the second that asks the command to
// end hangs up, as a shell would ignore it for ever, and so does the end of the
// terminal itself.
func (x *execClient) signal(number syscall.Signal) {
	if x.terminal != nil && (number == syscall.SIGHUP || ends(number) && x.asked.Swap(true)) {
		x.hangUp(&exitError{code: exitSignalled + int(number)})
		return
	}
	_ = x.send.do(&purserv1.ExecRequest{Signal: uint32(number)})
}

func (x *execClient) sendStdin() {
	defer x.terminal.onPanic()
	in := x.session.in
	if x.terminal != nil {
		in = x.terminal.input()
	}
	err := x.send.copy(in, func(data []byte) *purserv1.ExecRequest { return &purserv1.ExecRequest{Stdin: data} })
	switch {
	case errors.Is(err, errDetached):
		x.detaching.Store(true)
		_ = x.send.do(&purserv1.ExecRequest{Detach: true})
	case x.terminal == nil:
		_ = x.send.do(&purserv1.ExecRequest{CloseStdin: true})
	case !errors.Is(err, errStreamOver):
		x.hangUp(&exitError{code: exitSignalled + int(syscall.SIGHUP)}) // the terminal is gone
	}
}

// streamError finds out why a send failed: the stream then gives io.EOF and
// the reason on the next receive.
func streamError[Req, Res any](stream *connect.BidiStreamForClient[Req, Res], err error) error {
	if !errors.Is(err, io.EOF) {
		return err
	}
	if _, reason := stream.Receive(); reason != nil {
		return reason
	}
	return err
}

// output is a message of Exec and of Attach alike.
type output interface {
	GetStream() string
	GetData() []byte
	GetStdinRoom() uint32
	GetExit() *purserv1.Exit
}

// received is what a stream came to.
type received struct {
	exit *purserv1.Exit
	err  error
}

// errNoExit is where the agent has ended a stream by itself.
var errNoExit = errors.New("the agent ended the stream without an exit status")

// receive writes what arrives until the message that tells the exit. room is called
// when the agent has more room for standard input. onPanic is deferred where it
// does.
func receive(onPanic func(), next func() (output, error), write func(output) error, room func(uint32) error) <-chan received {
	return async(func() received {
		defer onPanic()
		for {
			message, err := next()
			if errors.Is(err, io.EOF) {
				err = errNoExit
			}
			if err == nil {
				err = write(message)
			}
			if err == nil && message.GetStdinRoom() > 0 {
				err = room(message.GetStdinRoom())
			}
			if err != nil {
				return received{err: err}
			}
			if message.GetExit() != nil {
				return received{exit: message.GetExit()}
			}
		}
	})
}

// writeOutput writes what arrived to the stream that it belongs to.
func (s *session) writeOutput(message output) error {
	return writeStream(message.GetStream(), message.GetData(), s.out, s.err)
}

// passed are the signals that a user means for the function.
var passed = []os.Signal{
	syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2,
}

// passSignals hands every signal that purser gets to pass, until stop is called.
// onPanic is deferred where it does.
func passSignals(onPanic func(), pass func(syscall.Signal)) (stop func()) {
	arrived := make(chan os.Signal, 8)
	done := make(chan struct{})
	signal.Notify(arrived, passed...)
	go func() {
		defer onPanic()
		for {
			select {
			case got := <-arrived:
				pass(got.(syscall.Signal))
			case <-done:
				return
			}
		}
	}()
	return func() {
		signal.Stop(arrived)
		close(done)
	}
}

// parseEnv reads the K=V of --env. Its errors name no value.
func parseEnv(pairs []string) (map[string]string, error) {
	if len(pairs) == 0 {
		return nil, nil
	}
	vars := make(map[string]string, len(pairs))
	for _, pair := range pairs {
		key, value, ok := cutKey(pair)
		if !ok {
			return nil, fmt.Errorf("--env: each must be K=V, with a key of letters, digits and underscores")
		}
		vars[key] = value
	}
	return vars, nil
}
