package runtime

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"syscall"

	"github.com/containerd/containerd/api/services/tasks/v1"
	"github.com/moby/sys/signal"

	"github.com/purserd/purser/api/launchspec"
	purserv1 "github.com/purserd/purser/api/purser/v1"
	"github.com/purserd/purser/runtime/ocispec"
)

// Inspect says what one container does. It wraps ErrNotFound when there is none.
func (r *Runtime) Inspect(ctx context.Context, id string) (Found, error) {
	ctx = r.ctx(ctx)
	record, err := r.client.ContainerService().Get(ctx, id)
	if err != nil {
		return Found{}, r.wrap(err, "looking for container %s", id)
	}
	f, err := r.task(ctx, id)
	if err != nil {
		return Found{}, err
	}
	r.exits.hold(id, f.PID)
	if f.State == StateStopped {
		f.Exit.OOMKills = r.oomKills(id)
	}
	f.ID, f.Created, f.Record, f.Addresses = id, record.CreatedAt, r.record(record), r.Addresses(id)
	return f, nil
}

// task finds out what a container does that has a record. It wraps errShimHangs when
// nobody can tell.
func (r *Runtime) task(ctx context.Context, id string) (Found, error) {
	answer, err := r.client.TaskService().Get(ctx, &tasks.GetRequest{ContainerID: id})
	switch {
	case r.unheard(ctx, answer.GetProcess(), err):
		return r.cfg.foundUnheard(id)
	case isNotFound(err):
		return Found{State: StateNone}, nil
	case err != nil:
		return Found{}, r.wrap(err, "asking what container %s does", id)
	}
	return found(answer.Process), nil
}

// Check says what in a spec this node cannot do, before anything is made.
func (r *Runtime) Check(spec *purserv1.LaunchSpec) error {
	if _, _, err := r.runtimeOptions(launchspec.Runtime(spec), false); err != nil {
		return fmt.Errorf("runtime: %w", err)
	}
	if err := errors.Join(r.checkProbes(spec), r.checkNetwork(spec)); err != nil {
		return err
	}
	_, err := ocispec.CheckMounts(spec.GetMounts(), r.mountPolicy(launchspec.Environment(spec)))
	return err
}

// StopSignal is what asks a container of the spec to end: the spec's own
// signal, else the image's, else SIGTERM.
func (r *Runtime) StopSignal(ctx context.Context, spec *purserv1.LaunchSpec) syscall.Signal {
	name := launchspec.StopSignal(spec)
	if name == "" {
		if image, err := r.Image(ctx, spec.GetImage().GetRef()); err == nil {
			name = image.Config.StopSignal
		}
	}
	sig, err := signal.ParseSignal(cmp.Or(name, "SIGTERM"))
	if err != nil {
		return syscall.SIGTERM // the image's is not a signal of this kernel
	}
	return sig
}
