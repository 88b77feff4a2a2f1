package agent

import (
	"context"
	"fmt"

	"github.com/moby/sys/signal"

	"github.com/purserd/purser/api/launchspec"
	purserv1 "github.com/purserd/purser/api/purser/v1"
	"github.com/purserd/purser/runtime"
)

// refresh replaces the files of secrets of an instance that runs by those of pins.
func (w *workload) refresh(ctx context.Context, instance string, pins []*purserv1.Pin) error {
	v, _ := w.supervisor.View()
	i := v.Status.Container(instance)
	if i == nil || i.Ended {
		return gone(fmt.Errorf("container %s: %w", instance, runtime.ErrNotFound))
	}
	spec := i.Revision.Spec
	image, err := w.agent.runtime.Image(ctx, spec.GetImage().GetRef())
	if err != nil {
		return w.agent.imageError(ctx, spec.GetImage().GetRef(), err)
	}
	resolution, err := w.resolution(ctx, spec, pins)
	if err != nil {
		return err
	}
	w.recordGiven(ctx, w.record(), resolution, instance)
	return gone(w.agent.runtime.Refresh(ctx, runtime.Instance{
		ID: instance, Spec: spec, Image: image, Files: resolution.Directories, Redactions: resolution.Redactions(),
	}))
}

// sendRotationSignal tells an instance of its new files.
func (w *workload) sendRotationSignal(ctx context.Context, instance string) error {
	name := launchspec.RotationSignal(w.record().GetSpec())
	sig, err := signal.ParseSignal(name)
	if err != nil {
		return fmt.Errorf("rotation.signal %s: %w", name, err)
	}
	return gone(w.agent.runtime.Kill(ctx, instance, sig))
}
