package runtime

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"github.com/containerd/containerd/api/services/tasks/v1"
	"github.com/containerd/containerd/api/types/task"
	"github.com/containerd/containerd/v2/core/containers"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/purserd/purser/failpoint"
)

// Exit tells how a container ended.
type Exit struct {
	// Code is the exit status; 128 + N when ended by signal N; 255 when unknown.
	Code uint32
	// At is when it ended; zero when unknown.
	At time.Time
	// OOMKills counts the processes of it that the kernel has killed for want of memory.
	OOMKills uint64
	// Lost: its shim died, and containerd does not know how it ended.
	Lost bool
	// Unheard: its shim had not died, but did not answer. It is Lost as well.
	Unheard bool
}

// unknownCode is the exit status of what ended unseen.
const unknownCode = 255

// Start executes the command of a created container and returns its process
// ID on the node. A [StartError] means that the command can't be executed.
func (r *Runtime) Start(ctx context.Context, id string) (uint32, error) {
	done, err := r.turns.take(ctx, r.anchors.of(id))
	if err != nil {
		return 0, r.wrap(err, "starting container %s", id)
	}
	defer done()
	answer, err := r.client.TaskService().Start(r.ctx(ctx), &tasks.StartRequest{ContainerID: id})
	failpoint.Here("run.started")
	if err == nil {
		r.exits.hold(id, answer.Pid)
		return answer.Pid, nil
	}
	if s := startError(err, nil); s != nil {
		return 0, s
	}
	return 0, r.wrap(err, "starting container %s", id)
}

// Wait returns when the container has ended and what it wrote has been kept, at
// once if that is so already. Where containerd does not know how it ended, the kernel
// is asked. It wraps ErrNotFound when there is no task and nobody knows, and ErrLost when
// the container's shim died, or does not answer although the container has ended, with
// code 255 where nobody knows. After any other error the
// container may well run: containerd is away, or was restarted. Wait again.
func (r *Runtime) Wait(ctx context.Context, id string) (Exit, error) {
	told, giveUp := context.WithCancelCause(r.ctx(ctx))
	defer giveUp(nil)
	stop := r.endUnheard(ctx, id, giveUp)
	answer, err := r.client.TaskService().Wait(told, &tasks.WaitRequest{ContainerID: id})
	stop()
	if err == nil {
		// Whoever hears of the end may look for the output next.
		r.drainStreams(ctx, id)
		return Exit{Code: answer.ExitStatus, At: exitTime(answer.ExitedAt), OOMKills: r.oomKills(id)}, nil
	}
	if context.Cause(told) == errShimHangs {
		return r.endedUnheard(ctx, id)
	}
	err = r.wrap(err, "waiting for container %s", id)
	if ctx.Err() != nil || errors.Is(err, ErrUnavailable) {
		return Exit{}, err
	}
	if errors.Is(err, ErrNotFound) {
		return r.endedUnseen(ctx, id, err)
	}
	return r.lostOrNot(ctx, id, err)
}

// endedUnseen finds out how a container ended that containerd does not know any more:
// one that ends while containerd is down is taken for a leaked shim when it comes back.
func (r *Runtime) endedUnseen(ctx context.Context, id string, cause error) (Exit, error) {
	code, ok := r.exitStatus(ctx, id)
	if !ok {
		return Exit{}, cause
	}
	r.drainStreams(ctx, id)
	return Exit{Code: code, At: time.Now(), OOMKills: r.oomKills(id)}, nil
}

// exitStatus is the exit status of a container by the kernel's knowledge. A sandbox's
// process has another than the command in it.
func (r *Runtime) exitStatus(ctx context.Context, id string) (uint32, bool) {
	record, err := r.client.ContainerService().Get(r.ctx(ctx), id)
	if err != nil || r.sandboxOf(record) != nil {
		return 0, false
	}
	return r.exits.status(ctx, id)
}

// lostOrNot finds out whether a container is there of which Wait lost sight.
func (r *Runtime) lostOrNot(ctx context.Context, id string, cause error) (Exit, error) {
	ctx, cancel := context.WithTimeout(r.ctx(ctx), askTimeout)
	defer cancel()
	_, err := r.client.TaskService().Get(ctx, &tasks.GetRequest{ContainerID: id})
	if isNotFound(err) {
		exit := Exit{Code: unknownCode, Lost: true}
		if code, ok := r.exitStatus(ctx, id); ok {
			exit.Code, exit.At = code, time.Now()
		}
		return exit, fmt.Errorf("%w: %w", ErrLost, cause)
	}
	return Exit{}, errors.Join(cause, r.wrap(err, "looking for container %s", id))
}

// askTimeout bounds a question that nothing depends on but the next one.
const askTimeout = 10 * time.Second

// exitTime turns the zero of any encoding into Go's.
func exitTime(t *timestamppb.Timestamp) time.Time {
	if at := t.AsTime(); t != nil && at.Unix() > 0 {
		return at
	}
	return time.Time{}
}

// Kill sends a signal to the container's first process. It wraps ErrNotFound
// when that does not run.
func (r *Runtime) Kill(ctx context.Context, id string, sig syscall.Signal) error {
	return r.kill(ctx, id, "", sig)
}

func (r *Runtime) kill(ctx context.Context, id, exec string, sig syscall.Signal) error {
	late := false
	err := r.callShim(r.ctx(ctx), id, func() error {
		asked, cancel := context.WithTimeout(r.ctx(ctx), signalTime)
		defer cancel()
		_, err := r.client.TaskService().Kill(asked, &tasks.KillRequest{
			ContainerID: id, ExecID: exec, Signal: uint32(sig),
		})
		late = err != nil && asked.Err() != nil
		return err
	})
	switch err = notRunning(err); {
	case exec != "":
	case absent(err):
		err = r.killUnknown(ctx, id, sig, err)
	case err != nil && late:
		err = r.killUnheard(ctx, id, sig, err)
	}
	return r.wrap(err, "sending %s to %s", sig, id)
}

// killUnknown signals the first process of a container that runs although the OCI
// runtime, which says gone, does not know it: its state was lost with the run directory.
// The process ID is its own as long as containerd says that it runs.
func (r *Runtime) killUnknown(ctx context.Context, id string, sig syscall.Signal, gone error) error {
	pid, err := r.firstProcess(r.ctx(ctx), id)
	if err != nil {
		return gone
	}
	process, err := os.FindProcess(pid) // holds it, so that it is not another's later
	if err != nil {
		return gone
	}
	defer process.Release()
	if r.Runs(ctx, id) != nil {
		return gone
	}
	r.cfg.Logger.Warn("the OCI runtime has lost a container; its process is signalled itself", "instance", id, "pid", pid, "signal", sig)
	if err := process.Signal(sig); err != nil {
		return gone
	}
	return nil
}

// absent says that there is no such process, or no such container.
func absent(err error) bool { return isNotFound(err) || errors.Is(err, ErrNotFound) }

// Delete removes a container, whatever its state, and everything that was made
// for it, but not its log: its processes, its task, its snapshot, its files. It
// may be called again until it succeeds, and for one that is gone or was never
// completed.
func (r *Runtime) Delete(ctx context.Context, id string) error {
	ctx = r.ctx(ctx)
	if err := r.deleteTask(ctx, id); err != nil {
		return r.wrap(err, "ending container %s", id)
	}
	r.exits.release(id)
	if err := failpoint.Error("delete.task"); err != nil {
		return err
	}
	if err := r.endStreams(ctx, id); err != nil {
		return r.wrap(err, "ending the log of container %s", id)
	}
	if err := failpoint.Error("delete.streams"); err != nil {
		return err
	}
	record, err := r.client.ContainerService().Get(ctx, id)
	if err != nil && !isNotFound(err) {
		return r.wrap(err, "looking for container %s", id)
	}
	record.ID = id
	if err := r.deleteFiles(ctx, record); err != nil {
		return err
	}
	// Last: as long as it is there, what is left can be found.
	if err := r.removeRecord(ctx, record); err != nil {
		return r.wrap(err, "removing container %s", id)
	}
	return failpoint.Error("delete.record")
}

// deleteFiles removes a container's root file system and its files. Of the record all but
// the ID is missing when containerd has none.
func (r *Runtime) deleteFiles(ctx context.Context, record containers.Container) error {
	id := record.ID
	if err := r.disconnect(ctx, id); err != nil {
		return err
	}
	if err := r.removeOwnSnapshot(ctx, record); err != nil {
		return r.wrap(err, "removing the snapshot of container %s", id)
	}
	if err := r.cfg.removeRoot(id); err != nil {
		return err
	}
	if err := failpoint.Error("delete.root"); err != nil {
		return err
	}
	if err := errors.Join(r.cfg.removeSecretFiles(id), r.cfg.removeFiles(id), r.handover.Release(id)); err != nil {
		return err
	}
	return failpoint.Error("delete.files")
}

// removeOwnSnapshot removes the snapshot that Create has made for a container. It is made
// beside the record, and may be there without it.
func (r *Runtime) removeOwnSnapshot(ctx context.Context, record containers.Container) error {
	switch record.SnapshotKey {
	case record.ID:
		return r.removeSnapshot(ctx, record.Snapshotter, record.ID)
	case "":
		snapshotter, err := r.snapshotter(ctx)
		if err != nil {
			return err
		}
		return r.removeSnapshot(ctx, snapshotter, record.ID)
	}
	return nil // it shares a view
}

// deleteTask kills what runs and removes the task.
func (r *Runtime) deleteTask(ctx context.Context, id string) error {
	answer, err := r.client.TaskService().Get(ctx, &tasks.GetRequest{ContainerID: id})
	if isNotFound(err) {
		return r.endForgotten(ctx, id)
	}
	if r.unheard(ctx, answer.GetProcess(), err) && r.shimHangs(ctx, id) {
		if err := r.endShim(ctx, id); err != nil {
			return err
		}
		return r.deleteForgotten(ctx, id)
	}
	if err != nil {
		return err
	}
	// With the first process of its PID namespace all others have ended.
	if answer.GetProcess().GetStatus() != task.Status_STOPPED {
		if err := r.killAll(ctx, id); err != nil {
			return err
		}
	}
	// The shim gives its streams two seconds after this and cuts them then, so
	// the log is completed before.
	r.drainStreams(ctx, id)
	// Nothing of it runs any more. Plugins take about as long as the shim, so both at once.
	disconnected := make(chan error, 1)
	go func() { disconnected <- r.disconnect(ctx, id) }()
	err = r.callShim(ctx, id, func() error {
		_, err := r.client.TaskService().Delete(ctx, &tasks.DeleteTaskRequest{ContainerID: id})
		return err
	})
	if isNotFound(err) {
		err = r.endForgotten(ctx, id)
	}
	return errors.Join(err, <-disconnected)
}

// killAll kills every process of a container and waits for the first one's end.
func (r *Runtime) killAll(ctx context.Context, id string) error {
	err := r.callShim(ctx, id, func() error {
		_, err := r.client.TaskService().Kill(ctx, &tasks.KillRequest{
			ContainerID: id, Signal: uint32(syscall.SIGKILL), All: true,
		})
		return err
	})
	if err = notRunning(err); absent(err) {
		_ = r.killUnknown(ctx, id, syscall.SIGKILL, err)
	} else if err != nil {
		return err
	}
	_, err = r.Wait(ctx, id)
	if errors.Is(err, ErrNotFound) || errors.Is(err, ErrLost) {
		return nil
	}
	return err
}
