package agent

import (
	"context"
	"errors"
	"slices"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	purserv1 "github.com/purserd/purser/api/purser/v1"
	"github.com/purserd/purser/runtime"
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

// strangerPause is the time between two tries to list containers.
const strangerPause = 2 * time.Second

// reportStrangers tells, once, of containers that carry this node's name and
// that no record explains. They are left alone: only recorded removals are
// carried out.
func (a *Agent) reportStrangers(ctx context.Context) {
	for {
		found, err := a.runtime.List(ctx)
		if err == nil {
			a.reportUnknown(found)
			return
		}
		if !errors.Is(err, runtime.ErrUnavailable) && ctx.Err() == nil {
			a.log.Warn("cannot list containers", "error", err)
		}
		select {
		case <-time.After(strangerPause):
		case <-ctx.Done():
			return
		}
	}
}

func (a *Agent) reportUnknown(found []runtime.Found) {
	for _, f := range a.unexplained(found) {
		a.emit(warning, "Unexplained", f.Record.GetEnvironment(), f.Record.GetId(), "container %s is this node's by its label, and no record explains it; it is left alone", f.ID)
	}
}

// unexplained are the containers among those found that no workload has.
func (a *Agent) unexplained(found []runtime.Found) []runtime.Found {
	known := map[string]bool{}
	for _, w := range a.all("", "") {
		v, _ := w.supervisor.View()
		if v.Status.Instance != nil {
			known[v.Status.Instance.ID] = true
		}
	}
	return slices.DeleteFunc(slices.Clone(found), func(f runtime.Found) bool { return known[f.ID] })
}
