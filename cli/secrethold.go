package cli

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	purserv1 "github.com/purserd/purser/api/purser/v1"
	"github.com/purserd/purser/client"
)

func newSecretHold(s *session) *cobra.Command {
	var from uint32
	cmd := &cobra.Command{
		Use:   "hold NAME",
		Short: "Keep workloads off new versions of a secret",
		Long: `Keep every workload and launch of this node off the versions of a secret from one
on: off those that do not exist yet, or with --from off some that do. Who moves
to one of them goes back; who has moved stays. Another hold never releases what
is held already: only "purser secret release" does.`,
		Example: `  purser secret hold openai-secret
  purser secret hold -E prod openai-secret --from 7`,
		Args:              takes(1, 1),
		ValidArgsFunction: first(s.secretNames),
		RunE:              func(cmd *cobra.Command, args []string) error { return s.secretHold(cmd.Context(), args[0], from) },
	}
	cmd.Flags().Uint32Var(&from, "from", 0, "the first `VERSION` that nobody gets; the one after the newest unless given")
	complete(cmd, "from", s.versionNumbers)
	return cmd
}

func (s *session) secretHold(ctx context.Context, name string, from uint32) error {
	api, err := s.dial()
	if err != nil {
		return err
	}
	request := &purserv1.HoldRequest{Environment: s.environment, Name: name, From: from}
	response, err := api.Secrets.Hold(ctx, connect.NewRequest(request))
	if err != nil {
		return err
	}
	return s.say(response.Msg, "secret %s in %s: %s; to end that: purser secret release -E %s %s", name, s.environment, heldText(response.Msg), s.environment, name)
}

// heldText says what a hold has come to, where there may have been one before.
func heldText(held *purserv1.HoldResponse) string {
	switch was := held.GetWasFrom(); was {
	case 0:
		return fmt.Sprintf("held from version %d on", held.GetFrom())
	case held.GetFrom():
		return fmt.Sprintf("is held from version %d on already, and stays so", held.GetFrom())
	default:
		return fmt.Sprintf("held from version %d on, which was from %d on before", held.GetFrom(), was)
	}
}

func newSecretRelease(s *session) *cobra.Command {
	return &cobra.Command{
		Use:   "release NAME",
		Short: "End a hold: workloads move to the newest version",
		Long: `End a hold of a secret's versions. Workloads move to the newest one as they do when
it is set: one of each app first, and in their windows.`,
		Example: `  purser secret release openai-secret
  purser secret release -E prod openai-secret`,
		Args:              takes(1, 1),
		ValidArgsFunction: first(s.secretNames),
		RunE:              func(cmd *cobra.Command, args []string) error { return s.secretRelease(cmd.Context(), args[0]) },
	}
}

func (s *session) secretRelease(ctx context.Context, name string) error {
	api, err := s.dial()
	if err != nil {
		return err
	}
	request := &purserv1.ReleaseRequest{Environment: s.environment, Name: name}
	response, err := api.Secrets.Release(ctx, connect.NewRequest(request))
	if err != nil {
		return err
	}
	return s.say(response.Msg, "secret %s in %s: %s", name, s.environment, releasedText(response.Msg))
}

// releasedText says what a release has come to, and why a launch does not get the newest
// version if it does not.
func releasedText(released *purserv1.ReleaseResponse) string {
	text := "released"
	if released.GetWasFrom() == 0 {
		text = "was not held"
	}
	if text += "; " + launchText(released.GetVersion()); released.GetWithheld() != "" {
		text += ", as " + released.GetWithheld()
	}
	return text
}

// launchText says which version a launch gets.
func launchText(version uint32) string {
	if version == 0 {
		return "no version can be had"
	}
	return fmt.Sprintf("a launch gets version %d", version)
}

func newSecretRetry(s *session) *cobra.Command {
	return &cobra.Command{
		Use:   "retry NAME",
		Short: "Have quarantined versions of a secret tried again",
		Long: `Have versions of a secret tried again that workloads went back from: when what made
them fail lay elsewhere and has been mended. One workload goes first, as ever.
Who was taken back by "purser app rollback" stays: that is no failure.`,
		Example: `  purser secret retry openai-secret
  purser secret retry -E prod openai-secret`,
		Args:              takes(1, 1),
		ValidArgsFunction: first(s.secretNames),
		RunE:              func(cmd *cobra.Command, args []string) error { return s.secretRetry(cmd.Context(), args[0]) },
	}
}

func (s *session) secretRetry(ctx context.Context, name string) error {
	api, err := s.dial()
	if err != nil {
		return err
	}
	request := &purserv1.RetryRequest{Environment: s.environment, Name: name}
	response, err := api.Secrets.Retry(ctx, connect.NewRequest(request))
	if err != nil {
		return err
	}
	return s.say(response.Msg, "secret %s in %s: %s", name, s.environment, retriedText(response.Msg))
}

// retriedText says what a retry has come to: what is passed or held is free, and not tried.
func retriedText(retried *purserv1.RetryResponse) string {
	tried := pluck(retried.GetVersions(), versionNumber)
	freed := pluck(slices.DeleteFunc(slices.Clone(retried.GetFreed()), func(v uint32) bool { return slices.Contains(retried.GetVersions(), v) }), versionNumber)
	var parts []string
	if len(tried) > 0 {
		parts = append(parts, versionsText(tried, "is", "are")+" tried again")
	}
	if len(freed) > 0 {
		parts = append(parts, versionsText(freed, "is", "are")+" quarantined no more, and not tried")
	}
	switch {
	case len(parts) == 0:
		return "no version has failed; " + launchText(retried.GetVersion())
	case len(tried) == 0:
		parts = append(parts, launchText(retried.GetVersion()))
	}
	return strings.Join(parts, "; ")
}

func versionNumber(v uint32) string { return fmt.Sprint(v) }

// versionsText names versions, with the verb that goes with them.
func versionsText(numbers []string, one, many string) string {
	if len(numbers) == 1 {
		return "version " + numbers[0] + " " + one
	}
	return "versions " + strings.Join(numbers, ", ") + " " + many
}

// versionNumbers proposes the versions of the secret that is named.
func (s *session) versionNumbers(cmd *cobra.Command, args []string, prefix string) ([]cobra.Completion, cobra.ShellCompDirective) {
	return s.names(func(ctx context.Context, api *client.Client) ([]string, error) {
		if len(args) == 0 {
			return nil, nil
		}
		described, err := api.Secrets.Describe(ctx, connect.NewRequest(&purserv1.DescribeRequest{Environment: s.environment, Name: args[0]}))
		if err != nil {
			return nil, err
		}
		return pluck(described.Msg.GetVersions(), func(v *purserv1.SecretVersion) string { return fmt.Sprint(v.GetVersion()) }), nil
	})(cmd, args, prefix)
}
