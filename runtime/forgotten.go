package runtime

import (
	"context"
	"fmt"
	"slices"
)

// endForgotten ends what there may be of a container whose task containerd does not
// know: it calls off what it is doing, making a task or deleting one, when the agent that
// asked for it dies, and may know nothing of the shim then. What a shim leaves that died
// it has removed only some time later, too. Afterwards nothing of the container runs.
func (r *Runtime) endForgotten(ctx context.Context, id string) error {
	left, err := r.forgotten(ctx, id)
	if err != nil {
		return fmt.Errorf("looking for what containerd has forgotten: %w", err)
	}
	for _, t := range left {
		if err := t.remove(ctx); err != nil {
			return fmt.Errorf("removing %s %s, which containerd has forgotten: %w", t.kind, t.name, err)
		}
	}
	return nil
}

// forgotten lists what there is of a container that is ours, in the order in which it is
// to be removed.
func (r *Runtime) forgotten(ctx context.Context, id string) ([]thing, error) {
	left, err := r.leftStates(ctx)
	if err != nil {
		return nil, err
	}
	running, err := r.leftRunning(map[string]bool{id: true}, map[string]bool{})
	if err != nil {
		return nil, err
	}
	left = slices.DeleteFunc(append(left, running...), func(t thing) bool { return t.owner != id })
	order(left)
	return left, nil
}
