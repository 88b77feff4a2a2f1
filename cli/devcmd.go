package cli

import (
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/purserd/purser/cli/dev"
)

func newDev(s *session) *cobra.Command {
	var options dev.Options
	cmd := &cobra.Command{
		Use:   "dev",
		Short: "Run a whole node in the foreground, with a containerd of its own",
		Long: `Run a whole node in the foreground, under one directory: a private containerd
and the agent, both started again when they die. Prints how to reach it once it
serves. An interrupt stops all workloads, then all of it; a second start on the
same directory finds secrets, images and workloads again. A second interrupt
kills what has not ended.

Needs root, containerd and runc. The logs are in DIR/log.`,
		Example: `  sudo purser dev
  sudo purser dev --dir /tmp/node2 --containerd /opt/containerd/bin/containerd
  sudo purser dev --config ./strict.toml`,
		Args:              takes(0, 0),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE:              func(*cobra.Command, []string) error { return s.dev(options) },
	}
	cmd.Flags().StringVar(&options.Dir, "dir", "", "directory of the node (default ${XDG_DATA_HOME:-~/.local/share}/purser/dev)")
	cmd.Flags().StringVar(&options.Containerd, "containerd", "", "`PATH` of containerd, with its shim beside it (default: the one in PATH)")
	cmd.Flags().StringVar(&options.Config, "config", "", "`FILE` of the agent's configuration, laid over what this command makes (DIR/agent.toml)")
	return cmd
}

func (s *session) dev(options dev.Options) error {
	if options.Dir == "" {
		var err error
		if options.Dir, err = dev.DefaultDir(); err != nil {
			return err
		}
	}
	// containerd and its shims inherit it, and runtimes make directories in containers
	// under it.
	syscall.Umask(0o022)
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, dev.EndSignals()...)
	defer signal.Stop(signals)
	// Nor may a reader of the output that went away end the node in disorder.
	// Caught, not ignored: the children would inherit that.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	options.Out, options.Err, options.Signals = s.out, s.err, signals
	return dev.Run(options)
}
