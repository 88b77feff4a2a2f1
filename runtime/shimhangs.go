package runtime

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/containerd/containerd/api/services/tasks/v1"
	"github.com/containerd/containerd/api/types/task"
	"github.com/containerd/errdefs"
)

// A shim that hangs, by a fault of its own or as somebody has stopped it, leaves every
// call of containerd's for its container unanswered, and with it ours. What such a
// container runs is signalled by the descriptor that exits has of it, the kernel tells
// when it has ended, and then the shim is ended, so that containerd cleans up after it.

const (
	// signalTime is how long a shim may take to send a signal.
	signalTime = 3 * time.Second
	// answerTime bounds a question to a shim. containerd gives it two seconds, and says
	// then that it does not know.
	answerTime = 5 * time.Second
	// hangTime is how long a shim answers nothing until it is taken for one that never
	// will: a busy one of containerd 1.6 may take seconds.
	hangTime = 10 * time.Second
)

// errShimHangs is why a container's end was not waited for any longer.
var errShimHangs = errors.New("its shim, the process of containerd's that watches over it, does not answer")

// shimAnswers asks a container's shim what the container does.
func (r *Runtime) shimAnswers(ctx context.Context, id string) bool {
	asked, cancel := context.WithTimeout(r.ctx(ctx), answerTime)
	defer cancel()
	answer, err := r.client.TaskService().Get(asked, &tasks.GetRequest{ContainerID: id})
	return !r.unheard(ctx, answer.GetProcess(), err)
}

// unheard says of what containerd answered that it had no answer of the shim's in time:
// by its words, or as it knows no status. While containerd itself does not answer,
// nothing can be said of the shim.
func (r *Runtime) unheard(ctx context.Context, p *task.Process, err error) bool {
	if err == nil {
		return p.GetStatus() == task.Status_UNKNOWN
	}
	return errdefs.IsDeadlineExceeded(native(err)) && ctx.Err() == nil && r.Status(ctx).Connected
}

// shimHangs says whether a container's shim does not answer for hangTime.
func (r *Runtime) shimHangs(ctx context.Context, id string) bool {
	for deadline := time.Now().Add(hangTime); ctx.Err() == nil; pause(ctx, lookAgain) {
		if r.shimAnswers(ctx, id) {
			return false
		}
		if time.Now().After(deadline) {
			return ctx.Err() == nil
		}
	}
	return false
}

// pause ends early with ctx.
func pause(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

// killUnheard signals the first process of a container itself, whose shim has not
// answered when it should have: that is late.
func (r *Runtime) killUnheard(ctx context.Context, id string, sig syscall.Signal, late error) error {
	if ctx.Err() != nil || r.shimAnswers(ctx, id) {
		return late
	}
	record, err := r.client.ContainerService().Get(r.ctx(ctx), id)
	if err != nil {
		return errors.Join(late, err)
	}
	if sig != syscall.SIGKILL && r.sandboxOf(record) != nil {
		return late // its process on the node is the sandbox's, not the command
	}
	if err := r.exits.signal(id, sig); err != nil {
		return fmt.Errorf("%w: %w", errShimHangs, err)
	}
	r.cfg.ShimHangs(id, fmt.Sprintf("%v; its process was sent %s itself", errShimHangs, sig))
	return nil
}

// endUnheard sees to it that the end of a container is not waited for in vain: once it
// has ended and its shim does not tell, the shim is ended, and giveUp called. It
// returns a function that calls it off.
func (r *Runtime) endUnheard(ctx context.Context, id string, giveUp context.CancelCauseFunc) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		if !r.exits.await(ctx, id) {
			return
		}
		pause(ctx, signalTime) // as a rule it has told by then, and is not asked
		for ctx.Err() == nil && !r.shimHangs(ctx, id) {
			pause(ctx, answerTime)
		}
		if ctx.Err() != nil {
			return
		}
		if err := r.endShim(ctx, id); err != nil {
			r.cfg.ShimHangs(id, err.Error())
		}
		giveUp(errShimHangs)
	}()
	return func() {
		cancel()
		<-done
	}
}

// endedUnheard is the exit of a container of whose end its shim did not tell.
func (r *Runtime) endedUnheard(ctx context.Context, id string) (Exit, error) {
	exit := Exit{Code: unknownCode, At: time.Now(), Lost: true, Unheard: true, OOMKills: r.oomKills(id)}
	if code, ok := r.exitStatus(ctx, id); ok {
		exit.Code = code
	}
	return exit, fmt.Errorf("waiting for container %s: %w: %w", id, ErrLost, errShimHangs)
}

// endShim ends the shim of a container, which hangs. One that serves others as well is
// left alone, as they would end with it.
func (r *Runtime) endShim(ctx context.Context, id string) error {
	ctx = r.ctx(ctx)
	record, err := r.client.ContainerService().Get(ctx, id)
	if err != nil {
		return fmt.Errorf("%w, and cannot be looked for: %w", errShimHangs, err)
	}
	served := id
	if anchor := record.Labels[labelShim]; anchor != "" {
		unlock, err := r.anchors.groups.lock(ctx, groupName(anchor))
		if err != nil {
			return err
		}
		defer unlock()
		if used, err := r.used(ctx, anchor, id); used || err != nil {
			return errors.Join(fmt.Errorf("%w, and is left alone as other containers would end with it; stop them, or end it (%s) yourself", errShimHangs, anchor), err)
		}
		served = anchor
	}
	return r.killShim(id, served)
}

// deleteForgotten removes what there is of a container whose shim was ended, once
// containerd has noticed.
func (r *Runtime) deleteForgotten(ctx context.Context, id string) error {
	ctx, cancel := context.WithTimeout(ctx, killTimeout)
	defer cancel()
	for ; ctx.Err() == nil; pause(ctx, lookAgain) {
		if _, err := r.client.TaskService().Get(ctx, &tasks.GetRequest{ContainerID: id}); isNotFound(err) {
			return r.endForgotten(ctx, id)
		}
	}
	return fmt.Errorf("waiting for containerd to notice that a shim was ended: %w", ctx.Err())
}

// killShim kills the shim that was started for a container or an anchor of ours.
func (r *Runtime) killShim(id, served string) error {
	all, err := r.runningShims(map[string]bool{served: true})
	if err != nil {
		return err
	}
	for _, s := range all {
		if s.ours && s.id == served {
			nodeProcesses{}.signal(s.pid, s.born, syscall.SIGKILL)
			r.cfg.ShimHangs(id, fmt.Sprintf("%v; it (process %d) was ended", errShimHangs, s.pid))
		}
	}
	return nil
}

// foundUnheard is what the kernel knows of a container whose shim does not answer. It
// wraps errShimHangs where that is not enough: a container without a cgroup, or one whose
// command has not been executed yet.
func (c Config) foundUnheard(id string) (Found, error) {
	cgroup, there := c.containerCgroups()[id]
	members := cgroup.members()
	first := slices.IndexFunc(members, isFirst)
	switch {
	case there && first < 0:
		return Found{State: StateNone}, nil
	case there && !isRuntime(members[first]):
		return Found{State: StateRunning, PID: uint32(members[first])}, nil
	}
	return Found{}, fmt.Errorf("asking what container %s does: %w", id, errShimHangs)
}

// isRuntime says whether a process is still an OCI runtime's, about to execute the
// command of a container.
func isRuntime(pid int) bool {
	name, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
	return err != nil || strings.HasPrefix(string(name), "runc:[") || strings.HasPrefix(string(name), "crun")
}

// isFirst says whether a process is the first of a PID namespace that is a child of ours.
func isFirst(pid int) bool {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(status)) {
		if ids, is := strings.CutPrefix(line, "NSpid:"); is {
			return slices.Equal(strings.Fields(ids), []string{strconv.Itoa(pid), "1"})
		}
	}
	return false
}
