package runtime

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/containerd/containerd/api/services/tasks/v1"
	"github.com/containerd/containerd/api/types"
	"github.com/containerd/containerd/v2/core/containers"
	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/typeurl/v2"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sync/errgroup"

	"github.com/purserd/purser/api/launchspec"
	statev1 "github.com/purserd/purser/api/purser/state/v1"
	purserv1 "github.com/purserd/purser/api/purser/v1"
	"github.com/purserd/purser/failpoint"
	"github.com/purserd/purser/inject"
	"github.com/purserd/purser/runtime/cni"
	"github.com/purserd/purser/runtime/devices"
	"github.com/purserd/purser/runtime/ocispec"
)

// Instance is a container to be made.
type Instance struct {
	// ID of the container: letters, digits, dots, dashes and underscores, 76 at most.
	ID   string
	Spec *purserv1.LaunchSpec
	// Image as [Runtime.Image] returned it.
	Image *Image
	// Env is the whole environment, with the variables of Devices.
	Env Environ
	// Devices are those that Spec names, as [Runtime.Devices] returned them; nil for none.
	Devices *devices.Set
	// Files are the directories of secret files, the outer before those in them.
	Files []inject.Directory
	// Redactions are the values that must not be seen in what it writes.
	Redactions inject.Redactions
	// Size of the terminal, if the spec has one; zero when unknown.
	Size Size
	// Record is kept on the container, for a node that lost its database. It
	// holds no values of secrets.
	Record *statev1.Workload

	// attached is what it has claimed of the container network; nil in other modes.
	attached *cni.Attachment
}

// holder says whether the container holds secrets.
func (in Instance) holder() bool {
	return in.Env != nil && in.Env.HasSecret() || len(in.Files) > 0
}

// Labels and the extension of a container of purser's.
const (
	labelNode        = "purser.node"
	labelEnvironment = "purser.environment"
	labelWorkload    = "purser.workload"
	extensionRecord  = "purser.workload"
	// labelRoot is containerd's own, for what its garbage collection is to keep.
	labelRoot = "containerd.io/gc.root"
)

// stepTimeout bounds what is completed, or undone, although its caller has gone.
const stepTimeout = time.Minute

// Create makes a container, up to the point where its command waits to be
// executed. What it writes is read and kept from then on. On an error nothing
// of it is left; a [StartError] means that the command can't be executed. When
// ctx ends it returns after the step that is under way, a fraction of a second
// as a rule.
func (r *Runtime) Create(ctx context.Context, in Instance) (err error) {
	ctx = r.ctx(ctx)
	shim, err := r.shims.assign(ctx, in)
	if err != nil {
		return r.wrap(err, "preparing the container")
	}
	defer func() {
		settle, cancel := context.WithTimeout(context.WithoutCancel(ctx), stepTimeout)
		defer cancel()
		if settled := shim.settle(settle, err == nil); settled != nil {
			err = errors.Join(err, r.wrap(settled, "creating the container"))
		}
	}()
	return r.createOn(ctx, in, shim)
}

// createOn makes a container that a shim has been chosen for.
func (r *Runtime) createOn(ctx context.Context, in Instance, shim *assignment) (err error) {
	if in.attached, err = r.connect(ctx, in); err != nil {
		return r.wrap(err, "connecting the container to the network")
	}
	record, forget, err := r.containerRecord(ctx, in, shim)
	if err != nil {
		return r.disconnected(ctx, in.ID, r.wrap(err, "preparing the container"))
	}
	defer forget()
	// From here on all of that ID is ours, to make and to undo.
	if err := r.cfg.claim(in.ID); err != nil {
		return r.disconnected(ctx, in.ID, r.wrap(err, "creating the container"))
	}
	failpoint.Here("create.claimed")
	if err = r.makeAll(ctx, in, record); err == nil {
		return nil
	}
	// Whatever ended ctx must not leave half a container behind.
	undo, cancel := context.WithTimeout(context.WithoutCancel(ctx), stepTimeout)
	defer cancel()
	failpoint.Here("create.undo")
	undone := r.Delete(undo, in.ID)
	s := startError(err, ocispec.Args(in.Spec, in.Image.Config))
	switch {
	case s == nil || undone != nil:
		return errors.Join(r.wrap(err, "creating the container"), undone)
	case in.Devices != nil && s.ofHook():
		return fmt.Errorf("a hook of its devices has failed: %s", s.Message)
	}
	return s
}

// containerRecord is what containerd keeps of the container. forget is to be
// called when the launch is over, unless there is an error.
func (r *Runtime) containerRecord(ctx context.Context, in Instance, shim *assignment) (record containers.Container, forget func(), err error) {
	installed, options, err := r.runtimeOptions(launchspec.Runtime(in.Spec), in.holder())
	if err != nil {
		return record, nil, err
	}
	if in.holder() {
		if err := r.keepUnswapped(); err != nil {
			return record, nil, err
		}
	}
	if err := r.CheckFiles(ctx, in.Image, in.Spec, in.Files); err != nil {
		return record, nil, err
	}
	spec, err := r.spec(in)
	if err != nil {
		return record, nil, err
	}
	forget = r.inject(spec, in, installed)
	shim.annotate(spec)
	if record, err = r.encodeRecord(ctx, in, spec, options); err != nil {
		forget()
		return record, forget, err
	}
	shim.label(&record)
	r.anchors.note(in.ID, shim.anchor)
	return record, forget, nil
}

func (r *Runtime) encodeRecord(ctx context.Context, in Instance, spec *specs.Spec, options typeurl.Any) (containers.Container, error) {
	var none containers.Container
	specAny, err := typeurl.MarshalAny(spec)
	if err != nil {
		return none, fmt.Errorf("encoding the OCI spec: %w", err)
	}
	recordAny, err := typeurl.MarshalAny(in.Record)
	if err != nil {
		return none, fmt.Errorf("encoding the record: %w", err)
	}
	snapshotter, err := r.snapshotter(ctx)
	if err != nil {
		return none, err
	}
	return containers.Container{
		ID:          in.ID,
		Image:       in.Image.Ref,
		Runtime:     containers.RuntimeInfo{Name: shimName, Options: options},
		Spec:        specAny,
		Snapshotter: snapshotter,
		SnapshotKey: snapshotKey(in.ID, in.Image),
		Extensions:  map[string]typeurl.Any{extensionRecord: recordAny},
		Labels: map[string]string{
			labelNode:        r.cfg.Node,
			labelEnvironment: launchspec.Environment(in.Spec),
			labelWorkload:    launchspec.ID(in.Spec),
		},
	}, nil
}

// spec builds the OCI spec without the environment.
func (r *Runtime) spec(in Instance) (*specs.Spec, error) {
	host, err := r.host()
	if err != nil {
		return nil, err
	}
	mounts, err := ocispec.CheckMounts(in.Spec.GetMounts(), r.mountPolicy(launchspec.Environment(in.Spec)))
	if err != nil {
		return nil, err
	}
	spec, err := ocispec.Build(ocispec.Params{
		ID:           in.ID,
		Spec:         in.Spec,
		Image:        in.Image.Config,
		Accounts:     in.Image.accounts,
		Mounts:       mounts,
		CgroupParent: r.cfg.CgroupParent,
		Files:        r.cfg.files(in.ID),
		NetNS:        in.netNS(),
		Devices:      in.Devices.Edits(),
		SecretMounts: r.cfg.secretMounts(in),
		Host:         host,
		ConsoleSize:  in.Size.box(),
		NoSwap:       in.holder(),
	})
	if err != nil {
		return nil, &SpecError{Err: err}
	}
	return spec, nil
}

// makeAll makes everything that there is of a container: side by side what does
// not need each other, then the task.
func (r *Runtime) makeAll(ctx context.Context, in Instance, record containers.Container) error {
	var rootfs []mount.Mount
	var s *streams
	parts := new(errgroup.Group)
	parts.Go(func() error {
		return step(ctx, func(ctx context.Context) error {
			if _, err := r.client.ContainerService().Create(ctx, record); err != nil {
				return fmt.Errorf("recording it: %w", err)
			}
			return failpoint.Error("create.recorded")
		})
	})
	parts.Go(func() error {
		return step(ctx, func(ctx context.Context) (err error) {
			if rootfs, err = r.prepareRoot(ctx, record, in.Image); err != nil {
				return fmt.Errorf("preparing its root file system: %w", err)
			}
			return failpoint.Error("create.rooted")
		})
	})
	parts.Go(func() error { return r.limitInstance(in) })
	parts.Go(func() (err error) {
		if err := errors.Join(r.cfg.writeFiles(in), r.writeSecretFiles(in), failpoint.Error("create.files")); err != nil {
			return err
		}
		if s, err = r.openStreams(ctx, in); err != nil {
			return err
		}
		return failpoint.Error("create.streams")
	})
	if err := parts.Wait(); err != nil {
		return err
	}
	return step(ctx, func(ctx context.Context) error {
		if err := r.makeTask(ctx, in.ID, rootfs, s); err != nil || !s.tty() {
			return err
		}
		// Not every OCI runtime heeds the size in the spec.
		return r.Resize(ctx, in.ID, in.Size)
	})
}

// step does one thing whole, even when ctx ends meanwhile. Of a call that was
// given up, containerd may complete what is then never undone: a record, a
// snapshot, in 2.4 a shim that it no longer knows.
func step(ctx context.Context, do func(context.Context) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	whole, cancel := context.WithTimeout(context.WithoutCancel(ctx), stepTimeout)
	defer cancel()
	if err := do(whole); err != nil {
		return err
	}
	return ctx.Err()
}

// makeTask starts the shim, which makes the container up to its command.
func (r *Runtime) makeTask(ctx context.Context, id string, rootfs []mount.Mount, s *streams) error {
	done, err := r.turns.take(ctx, r.anchors.of(id))
	if err != nil {
		return err
	}
	defer done()
	_, err = r.client.TaskService().Create(ctx, &tasks.CreateTaskRequest{
		ContainerID: id,
		Rootfs:      protoMounts(rootfs),
		Stdin:       s.paths.stdin,
		Stdout:      s.paths.stdout,
		Stderr:      s.paths.stderr,
		Terminal:    s.tty(),
	})
	if err != nil {
		return err
	}
	return failpoint.Error("create.task")
}

func protoMounts(all []mount.Mount) []*types.Mount {
	out := make([]*types.Mount, 0, len(all))
	for _, m := range all {
		out = append(out, &types.Mount{Type: m.Type, Source: m.Source, Target: m.Target, Options: m.Options})
	}
	return out
}
