package cli

import (
	"github.com/spf13/cobra"

	"github.com/purserd/purser/runtime/forward"
)

// newPortForwarder is what the agent starts; nobody else has a use for it.
func newPortForwarder() *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use:   "port-forwarder --dir DIR",
		Short: "Serve the ports that lead to containers (started by the agent)",
		Long: `Serve the ports of this node that lead to its containers. The agent starts it, and
again if it ends; it goes on while the agent is away.`,
		Example: `  purser port-forwarder --dir /run/purser/ports`,
		Hidden:  true,
		Args:    takes(0, 0),
		RunE: func(*cobra.Command, []string) error {
			return forward.Run(dir)
		},
	}
	cmd.Flags().StringVar(&dir, "dir", "", "the forwarder's `DIR`, which does not survive a reboot")
	_ = cmd.MarkFlagRequired("dir")
	return cmd
}
