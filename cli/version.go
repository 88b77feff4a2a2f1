package cli

import (
	"encoding/json"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/purserd/purser/api/version"
)

func newVersion(s *session) *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version and commit of this program",
		Long: `Print the version and commit of this program. The agent's are in
"purser node".`,
		Example: `  purser version
  purser version -o json`,
		Args:              takes(0, 0),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE:              func(*cobra.Command, []string) error { return s.printVersion() },
	}
}

func (s *session) printVersion() error {
	info := version.Get()
	switch s.output {
	case "json":
		out := json.NewEncoder(s.out)
		out.SetIndent("", "  ")
		return out.Encode(info)
	case "yaml":
		_, err := fmt.Fprintf(s.out, "version: %q\ncommit: %q\n", info.Version, info.Commit)
		return err
	default:
		_, err := fmt.Fprintf(s.out, "purser %s (commit %s)\n", info.Version, info.Commit)
		return err
	}
}
