package cli

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	purserv1 "github.com/purserd/purser/api/purser/v1"
)

func newNode(s *session) *cobra.Command {
	return &cobra.Command{
		Use:   "node",
		Short: "Show the agent, its containerd and runtimes, and what it runs",
		Long: `Show the agent, its containerd and runtimes (and why one cannot be used), how many
workloads are in which state, a drain, and what room there is: what workloads may
still ask for, what they ask for by now and, in brackets, what the node has, what
is reserved for all else, and how often the rest is promised. The address of the
metrics also serves /healthz and /readyz.`,
		Example: `  purser node
  purser node -o json`,
		Args:              takes(0, 0),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE:              func(cmd *cobra.Command, _ []string) error { return s.node(cmd.Context()) },
	}
}

func (s *session) node(ctx context.Context) error {
	api, err := s.dial()
	if err != nil {
		return err
	}
	response, err := api.Node.Get(ctx, connect.NewRequest(&purserv1.GetNodeRequest{}))
	if err != nil {
		return err
	}
	return s.print(response.Msg, func() { s.showNode(response.Msg, time.Now()) })
}

func (s *session) showNode(n *purserv1.GetNodeResponse, now time.Time) {
	t := newTable(s.out)
	t.field("Name", n.GetName())
	t.field("ID", n.GetId())
	t.field("Agent", fmt.Sprintf("%s (commit %s), up %s", n.GetVersion(), orDash(n.GetCommit()), age(n.GetStartedAt(), now)))
	t.field("containerd", containerdText(n.GetContainerd()))
	for _, r := range n.GetRuntimes() {
		t.field("Runtime", runtimeText(r))
	}
	t.field("Workloads", orDash(statesText(n.GetWorkloads())))
	if d := n.GetDrain(); d != nil {
		t.field("Drain", drainText(d, now))
	}
	for _, line := range roomTexts(n.GetCapacity()) {
		t.field("Room", line)
	}
	if n.GetMetricsAddress() != "" {
		t.field("Metrics", "http://"+n.GetMetricsAddress()+"/metrics")
	}
	t.flush()
}

func containerdText(c *purserv1.Containerd) string {
	where := fmt.Sprintf("%s, namespace %s", c.GetAddress(), c.GetNamespace())
	if !c.GetConnected() {
		return "not connected: " + orDash(c.GetError()) + " (" + where + ")"
	}
	text := c.GetVersion() + " (" + where + ")"
	if c.GetError() != "" {
		text += ": cannot be used: " + printable(c.GetError())
	}
	return text
}

func runtimeText(r *purserv1.Runtime) string {
	text := r.GetName()
	if r.GetDefault() {
		text += ", default"
	}
	if r.GetError() != "" {
		return text + ": cannot be used: " + printable(r.GetError())
	}
	return text + ": " + printable(r.GetVersion()) + " (" + r.GetPath() + ")"
}

func statesText(states map[string]uint32) string {
	var parts []string
	for _, state := range slices.Sorted(maps.Keys(states)) {
		if states[state] > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", states[state], state))
		}
	}
	return strings.Join(parts, ", ")
}
