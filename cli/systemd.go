package cli

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"sync"
	"time"

	"connectrpc.com/connect"
	"github.com/coreos/go-systemd/v22/daemon"

	"github.com/purserd/purser/agent/config"
	"github.com/purserd/purser/agent/server"
	purserv1 "github.com/purserd/purser/api/purser/v1"
	"github.com/purserd/purser/client"
)

// manager is the service manager that started the agent: systemd, or one that knows its
// protocol (sd_notify(3)). Without one all of this does nothing.
type manager struct {
	socket  string // of the API
	log     *slog.Logger
	address string        // of the manager; empty for none
	limit   time.Duration // within which it wants to hear of the agent again; 0 for never
	feeding sync.WaitGroup
}

// newManager takes what the manager tells by the environment out of that: an OCI
// runtime that inherits it takes it for the container's, and waits for it to get ready.
func newManager(socket string, log *slog.Logger) *manager {
	m := &manager{socket: socket, log: log, address: os.Getenv("NOTIFY_SOCKET")}
	os.Unsetenv("NOTIFY_SOCKET")
	limit, err := daemon.SdWatchdogEnabled(true)
	if err != nil {
		log.Warn("cannot read how often the service manager wants to hear of the agent", "error", err)
	}
	m.limit = limit
	return m
}

// serve runs the agent until ctx ends, and tells the manager of its life.
func (m *manager) serve(ctx context.Context, cfg *config.Config, o server.Options) error {
	ctx, stop := context.WithCancel(ctx)
	defer m.feeding.Wait()
	defer stop()
	return server.Run(ctx, cfg, m.log, m.options(ctx, o))
}

// options have the manager told when the agent serves, and when it ends.
func (m *manager) options(ctx context.Context, o server.Options) server.Options {
	o.Serving = func() {
		m.notify(daemon.SdNotifyReady + "\nSTATUS=Serving on " + m.socket)
		m.feeding.Go(func() { m.feedWatchdog(ctx) })
	}
	status := "Ending; containers run on"
	if o.StopOnExit {
		status = "Stopping all containers"
	}
	o.Ending = func() { m.notify(daemon.SdNotifyStopping + "\nSTATUS=" + status) }
	return o
}

// notify sends the manager what it is to know, one variable a line.
func (m *manager) notify(state string) {
	if m.address == "" {
		return
	}
	// An address that begins with @ is an abstract one, which the package knows.
	c, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: m.address, Net: "unixgram"})
	if err == nil {
		_, err = c.Write([]byte(state))
		err = errors.Join(err, c.Close())
	}
	if err != nil {
		m.log.Warn("cannot tell the service manager how the agent is", "error", err)
	}
}

// feedWatchdog tells the manager that the agent is well for as long as its own API
// answers: one that hangs is restarted, and its containers run on.
func (m *manager) feedWatchdog(ctx context.Context) {
	if m.limit == 0 || m.address == "" {
		return
	}
	api, err := client.New("unix://" + m.socket)
	if err != nil {
		m.log.Warn("cannot watch over the agent", "error", err)
		return
	}
	defer api.Close()
	// Twice before it is too late.
	for tick := time.NewTicker(m.limit / 3); ; {
		m.feed(ctx, api, m.limit/3)
		select {
		case <-tick.C:
		case <-ctx.Done():
			tick.Stop()
			return
		}
	}
}

func (m *manager) feed(ctx context.Context, api *client.Client, patience time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	_, err := api.Node.ListEnvironments(ctx, connect.NewRequest(&purserv1.ListEnvironmentsRequest{}))
	if err == nil {
		m.notify(daemon.SdNotifyWatchdog)
	} else if ctx.Err() == nil || context.Cause(ctx) == context.DeadlineExceeded {
		m.log.Warn("the agent's own API does not answer", "error", err)
	}
}
