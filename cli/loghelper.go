package cli

import (
	"github.com/spf13/cobra"

	"github.com/purserd/purser/runtime/loghelper"
)

// newLogHelper is what the agent starts; nobody else has a use for it.
func newLogHelper() *cobra.Command {
	var dir string
	var allowSwap bool
	cmd := &cobra.Command{
		Use:   "log-helper --dir DIR",
		Short: "Store what containers write (started by the agent)",
		Long: `Store what the containers of this node write, with the values of their secrets
replaced. The agent starts it, and again if it ends; it goes on while the agent
is away.`,
		Example: `  purser log-helper --dir /run/purser/private/logs`,
		Hidden:  true,
		Args:    takes(0, 0),
		RunE: func(*cobra.Command, []string) error {
			return loghelper.Run(dir, allowSwap)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&dir, "dir", "", "the helper's `DIR`, on memory that no disk sees")
	flags.BoolVar(&allowSwap, "allow-swap", false, "go on where this process can be swapped")
	_ = cmd.MarkFlagRequired("dir")
	return cmd
}
