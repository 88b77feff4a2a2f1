package runtime

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/containerd/containerd/api/services/tasks/v1"
	"github.com/containerd/containerd/api/types/task"
	"github.com/containerd/containerd/v2/core/containers"
	"github.com/containerd/typeurl/v2"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	statev1 "github.com/purserd/purser/api/purser/state/v1"
)

// State is what a container does.
type State string

// The states of a container.
const (
	// StateNone: there is a record, but no task: it was not completed, or the
	// node was restarted, or it was reaped while nobody watched.
	StateNone    State = "none"
	StateCreated State = "created"
	StateRunning State = "running"
	StateStopped State = "stopped"
)

// Found is a container of this node's.
type Found struct {
	ID string
	// Created is when its record was made.
	Created time.Time
	// Record is what was given to Create; nil when it cannot be read.
	Record *statev1.Workload
	State  State
	// PID is the process ID on the node of its first process; 0 when none runs.
	PID uint32
	// Exit is how it ended, when State is StateStopped.
	Exit Exit
	// Addresses are its own on the node's container network.
	Addresses []string
}

// List returns all containers that were made under this node's name, sorted by ID.
func (r *Runtime) List(ctx context.Context) ([]Found, error) {
	ctx = r.ctx(ctx)
	records, err := r.client.ContainerService().List(ctx, fmt.Sprintf("labels.%q==%q", labelNode, r.cfg.Node))
	if err != nil {
		return nil, r.wrap(err, "listing containers")
	}
	// After the containers, so that one that is being created has its record
	// without a task, never the other way round.
	answer, err := r.client.TaskService().List(ctx, &tasks.ListTasksRequest{})
	if err != nil {
		return nil, r.wrap(err, "listing tasks")
	}
	running := make(map[string]*task.Process, len(answer.Tasks))
	for _, t := range answer.Tasks {
		running[t.ID] = t
	}
	all := make([]Found, 0, len(records))
	for _, c := range records {
		if _, is := c.Labels[labelAnchor]; is {
			continue // no instance, but what some share
		}
		f := found(running[c.ID])
		// One whose shim does not answer is on the list without a status, or not at all.
		if running[c.ID].GetStatus() == task.Status_UNKNOWN {
			if f, err = r.task(ctx, c.ID); errors.Is(err, errShimHangs) {
				f.State = StateRunning // it may, and is looked at again
			} else if err != nil {
				return nil, err
			}
		}
		f.ID, f.Created, f.Record, f.Addresses = c.ID, c.CreatedAt, r.record(c), r.Addresses(c.ID)
		all = append(all, f)
	}
	slices.SortFunc(all, func(a, b Found) int { return strings.Compare(a.ID, b.ID) })
	return all, nil
}

func (r *Runtime) record(c containers.Container) *statev1.Workload {
	stored, ok := c.Extensions[extensionRecord]
	if !ok {
		return nil
	}
	w := &statev1.Workload{}
	if err := typeurl.UnmarshalTo(stored, w); err != nil {
		r.log.Warn("a container's record cannot be read", "instance", c.ID, "error", err)
		return nil
	}
	return w
}

// MountSources are the paths on the node of what a container has mounted, by its OCI
// spec. It wraps ErrNotFound when there is no such container.
func (r *Runtime) MountSources(ctx context.Context, id string) ([]string, error) {
	c, err := r.client.ContainerService().Get(r.ctx(ctx), id)
	if err != nil {
		return nil, r.wrap(err, "looking for container %s", id)
	}
	var spec specs.Spec
	if err := typeurl.UnmarshalTo(c.Spec, &spec); err != nil {
		return nil, fmt.Errorf("reading the OCI spec of container %s: %w", id, err)
	}
	var sources []string
	for _, m := range spec.Mounts {
		sources = append(sources, m.Source)
	}
	return sources, nil
}

func found(t *task.Process) Found {
	switch t.GetStatus() {
	case task.Status_CREATED:
		return Found{State: StateCreated, PID: t.GetPid()}
	case task.Status_RUNNING, task.Status_PAUSED, task.Status_PAUSING:
		return Found{State: StateRunning, PID: t.GetPid()}
	case task.Status_STOPPED:
		return Found{State: StateStopped, Exit: Exit{Code: t.GetExitStatus(), At: exitTime(t.GetExitedAt())}}
	}
	return Found{State: StateNone}
}
