package dev

import (
	"context"
	"fmt"
	"net"
	"regexp"
	"strings"
	"time"

	"connectrpc.com/connect"

	purserv1 "github.com/purserd/purser/api/purser/v1"
	"github.com/purserd/purser/client"
)

const (
	// readyPause is the time between two looks at a starting node.
	readyPause = 15 * time.Millisecond
	// readyPatience is how long a part of the node may take to start.
	readyPatience = time.Minute
)

// await looks until a child is ready. Its first end is a failure to start.
func (n *node) await(ctx context.Context, c *child, log string, ready func(context.Context) (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, readyPatience)
	defer cancel()
	tick := time.NewTicker(readyPause)
	defer tick.Stop()
	var last error
	for {
		var ok bool
		if ok, last = ready(ctx); ok {
			return nil
		}
		select {
		case err := <-c.failed:
			return fmt.Errorf("%s does not start: %w; see %s", c.name, err, n.path("log", log))
		case <-ctx.Done():
			return fmt.Errorf("%s is not ready after %s: %w; see %s", c.name, readyPatience, orCause(ctx, last), n.path("log", log))
		case <-tick.C:
		}
	}
}

func orCause(ctx context.Context, err error) error {
	if err != nil {
		return err
	}
	return context.Cause(ctx)
}

func (n *node) containerdListens(context.Context) (bool, error) {
	conn, err := net.Dial("unix", n.containerdSocket())
	if err != nil {
		return false, err
	}
	conn.Close()
	return true, nil
}

// serves tells whether the agent answers and has its containerd, and where
// its metrics are.
func (n *node) serves(ctx context.Context) (ready bool, metrics string, err error) {
	api, err := client.New(n.host())
	if err != nil {
		return false, "", err
	}
	defer api.Close()
	response, err := api.Node.Get(ctx, connect.NewRequest(&purserv1.GetNodeRequest{}))
	if err != nil {
		return false, "", err
	}
	if c := response.Msg.GetContainerd(); !c.GetConnected() {
		return false, "", fmt.Errorf("the agent has no containerd: %s", c.GetError())
	}
	return true, response.Msg.GetMetricsAddress(), nil
}

// announce tells users and scripts where the node is.
func (n *node) announce(metrics string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	fmt.Fprintln(n.options.Out, "ready: export PURSER_HOST="+shellQuote(n.host()))
	if metrics != "" {
		fmt.Fprintf(n.options.Out, "metrics: http://%s/metrics\n", metrics)
	}
}

// announceAgain follows a restart of the agent, whose metrics have moved.
func (n *node) announceAgain(ctx context.Context) {
	tick := time.NewTicker(readyPause)
	defer tick.Stop()
	for {
		if ready, metrics, _ := n.serves(ctx); ready {
			n.say("the agent serves again")
			n.announce(metrics)
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

var plainText = regexp.MustCompile(`^[A-Za-z0-9/:._+,@-]+$`)

// shellQuote quotes where a shell needs it.
func shellQuote(text string) string {
	if plainText.MatchString(text) {
		return text
	}
	return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'"
}
