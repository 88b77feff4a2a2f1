package runtime

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/containerd/containerd/api/services/tasks/v1"
	"github.com/containerd/containerd/api/types/task"

	"github.com/purserd/purser/api/launchspec"
	purserv1 "github.com/purserd/purser/api/purser/v1"
	"github.com/purserd/purser/runtime/netprobe"
)

// ErrNoNetwork says why nothing in a gVisor sandbox can be connected to. Its sockets are
// in a network stack of its own, the loopback address included; the namespace that its
// process is in has none of them.
var ErrNoNetwork = errors.New("the container's network is gVisor's own, which cannot be reached from outside: probe it with exec")

// Network opens the network that a running container listens in; it is to be closed.
// It wraps ErrNotFound when the container does not run, and is ErrNoNetwork when nothing
// in it can be connected to.
func (r *Runtime) Network(ctx context.Context, id string) (*netprobe.Network, error) {
	ctx = r.ctx(ctx)
	record, err := r.client.ContainerService().Get(ctx, id)
	if err != nil {
		return nil, r.wrap(err, "looking for container %s", id)
	}
	if r.sandboxOf(record) != nil {
		return nil, ErrNoNetwork
	}
	pid, err := r.firstProcess(ctx, id)
	if err != nil {
		return nil, err
	}
	network, opened := netprobe.Open(pid)
	// Its ID may have been given to another process by now, but not while it runs.
	again, err := r.firstProcess(ctx, id)
	if err == nil && again != pid {
		err = fmt.Errorf("container %s has just ended: %w", id, ErrNotFound)
	}
	if err != nil && opened == nil {
		network.Close()
	}
	if err = cmp.Or(err, opened); err != nil {
		return nil, err
	}
	return network, nil
}

// Runs says whether a container runs, by an error that wraps ErrNotFound when it does
// not. One whose end containerd has not noticed yet does not.
func (r *Runtime) Runs(ctx context.Context, id string) error {
	pid, err := r.firstProcess(r.ctx(ctx), id)
	if err != nil {
		return err
	}
	if p, there := processOf(pid); there && !p.exiting {
		return nil
	}
	return fmt.Errorf("container %s has just ended: %w", id, ErrNotFound)
}

// firstProcess is the process ID on the node of what a container runs.
func (r *Runtime) firstProcess(ctx context.Context, id string) (int, error) {
	answer, err := r.client.TaskService().Get(ctx, &tasks.GetRequest{ContainerID: id})
	if r.unheard(ctx, answer.GetProcess(), err) {
		err = errShimHangs
	}
	if err != nil {
		return 0, r.wrap(err, "asking what container %s does", id)
	}
	switch answer.GetProcess().GetStatus() {
	case task.Status_RUNNING, task.Status_PAUSED, task.Status_PAUSING:
		return int(answer.GetProcess().GetPid()), nil
	}
	return 0, fmt.Errorf("container %s does not run: %w", id, ErrNotFound)
}

// checkProbes says which probes of a spec cannot be made of containers of its runtime.
func (r *Runtime) checkProbes(spec *purserv1.LaunchSpec) error {
	var over []string
	for name, p := range launchspec.Probes(spec) {
		if launchspec.OverNetwork(p) {
			over = append(over, "probes."+name)
		}
	}
	if len(over) == 0 {
		return nil
	}
	name, _, path, err := r.chosen(launchspec.Runtime(spec))
	if err == nil && r.isSandbox(path) {
		return fmt.Errorf("%s, runtime %s: %w", strings.Join(over, ", "), name, ErrNoNetwork)
	}
	return nil // that there is no such runtime is said already
}
