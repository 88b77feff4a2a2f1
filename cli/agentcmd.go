package cli

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/purserd/purser/agent/config"
	"github.com/purserd/purser/agent/server"
)

func newAgent(s *session) *cobra.Command {
	var file string
	var level slog.LevelVar
	var options server.Options
	cmd := &cobra.Command{
		Use:   "agent",
		Short: "Run the daemon, on the system's containerd",
		Long: `Run the daemon that keeps this node's workloads, on the system's containerd.
Its API is on a unix socket, its metrics on a port of the loopback interface;
the configuration says where. It serves while containerd is away, and connects
when it appears. When it ends, containers run on, and the next agent takes them
over.`,
		Example: `  sudo purser agent
  sudo purser agent --config ./config.toml --log-level debug`,
		Args:              takes(0, 0),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(*cobra.Command, []string) error {
			if err := needsRoot(os.Geteuid()); err != nil {
				return err
			}
			cfg, err := config.Load(file)
			if err != nil {
				return err
			}
			ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
			defer stop()
			return newManager(cfg.Socket, newLogger(s.err, &level)).serve(ctx, cfg, options)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&file, "config", config.Path, "configuration `FILE`")
	flags.TextVar(&level, "log-level", &level, "least level that is logged: debug, info, warn or error")
	flags.BoolVar(&options.StopOnExit, "stop-workloads-on-exit", false, "stop every container before ending; the next agent brings them back")
	complete(cmd, "log-level", fixed("debug", "info", "warn", "error"))
	return cmd
}

// needsRoot says so before a directory does that cannot be made.
func needsRoot(user int) error {
	if user == 0 {
		return nil
	}
	return errors.New("the agent needs root, to make containers: sudo purser agent")
}

// newLogger writes lines for a person to a terminal, JSON to everything else.
func newLogger(w io.Writer, level slog.Leveler) *slog.Logger {
	options := &slog.HandlerOptions{Level: level}
	if f, ok := w.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		return slog.New(slog.NewTextHandler(w, options))
	}
	return slog.New(slog.NewJSONHandler(w, options))
}
