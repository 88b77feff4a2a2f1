package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	purserv1 "github.com/purserd/purser/api/purser/v1"
)

// stdinChunk is how much of standard input is sent at once.
const stdinChunk = 32 << 10

func newExec(s *session) *cobra.Command {
	start := &purserv1.ExecStart{}
	var env []string
	cmd := &cobra.Command{
		Use:   "exec ID -- COMMAND…",
		Short: "Run a command in a workload's container",
		Long: `Run a command in a workload's running container, beside its function and with
its environment. Exits with the command's status; 125 when purser failed, 126
when the command cannot be executed, 127 when it is not found. Signals are
passed on to the command.`,
		Example: `  purser exec rag-qna/answer-question -- sh -c 'echo $PURSER_WORKLOAD'
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
			start.Environment, start.Id, start.Command, start.Env = s.environment, args[0], args[1:], vars
			return notRun(s.exec(cmd.Context(), start))
		},
	}
	cmd.SetFlagErrorFunc(commandFlagError(1))
	flags := cmd.Flags()
	flags.BoolVarP(&start.Stdin, "interactive", "i", false, "pass standard input on to the command")
	flags.StringArrayVarP(&env, "env", "e", nil, "set a variable: `K=V`; repeatable")
	flags.StringVar(&start.User, "user", "", "run as this user[:group] instead of the container's")
	flags.StringVar(&start.Workdir, "workdir", "", "absolute path of the working directory")
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

func (s *session) exec(ctx context.Context, start *purserv1.ExecStart) error {
	api, err := s.dial()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream := api.Workloads.Exec(ctx)
	if err := stream.Send(&purserv1.ExecRequest{Start: start}); err != nil {
		return streamError(stream, err)
	}
	send := newSender(stream.Send)
	stopSignals := passSignals(func(number syscall.Signal) {
		_ = send.do(&purserv1.ExecRequest{Signal: uint32(number)})
	})
	defer stopSignals()
	if start.GetStdin() {
		go send.copy(s.in,
			func(data []byte) *purserv1.ExecRequest { return &purserv1.ExecRequest{Stdin: data} },
			&purserv1.ExecRequest{CloseStdin: true})
	}
	exit, err := s.receive(func() (output, error) { return stream.Receive() })
	if err != nil {
		return err
	}
	return passStatus(exit)
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
	GetExit() *purserv1.Exit
}

// receive writes what arrives until the message that tells the exit.
func (s *session) receive(next func() (output, error)) (*purserv1.Exit, error) {
	for {
		message, err := next()
		if errors.Is(err, io.EOF) {
			return nil, errors.New("the agent ended the stream without an exit status")
		}
		if err != nil {
			return nil, err
		}
		if err := writeStream(message.GetStream(), message.GetData(), s.out, s.err); err != nil {
			return nil, err
		}
		if message.GetExit() != nil {
			return message.GetExit(), nil
		}
	}
}

// passed are the signals that a user means for the function.
var passed = []os.Signal{
	syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2,
}

// passSignals hands every signal that purser gets to pass, until stop is
// called.
func passSignals(pass func(syscall.Signal)) (stop func()) {
	arrived := make(chan os.Signal, 8)
	done := make(chan struct{})
	signal.Notify(arrived, passed...)
	go func() {
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
