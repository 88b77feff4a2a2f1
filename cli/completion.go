package cli

import (
	"fmt"

	"github.com/spf13/cobra"
)

// newCompletion stands in for cobra's own command, whose subcommands have no
// examples.
func newCompletion() *cobra.Command {
	return &cobra.Command{
		Use:   "completion bash|zsh|fish|powershell",
		Short: "Print a script that completes purser's commands in a shell",
		Long: `Print a script that completes purser's commands and flags in a shell, and the
names of workloads, apps, secrets, environments and images, for which it asks
the node.`,
		Example: `  source <(purser completion bash)
  purser completion bash > /etc/bash_completion.d/purser
  purser completion zsh > "${fpath[1]}/_purser"
  purser completion fish > ~/.config/fish/completions/purser.fish`,
		Args:              cobra.MatchAll(takes(1, 1), cobra.OnlyValidArgs),
		ValidArgs:         []string{"bash", "zsh", "fish", "powershell"},
		ValidArgsFunction: nil,
		RunE:              func(cmd *cobra.Command, args []string) error { return printCompletion(cmd, args[0]) },
	}
}

func printCompletion(cmd *cobra.Command, shell string) error {
	root, out := cmd.Root(), cmd.OutOrStdout()
	switch shell {
	case "bash":
		return root.GenBashCompletionV2(out, true)
	case "zsh":
		return root.GenZshCompletion(out)
	case "fish":
		return root.GenFishCompletion(out, true)
	case "powershell":
		return root.GenPowerShellCompletionWithDesc(out)
	default:
		return fmt.Errorf("no completion for %s", shell)
	}
}
