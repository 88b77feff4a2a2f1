package runtime

import (
	"context"

	"github.com/containerd/containerd/api/services/tasks/v1"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// Resize gives a container's terminal a new size. It wraps ErrNotFound when the
// container does not run; one without a terminal is left as it is.
func (r *Runtime) Resize(ctx context.Context, id string, size Size) error {
	return r.resize(ctx, id, "", size)
}

func (r *Runtime) resize(ctx context.Context, id, exec string, size Size) error {
	if size == (Size{}) {
		return nil
	}
	_, err := r.client.TaskService().ResizePty(r.ctx(ctx), &tasks.ResizePtyRequest{
		ContainerID: id, ExecID: exec, Width: uint32(size.Columns), Height: uint32(size.Rows),
	})
	return r.wrap(notRunning(err), "resizing the terminal of %s", id)
}

// box is the size as OCI runtimes know it; nil when unknown.
func (s Size) box() *specs.Box {
	if s == (Size{}) {
		return nil
	}
	return &specs.Box{Height: uint(s.Rows), Width: uint(s.Columns)}
}
