package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"
	"google.golang.org/protobuf/proto"

	purserv1 "github.com/purserd/purser/api/purser/v1"
	"github.com/purserd/purser/client"
)

// each does something to every workload named, also after one failed, and
// prints what each answered.
func (s *session) each(ids []string, done string, do func(api *client.Client, id string) (proto.Message, error)) error {
	api, err := s.dial()
	if err != nil {
		return err
	}
	var failed []error
	for _, id := range ids {
		response, err := do(api, id)
		if err == nil {
			err = s.say(response, "%s %s", id, done)
		}
		if err != nil && client.Unreachable(err) {
			return err
		}
		if err != nil {
			failed = append(failed, err)
		}
	}
	return s.onlyOne(failed)
}

// onlyOne reports all errors but the last, which it returns.
func (s *session) onlyOne(failed []error) error {
	if len(failed) == 0 {
		return nil
	}
	last := len(failed) - 1
	for _, err := range failed[:last] {
		s.report(err)
	}
	return failed[last]
}

func newStart(s *session) *cobra.Command {
	return &cobra.Command{
		Use:   "start ID…",
		Short: "Run stopped or finished workloads again",
		Long: `Run stopped or finished workloads again, on the versions of secrets that they
ran on before.`,
		Example: `  purser start rag-qna/answer-question
  purser start -E prod rag-qna/reindex`,
		Args:              takes(1, many),
		ValidArgsFunction: s.workloadNames,
		RunE: func(cmd *cobra.Command, ids []string) error {
			return s.each(ids, "started", func(api *client.Client, id string) (proto.Message, error) {
				return message(api.Workloads.Start(cmd.Context(), connect.NewRequest(&purserv1.StartRequest{Environment: s.environment, Id: id})))
			})
		},
	}
}

func newStop(s *session) *cobra.Command {
	var grace time.Duration
	cmd := &cobra.Command{
		Use:   "stop ID…",
		Short: "Stop workloads and keep them",
		Long: `Stop workloads: their containers get the spec's stop signal, and SIGKILL when
its grace is over. They stay known, and stopped, until "purser start".`,
		Example: `  purser stop rag-qna/answer-question
  purser stop --grace 1s rag-qna/answer-question`,
		Args:              takes(1, many),
		ValidArgsFunction: s.workloadNames,
		RunE: func(cmd *cobra.Command, ids []string) error {
			request := func(id string) *purserv1.StopRequest {
				r := &purserv1.StopRequest{Environment: s.environment, Id: id}
				if cmd.Flags().Changed("grace") {
					r.Grace = proto.String(grace.String())
				}
				return r
			}
			return s.each(ids, "stopped", func(api *client.Client, id string) (proto.Message, error) {
				return message(api.Workloads.Stop(cmd.Context(), connect.NewRequest(request(id))))
			})
		},
	}
	cmd.Flags().DurationVar(&grace, "grace", 0, "time between the signal and SIGKILL, instead of the spec's")
	return cmd
}

func newRm(s *session) *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use:        "rm ID…",
		SuggestFor: []string{"delete"},
		Aliases:    []string{"remove"},
		Short:      "Remove workloads, with their logs",
		Long: `Remove workloads from the node, with their logs. One that runs is stopped first,
with the grace of its spec; with -f it is killed at once.`,
		Example: `  purser rm rag-qna/reindex
  purser rm -f rag-qna/answer-question rag-qna/reindex`,
		Args:              takes(1, many),
		ValidArgsFunction: s.workloadNames,
		RunE: func(cmd *cobra.Command, ids []string) error {
			return s.each(ids, "removed", func(api *client.Client, id string) (proto.Message, error) {
				return message(api.Workloads.Remove(cmd.Context(), connect.NewRequest(&purserv1.RemoveRequest{Environment: s.environment, Id: id, Force: force})))
			})
		},
	}
	cmd.Flags().BoolVarP(&force, "force", "f", false, "kill what runs instead of stopping it")
	return cmd
}

func newRestart(s *session) *cobra.Command {
	var secrets bool
	cmd := &cobra.Command{
		Use:   "restart ID…",
		Short: "Replace the containers of workloads",
		Long: `Replace the containers of workloads: on the versions of secrets that they run
on, or with --secrets on the latest, the newest that are neither held nor
quarantined. That waits neither for a rotation.window nor for others of the app,
and is what a service with rotation.strategy manual waits for. A service that
runs well goes back to the versions before if it fails with the latest twice.
One whose rotation.strategy is rolling keeps the old container until the new one
is healthy. Returns when that is accepted; "purser wait --until ready" waits until the new container is ready and
has taken over.`,
		Example: `  purser restart rag-qna/answer-question
  purser restart --secrets rag-qna/answer-question && purser wait --until ready rag-qna/answer-question`,
		Args:              takes(1, many),
		ValidArgsFunction: s.workloadNames,
		RunE: func(cmd *cobra.Command, ids []string) error {
			return s.each(ids, "restart requested", func(api *client.Client, id string) (proto.Message, error) {
				return message(api.Workloads.Restart(cmd.Context(), connect.NewRequest(&purserv1.RestartRequest{Environment: s.environment, Id: id, Secrets: secrets})))
			})
		},
	}
	cmd.Flags().BoolVar(&secrets, "secrets", false, "move to the latest versions of the secrets")
	return cmd
}

func newSignal(s *session) *cobra.Command {
	return &cobra.Command{
		Use:   "signal ID SIGNAL",
		Short: "Send a signal to a workload's first process",
		Long: `Send a signal, by name or number, to the first process of a workload's
container. One that ends it counts as an exit: a service is started again.`,
		Example: `  purser signal rag-qna/answer-question SIGHUP
  purser signal rag-qna/answer-question 10`,
		Args: takes(2, 2),
		ValidArgsFunction: func(cmd *cobra.Command, args []string, prefix string) ([]cobra.Completion, cobra.ShellCompDirective) {
			if len(args) == 1 {
				return []string{"SIGHUP", "SIGINT", "SIGKILL", "SIGQUIT", "SIGTERM", "SIGUSR1", "SIGUSR2"}, cobra.ShellCompDirectiveNoFileComp
			}
			return first(s.workloadNames)(cmd, args, prefix)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return s.each(args[:1], "signalled", func(api *client.Client, id string) (proto.Message, error) {
				return message(api.Workloads.Signal(cmd.Context(), connect.NewRequest(&purserv1.SignalRequest{Environment: s.environment, Id: id, Signal: args[1]})))
			})
		},
	}
}

func newWait(s *session) *cobra.Command {
	var until string
	cmd := &cobra.Command{
		Use:   "wait ID",
		Short: "Wait until a workload has ended, and exit with its status",
		Long: `Wait until a workload has ended for good and exit with its status, or with
--until running until its container runs, with --until ready until, if it is a
service, it passes its ready probe or, without one, has started up and run for a
second. Ready fails at once for a service that has ended and backs off. Prints
the state it reached, and waits for as long as that takes.
124 means that a job's timeout ended it, although it then exited with 0; 125
that purser failed, or that the workload ended without having run.`,
		Example: `  purser wait rag-qna/reindex
  purser wait --until running rag-qna/answer-question
  timeout 60 purser wait --until ready rag-qna/answer-question`,
		Args:              takes(1, 1),
		Annotations:       map[string]string{standsInMark: ""},
		ValidArgsFunction: first(s.workloadNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			return notRun(s.wait(cmd.Context(), args[0], until))
		},
	}
	cmd.Flags().StringVar(&until, "until", "finished", "what to wait for: running, ready or finished")
	complete(cmd, "until", fixed("running", "ready", "finished"))
	return cmd
}

func (s *session) wait(ctx context.Context, id, until string) error {
	api, err := s.dial()
	if err != nil {
		return err
	}
	response, err := api.Workloads.Wait(ctx, connect.NewRequest(&purserv1.WaitRequest{Environment: s.environment, Id: id, Until: until}))
	if err != nil {
		return err
	}
	w := response.Msg.GetWorkload()
	if err := s.say(response.Msg, "%s", waitText(w)); err != nil {
		return err
	}
	return waitStatus(w, until)
}

func waitText(w *purserv1.Workload) string {
	text := w.GetState()
	if w.GetLastExit() != nil && !slices.Contains(runs, w.GetState()) {
		text += fmt.Sprintf(" (status %d)", w.GetLastExit().GetCode())
	}
	if w.GetReason() != "" {
		text += ": " + printable(w.GetReason())
	}
	return text
}

// waitStatus is the exit status for what a wait ended with.
func waitStatus(w *purserv1.Workload, until string) error {
	if until == "running" && w.GetState() != "failed" || until == "ready" && slices.Contains(runs, w.GetState()) {
		return nil
	}
	if w.GetState() == "backing_off" && w.GetLastExit().GetCode() == 0 {
		return errors.New(sentence(w, time.Now()))
	}
	if w.GetLastExit() == nil {
		if w.GetState() == "failed" {
			return errors.New(w.GetId() + " failed without having run")
		}
		return nil
	}
	return endStatus(w)
}

// message unwraps a response for printing.
func message[T any, P interface {
	*T
	proto.Message
}](response *connect.Response[T], err error) (proto.Message, error) {
	if err != nil {
		return nil, err
	}
	return P(response.Msg), nil
}
