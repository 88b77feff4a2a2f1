package cli

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	purserv1 "github.com/purserd/purser/api/purser/v1"
)

func newSecret(s *session) *cobra.Command {
	cmd := group(&cobra.Command{
		Use:   "secret",
		Short: "Set secrets and see which versions there are",
		Long: `Set secrets and see which versions there are. No command prints a value: only
a container gets to see it.`,
		Example: `  purser secret set openai-secret OPENAI_API_KEY=-
  purser secret list`,
	}, newSecretSet(s), newSecretList(s), newSecretShow(s), newSecretVersions(s), newSecretRollback(s),
		newSecretHold(s), newSecretRelease(s), newSecretRetry(s), newSecretDelete(s))
	cmd.Args = noSuchSecretCommand
	return cmd
}

// noSuchSecretCommand tells who looks for a value that there is no way to one.
func noSuchSecretCommand(cmd *cobra.Command, args []string) error {
	if len(args) > 0 && slices.Contains([]string{"get", "describe", "inspect", "read", "cat"}, args[0]) {
		return fmt.Errorf("there is no command %q; did you mean show? No command shows a value", args[0])
	}
	return noSuchCommand(cmd, args)
}

func newSecretList(s *session) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "list",
		Aliases: []string{"ls"},
		Short:   "List the secrets of an environment",
		Example: `  purser secret list
  purser secret list -A -o json`,
		Args:              takes(0, 0),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE:              func(cmd *cobra.Command, _ []string) error { return s.secretList(cmd.Context()) },
	}
	s.everywhereFlag(cmd)
	return cmd
}

func (s *session) secretList(ctx context.Context) error {
	api, err := s.dial()
	if err != nil {
		return err
	}
	response, err := api.Secrets.List(ctx, connect.NewRequest(&purserv1.ListSecretsRequest{Environment: s.scope()}))
	if err != nil {
		return err
	}
	return s.print(response.Msg, func() {
		s.secretTable(response.Msg.GetSecrets(), time.Now())
	})
}

func (s *session) secretTable(secrets []*purserv1.Secret, now time.Time) {
	withheld := slices.ContainsFunc(secrets, func(secret *purserv1.Secret) bool { return secret.GetWithheld() != "" })
	t := s.newSecretTable(withheld)
	for _, secret := range secrets {
		cells := []string{
			secret.GetName(), secret.GetEnvironment(), versionText(secret), strings.Join(secret.GetKeys(), ", "),
			sourceText(secret), ago(secret.GetUpdatedAt(), now), strings.Join(secret.GetUsers(), ", "),
		}
		if withheld {
			cells = append(cells, secret.GetWithheld())
		}
		t.row(cells...)
	}
	t.flush()
}

// newSecretTable has a column for why newer versions are not given out where one is not.
func (s *session) newSecretTable(withheld bool) *table {
	headings := []string{"SECRET", "ENVIRONMENT", "VERSION", "KEYS", "SOURCE", "UPDATED", "USERS"}
	if withheld {
		headings = append(headings, "WITHHELD")
	}
	t := newTable(s.out, headings...)
	t.whole = 2
	t.spare = []string{"USERS", "UPDATED", "KEYS", "SOURCE"}
	return t
}

func versionText(secret *purserv1.Secret) string {
	if secret.GetDeleted() {
		return "deleted"
	}
	return fmt.Sprint(secret.GetVersion())
}

// sourceText is where a secret comes from, with all others that have it.
func sourceText(secret *purserv1.Secret) string {
	text := secret.GetSource()
	if text == "" {
		text = "-"
	}
	if others := secret.GetAlsoIn(); len(others) > 0 {
		text += fmt.Sprintf(" (conflict with %s)", strings.Join(others, ", "))
	}
	if secret.GetNotTaken() != "" {
		text += " (not taken as it is)"
	}
	return text
}

func (s *session) describe(ctx context.Context, name string) (*purserv1.DescribeResponse, error) {
	api, err := s.dial()
	if err != nil {
		return nil, err
	}
	response, err := api.Secrets.Describe(ctx, connect.NewRequest(&purserv1.DescribeRequest{Environment: s.environment, Name: name}))
	if err != nil {
		return nil, err
	}
	return response.Msg, nil
}

func newSecretShow(s *session) *cobra.Command {
	return &cobra.Command{
		Use:   "show NAME",
		Short: "Show a secret's keys, versions, age and who runs on which; never a value",
		Long: `Show a secret: its keys, the version that a launch gets, versions that are held or
quarantined, and why, and which instance runs on which version and what keeps it
from the newest. Never a value.`,
		Example: `  purser secret show openai-secret
  purser secret show -E prod openai-secret -o yaml`,
		Args:              takes(1, 1),
		ValidArgsFunction: first(s.secretNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			described, err := s.describe(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return s.print(described, func() { s.showSecret(described) })
		},
	}
}

func (s *session) showSecret(described *purserv1.DescribeResponse) {
	secret := described.GetSecret()
	t := newTable(s.out)
	t.field("Secret", secret.GetName())
	t.field("Environment", secret.GetEnvironment())
	t.field("Version", versionText(secret))
	t.field("Source", sourceText(secret))
	t.field("Not taken", secret.GetNotTaken())
	t.field("Kept", count(len(described.GetVersions()), "version", "versions"))
	t.withheldFields(described)
	t.field("Keys", strings.Join(secret.GetKeys(), ", "))
	t.field("Created", zoned(secret.GetCreatedAt()))
	t.field("Updated", zoned(secret.GetUpdatedAt()))
	if len(described.GetUsers()) == 0 {
		t.field("Users", strings.Join(secret.GetUsers(), ", "))
	}
	t.flush()
	s.secretUserTable(described.GetUsers())
}

func newSecretVersions(s *session) *cobra.Command {
	return &cobra.Command{
		Use:   "versions NAME",
		Short: "List a secret's versions, newest first; never a value",
		Example: `  purser secret versions openai-secret
  purser secret versions openai-secret -o json`,
		Args:              takes(1, 1),
		ValidArgsFunction: first(s.secretNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			described, err := s.describe(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return s.print(described, func() { s.versionTable(described.GetVersions(), time.Now()) })
		},
	}
}

func (s *session) versionTable(versions []*purserv1.SecretVersion, now time.Time) {
	reasons := slices.ContainsFunc(versions, func(v *purserv1.SecretVersion) bool { return v.GetReason() != "" })
	t := s.newVersionTable(reasons)
	for _, v := range versions {
		copied := "-"
		if v.GetCopyOf() != 0 {
			copied = fmt.Sprint(v.GetCopyOf())
		}
		cells := []string{
			fmt.Sprint(v.GetVersion()), v.GetState(), age(v.GetCreatedAt(), now),
			strings.Join(v.GetKeys(), ", "), copied, strings.Join(v.GetUsers(), ", "),
		}
		if reasons {
			cells = append(cells, v.GetReason())
		}
		t.row(cells...)
	}
	t.flush()
}

// newVersionTable has a column for why versions are held or quarantined where one is.
func (s *session) newVersionTable(reasons bool) *table {
	headings := []string{"VERSION", "STATE", "AGE", "KEYS", "COPY OF", "USERS"}
	if reasons {
		headings = append(headings, "REASON")
	}
	t := newTable(s.out, headings...)
	t.whole = 2
	t.style("STATE", versionStyle)
	t.spare = []string{"COPY OF", "USERS", "KEYS"}
	return t
}

func newSecretDelete(s *session) *cobra.Command {
	var destroy bool
	cmd := &cobra.Command{
		Use:     "delete NAME",
		Aliases: []string{"rm"},
		Short:   "Delete a secret, but for the versions in use",
		Long: `Delete a secret for new launches. Versions that a workload runs on are kept
until it moves on, unless --destroy is given: that workload then cannot be
started again. Either way the answer names these workloads.`,
		Example: `  purser secret delete old-secret
  purser secret delete --destroy leaked-secret`,
		Args:              takes(1, 1),
		ValidArgsFunction: first(s.secretNames),
		RunE:              func(cmd *cobra.Command, args []string) error { return s.secretDelete(cmd.Context(), args[0], destroy) },
	}
	cmd.Flags().BoolVar(&destroy, "destroy", false, "also destroy the versions that workloads run on")
	return cmd
}

func (s *session) secretDelete(ctx context.Context, name string, destroy bool) error {
	api, err := s.dial()
	if err != nil {
		return err
	}
	request := &purserv1.DeleteRequest{Environment: s.environment, Name: name, Destroy: destroy}
	response, err := api.Secrets.Delete(ctx, connect.NewRequest(request))
	if err != nil {
		return err
	}
	return s.say(response.Msg, "secret %s in %s: deleted%s", name, s.environment, s.deletedNote(name, destroy, response.Msg))
}

// deletedNote says what the workloads that use a secret come to.
func (s *session) deletedNote(name string, destroyed bool, deleted *purserv1.DeleteResponse) string {
	users := few(deleted.GetUsers())
	switch kept := deleted.GetKept(); {
	case len(kept) > 0:
		numbers := strings.Trim(strings.ReplaceAll(fmt.Sprint(kept), " ", ", "), "[]")
		return fmt.Sprintf("; kept for %s: version %s", users, numbers)
	case destroyed && users != "":
		return fmt.Sprintf("; %s cannot be started again until it is set anew and they are moved: purser secret set -E %s %s KEY=-, and then: purser restart --secrets -E %s %s",
			users, s.environment, name, s.environment, fewArgs(deleted.GetUsers()))
	}
	return ""
}

// mostNamed is how many of many are named.
const mostNamed = 3

// fewArgs are the first of many as arguments of a command; there is an … for the rest.
func fewArgs(names []string) string {
	if len(names) <= mostNamed {
		return strings.Join(names, " ")
	}
	return strings.Join(names[:mostNamed], " ") + " …"
}

// few names the first of many, and counts the rest.
func few(names []string) string {
	rest := len(names) - mostNamed
	if rest <= 0 {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:mostNamed], ", "), rest)
}
