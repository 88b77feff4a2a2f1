package cli

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/purserd/purser/client"
)

const defaultEnvironment = "dev"

// session is what a command works with: the global flags and the streams.
type session struct {
	host string
	// hostFrom says where host was given.
	hostFrom string
	output   string
	// environment is what -E says, or its default.
	environment string
	// given tells that -E was on the command line.
	given bool
	// everywhere is -A: all environments.
	everywhere bool

	in       io.Reader
	out, err io.Writer
	lookup   func(string) (string, bool)
	api      *client.Client
}

// Main runs the command line given by args, without the program's name, and
// returns its exit status.
func Main(args []string) int {
	s := &session{in: os.Stdin, out: os.Stdout, err: os.Stderr, lookup: os.LookupEnv}
	root := newRoot(s)
	root.SetArgs(args)
	err := root.ExecuteContext(context.Background())
	s.close()
	return s.report(err)
}

func newRoot(s *session) *cobra.Command {
	root := &cobra.Command{
		Use:   "purser",
		Short: "Run functions with their secrets in containers on this node",
		Long: `purser hands each function on a node what is its own: it resolves the secrets
that a launch spec names, merges them with the environment, starts the
container and keeps it alive.`,
		Example: `  sudo purser dev
  purser secret set openai-secret OPENAI_API_KEY=-
  purser run --image localhost/tools:1 --secret openai-secret -- sh -c 'echo "${#OPENAI_API_KEY} letters"'
  purser deploy rag-qna.yaml`,
		SilenceUsage:      true,
		SilenceErrors:     true,
		Args:              noSuchCommand,
		RunE:              func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error { return s.settle(cmd) },
	}
	root.SetIn(s.in)
	root.SetOut(s.out)
	root.SetErr(s.err)
	root.SetFlagErrorFunc(flagError)
	s.globalFlags(root)
	addCommands(root, s)
	root.InitDefaultHelpCmd()
	describeHelp(root)
	flagsFirst(root)
	checkArgs(root)
	return root
}

func (s *session) globalFlags(root *cobra.Command) {
	flags := root.PersistentFlags()
	flags.StringVar(&s.host, "host", "", "address of the agent: unix:///PATH or http://HOST:PORT (default $PURSER_HOST, else "+client.DefaultHost+")")
	flags.StringVarP(&s.output, "output", "o", "table", "how to print: table, json or yaml")
	flags.StringVarP(&s.environment, "environment", "E", defaultEnvironment, "environment of the secrets, workloads and volumes")
	complete(root, "output", fixed("table", "json", "yaml"))
	complete(root, "environment", s.environmentNames)
}

func addCommands(root *cobra.Command, s *session) {
	add := func(id, title string, cmds ...*cobra.Command) {
		root.AddGroup(&cobra.Group{ID: id, Title: title})
		for _, cmd := range cmds {
			cmd.GroupID = id
			root.AddCommand(cmd)
		}
	}
	add("launch", "Launching:", newRun(s), newDeploy(s), newApp(s))
	add("workload", "Workloads:",
		newPs(s), newGet(s), newLogs(s), newExec(s), newAttach(s), newStart(s), newStop(s),
		newRm(s), newRestart(s), newSignal(s), newWait(s))
	add("node", "The node and what it keeps:",
		newSecret(s), newEnvironment(s), newImage(s), newVolume(s), newEvents(s), newAudit(s), newNode(s), newDrain(s), newUndrain(s))
	add("daemon", "Starting a node:", newDev(s), newAgent(s))
	root.AddCommand(newVersion(s), newCompletion(), newLogHelper(), newPortForwarder())
}

// settle checks and completes the global flags before a command runs.
func (s *session) settle(cmd *cobra.Command) error {
	if !slices.Contains([]string{"table", "json", "yaml"}, s.output) {
		return misuse(cmd, fmt.Errorf("-o %s: must be table, json or yaml", s.output))
	}
	s.given = cmd.Flags().Changed("environment")
	if s.given && s.everywhere {
		return misuse(cmd, fmt.Errorf("-E and -A contradict each other"))
	}
	if s.given && (len(s.environment) > maxName || !namePattern.MatchString(s.environment)) {
		return misuse(cmd, fmt.Errorf("-E %q: the name of an environment is 1 to %d letters, digits, '.', '_' or '-', the first a letter or digit", s.environment, maxName))
	}
	s.settleHost()
	return nil
}

func (s *session) settleHost() {
	if s.host != "" {
		s.hostFrom = "--host"
		return
	}
	s.host = client.DefaultHost
	if host, ok := s.lookup("PURSER_HOST"); ok && host != "" {
		s.host, s.hostFrom = host, "PURSER_HOST"
	}
}

// scope is the environment that a list is restricted to; empty means all.
func (s *session) scope() string {
	if s.everywhere {
		return ""
	}
	return s.environment
}

// everywhereFlag adds -A to a command that lists.
func (s *session) everywhereFlag(cmd *cobra.Command) {
	cmd.Flags().BoolVarP(&s.everywhere, "all-environments", "A", false, "list every environment")
}

// dial gives the one connection that a command uses. Nothing is sent until
// the first call.
func (s *session) dial() (*client.Client, error) {
	if s.api != nil {
		return s.api, nil
	}
	api, err := client.New(s.host)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", s.hostFrom, err)
	}
	s.api = api
	return api, nil
}

func (s *session) close() {
	if s.api != nil {
		s.api.Close()
	}
}

// warn tells the user something that is not what the command was asked for.
func (s *session) warn(format string, args ...any) {
	fmt.Fprintf(s.err, "purser: "+format+"\n", args...)
}

// group makes a command that only holds others.
func group(cmd *cobra.Command, subs ...*cobra.Command) *cobra.Command {
	cmd.Args = noSuchCommand
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
	cmd.AddCommand(subs...)
	return cmd
}

func noSuchCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	cmd.SuggestionsMinimumDistance = 2
	if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
		return fmt.Errorf("there is no command %q; did you mean %s?", args[0], strings.Join(near, " or "))
	}
	return fmt.Errorf("there is no command %q", args[0])
}

// checkArgs makes a wrong number of arguments, anywhere, an error that says
// where to read on.
func checkArgs(cmd *cobra.Command) {
	if check := cmd.Args; check != nil {
		cmd.Args = func(cmd *cobra.Command, args []string) error {
			if err := check(cmd, args); err != nil {
				return misuse(cmd, err)
			}
			return nil
		}
	}
	for _, sub := range cmd.Commands() {
		checkArgs(sub)
	}
}

// describeHelp gives cobra's own help command the example that all have.
func describeHelp(root *cobra.Command) {
	for _, cmd := range root.Commands() {
		if cmd.Name() == "help" {
			cmd.Short = "Tell about a command"
			cmd.Example = "  purser help secret set"
		}
	}
}
