package cli

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	purserv1 "github.com/purserd/purser/api/purser/v1"
	"github.com/purserd/purser/api/secretfile"
)

// setFlags say where else a secret's values come from.
type setFlags struct {
	dotenv, json string
	replace, now bool
}

func newSecretSet(s *session) *cobra.Command {
	var f setFlags
	cmd := &cobra.Command{
		Use:   "set NAME [K=- | K=@FILE | K=V | K-]…",
		Short: "Write a new version of a secret",
		Long: `Write a new version of a secret: the newest one with these changes, or with
--replace these values alone. A set that changes nothing writes nothing.
Workloads that use a key that has changed move to it: one of each app first, and
the others once that one is healthy, each after a part of its splay and within its
window. --now does without splay and window.

  K=-      the value is standard input, less one newline at its end; on a
           terminal it is asked for, ends with Enter and is not shown
  K=@FILE  the value is the file, byte by byte
  K=V      the value is V; other users of this machine can see it while the
           command runs, and the shell's history keeps it
  K-       the new version is without K

--from-dotenv reads K=V lines, with comments and quotes; a $ in a value is
a $, nothing is expanded. --from-json reads an object of strings, numbers and
booleans. Arguments win over the JSON file, which wins over the dotenv file.`,
		Example: `  purser secret set openai-secret OPENAI_API_KEY=-
  pass show openai | purser secret set openai-secret OPENAI_API_KEY=-
  purser secret set -E prod tls CERT=@server.crt KEY=@server.key
  purser secret set algolia-secret --from-dotenv .env --replace
  purser secret set algolia-secret OLD_KEY-
  purser secret set -E prod leaked-secret KEY=@new.key --now`,
		Args:              secretSetArgs,
		ValidArgsFunction: first(s.secretNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			keepOffDisks()
			data, err := readSecret(f, args[1:], s.readInput)
			if errors.As(err, new(*valueError)) {
				return err
			}
			if err != nil {
				return misuse(cmd, err)
			}
			return s.secretSet(cmd.Context(), args[0], data, f)
		},
	}
	cmd.SetFlagErrorFunc(setFlagError)
	flags := cmd.Flags()
	flags.StringVar(&f.dotenv, "from-dotenv", "", "read values from a dotenv `FILE`")
	flags.StringVar(&f.json, "from-json", "", "read values from a JSON `FILE`")
	flags.BoolVar(&f.replace, "replace", false, "drop the keys that are not given")
	flags.BoolVar(&f.now, "now", false, "have workloads move at once, outside of their windows and without splay")
	return cmd
}

// setFlagError says what is wrong with a flag. The argument itself may be a value, or have one
// behind its =, and is not told, but for a flag's own name.
func setFlagError(cmd *cobra.Command, err error) error {
	var lacks *pflag.ValueRequiredError
	var bad *pflag.InvalidValueError
	switch {
	case errors.As(err, &lacks):
		err = fmt.Errorf("--%s lacks its value", lacks.GetFlag().Name)
	case errors.As(err, &bad):
		err = fmt.Errorf("the value of --%s is none for it", bad.GetFlag().Name)
	default:
		err = errors.New("there is no such flag as one that is given; they are " + flagNames(cmd))
	}
	return misuse(cmd, err)
}

// flagNames are those of a command's own flags.
func flagNames(cmd *cobra.Command) string {
	var names []string
	cmd.LocalNonPersistentFlags().VisitAll(func(f *pflag.Flag) {
		if !f.Hidden && f.Name != "help" {
			names = append(names, "--"+f.Name)
		}
	})
	return strings.Join(names, ", ")
}

// maxName and namePattern are what names of secrets and environments keep to.
const maxName = 64

var namePattern = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*$`)

// secretSetArgs checks the name here: when it was forgotten, a value stands in
// its place, and must not come back in an error of the agent's.
func secretSetArgs(_ *cobra.Command, args []string) error {
	if len(args) == 0 {
		return errors.New("needs the NAME of a secret")
	}
	if len(args[0]) > maxName || !namePattern.MatchString(args[0]) {
		return errors.New("the first argument must be the NAME of a secret: up to 64 letters, digits, '.', '_' and '-'")
	}
	return nil
}

// valueError is one of where a value was to come from, and none of the command line.
type valueError struct{ err error }

func (e *valueError) Error() string { return e.err.Error() }
func (e *valueError) Unwrap() error { return e.err }

func readSecret(f setFlags, args []string, input func(key string) ([]byte, error)) (*secretData, error) {
	data := newSecretData()
	if f.dotenv != "" {
		if err := data.addFile(f.dotenv, secretfile.ParseDotenv); err != nil {
			return nil, &valueError{err}
		}
	}
	if f.json != "" {
		if err := data.addFile(f.json, secretfile.ParseJSON); err != nil {
			return nil, &valueError{err}
		}
	}
	if err := data.addArguments(args, input); err != nil {
		return nil, err
	}
	if len(data.values) == 0 && len(data.remove) == 0 {
		return nil, errors.New("nothing to set: give K=-, K=@FILE, K=V, K-, --from-dotenv or --from-json")
	}
	return data, nil
}

// keyOf names what a field of a put is about: a key, or the secret as a whole.
func keyOf(field string) string {
	key, isKey := strings.CutPrefix(field, "data[")
	switch {
	case isKey:
		return strings.Trim(key, `"]`)
	case field == "data", field == "remove":
		return ""
	}
	return field
}

func (s *session) secretSet(ctx context.Context, name string, data *secretData, f setFlags) error {
	if len(data.visible) > 0 {
		s.warn("the value of %s was on the command line, where other users of this machine can see it; better %s=- or %s=@FILE",
			strings.Join(data.visible, ", "), data.visible[0], data.visible[0])
	}
	api, err := s.dial()
	if err != nil {
		return err
	}
	request := &purserv1.PutRequest{
		Environment: s.environment, Name: name,
		Data: data.values, Remove: data.removed(), Replace: f.replace, Now: f.now,
	}
	response, err := api.Secrets.Put(ctx, connect.NewRequest(request))
	if err != nil {
		return unsure(rename(err, keyOf), s.lookAt(name))
	}
	put, note := response.Msg, ""
	if !put.GetChanged() {
		note = ", unchanged"
		if f.now {
			note += "; who is to move to it waits for no window and no splay"
		}
	}
	where := s.environment
	if put.GetNewEnvironment() {
		where += " (a new environment)"
	}
	if err := s.say(put, "secret %s in %s: version %d (keys %s)%s", name, where, put.GetVersion(), strings.Join(put.GetKeys(), ", "), note); err != nil {
		return err
	}
	s.warnOf(put.GetNote())
	s.tellBehind(ctx, api, name, put.GetVersion())
	return nil
}
