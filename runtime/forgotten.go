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
	mounted, err := r.mountedBundles()
	if err != nil {
		return nil, err
	}
	ours, tended := map[string]bool{id: true}, map[string]bool{}
	shims, err := r.runningShims(ours)
	if err != nil {
		return nil, err
	}
	left = append(left, r.leftCgroups(shims, ours, tended)...)
	left = append(left, leftShims(shims, tended)...)
	left = append(left, r.leftBundles(shims, mounted, ours)...)
	left = slices.DeleteFunc(left, func(t thing) bool { return t.owner != id })
	slices.SortStableFunc(left, func(a, b thing) int {
		return slices.Index(LeakKinds, a.kind) - slices.Index(LeakKinds, b.kind)
	})
	return left, nil
}
