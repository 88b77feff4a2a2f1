package agent

import (
	"context"

	"google.golang.org/protobuf/types/known/timestamppb"

	purserv1 "github.com/purserd/purser/api/purser/v1"
)

// Node tells about the agent and what it runs on. The address of the metrics
// is not the agent's to know.
func (a *Agent) Node(ctx context.Context) *purserv1.GetNodeResponse {
	status := a.runtime.Status(ctx)
	node := &purserv1.GetNodeResponse{
		Name:      a.cfg.NodeName,
		Id:        a.nodeID,
		Version:   a.build.Version,
		Commit:    a.build.Commit,
		StartedAt: timestamppb.New(a.since),
		Containerd: &purserv1.Containerd{
			Address:   a.cfg.Containerd.Address,
			Namespace: a.cfg.Containerd.Namespace,
			Connected: status.Connected,
			Version:   status.Version,
		},
		Workloads: map[string]uint32{},
		Capacity:  a.capacityMessage(),
		Drain:     drainMessage(a.drain.get()),
	}
	if status.Err != nil {
		node.Containerd.Error = status.Err.Error()
	}
	for _, r := range a.runtime.Runtimes(ctx) {
		m := &purserv1.Runtime{Name: r.Name, Path: r.Path, Default: r.Default, Version: r.Version}
		if r.Err != nil {
			m.Error = r.Err.Error()
		}
		node.Runtimes = append(node.Runtimes, m)
	}
	for _, w := range a.list("", "") {
		v, _ := w.supervisor.View()
		node.Workloads[string(v.Status.State)]++
	}
	return node
}

// tryRuntimes logs which of the configured runtimes cannot be used.
func (a *Agent) tryRuntimes(ctx context.Context) {
	for _, r := range a.runtime.Runtimes(ctx) {
		if r.Err != nil && ctx.Err() == nil {
			a.log.Warn("a runtime cannot be used", "runtime", r.Name, "error", r.Err)
		}
	}
}
