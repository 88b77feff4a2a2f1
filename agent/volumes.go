package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/purserd/purser/agent/supervise"
	"github.com/purserd/purser/api/launchspec"
	purserv1 "github.com/purserd/purser/api/purser/v1"
	"github.com/purserd/purser/runtime"
	"github.com/purserd/purser/runtime/volumes"
)

const (
	// measuring bounds the time that a list takes to measure what it lists.
	measuring = 3 * time.Second
	// leaving bounds the wait for containers that are about to be gone.
	leaving = 10 * time.Second
	// answering bounds the wait for a containerd that hangs.
	answering = 10 * time.Second
	// measuredAtOnce keeps a list from taking the disk for itself.
	measuredAtOnce = 4
)

// CreateVolume makes a volume. created is false for one that is there already and
// is as the request wants it.
func (a *Agent) CreateVolume(request *purserv1.CreateVolumeRequest) (v *purserv1.Volume, created bool, err error) {
	environment := orDev(request.GetEnvironment())
	owner := volumes.Owner{UID: request.GetUid(), GID: request.GetGid(), Mode: volumes.DefaultMode}
	if request.Mode != nil {
		if owner.Mode, err = volumeMode(request.GetMode()); err != nil {
			return nil, false, err
		}
	}
	a.writing.Lock()
	defer a.writing.Unlock()
	info, created, err := a.volumes.Create(environment, request.GetName(), owner)
	if err != nil {
		return nil, false, err
	}
	if created {
		a.emit(normal, "VolumeCreated", environment, info.Name, "owned by %d:%d, mode %04o", info.UID, info.GID, info.Mode)
	} else if err := asWanted(info, request); err != nil {
		return nil, false, err
	}
	return volumeMessage(info), created, nil
}

// volumeMode reads the permissions of a volume's directory: 1000 keeps its users from
// each other's files, and 2000 has files belong to its group.
func volumeMode(text string) (uint32, error) {
	mode, err := strconv.ParseUint(text, 8, 12)
	if err != nil {
		return 0, refuse(Invalid, "mode %s: must be permissions in octal, such as 0755 or 1777", text)
	}
	if mode&unix.S_ISUID != 0 {
		return 0, refuse(Invalid, "mode %s: set-user-ID (4000) means nothing on a directory: leave it out, as in %04o", text, mode&^unix.S_ISUID)
	}
	return uint32(mode), nil
}

// asWanted holds a volume that is there against what a request says of it.
func asWanted(info volumes.Info, request *purserv1.CreateVolumeRequest) error {
	mode, _ := strconv.ParseUint(request.GetMode(), 8, 12)
	if (request.Uid == nil || request.GetUid() == info.UID) && (request.Gid == nil || request.GetGid() == info.GID) &&
		(request.Mode == nil || uint32(mode) == info.Mode) {
		return nil
	}
	return refuse(Precondition, "volume %s is in environment %s already, owned by %d:%d with mode %04o: take it as it is, or remove it first", info.Name, info.Environment, info.UID, info.GID, info.Mode)
}

func volumeMessage(info volumes.Info) *purserv1.Volume {
	m := &purserv1.Volume{
		Environment: info.Environment, Name: info.Name,
		Uid: info.UID, Gid: info.GID, Mode: fmt.Sprintf("%04o", info.Mode),
	}
	if !info.Created.IsZero() {
		m.CreatedAt = timestamppb.New(info.Created)
	}
	return m
}

// Volumes lists and measures the volumes of an environment; of all when it is empty.
func (a *Agent) Volumes(ctx context.Context, environment string) ([]*purserv1.Volume, error) {
	found, err := a.volumes.List(environment)
	if err != nil {
		return nil, err
	}
	ctx, done := context.WithTimeout(ctx, measuring)
	defer done()
	all := make([]*purserv1.Volume, len(found))
	var group errgroup.Group
	group.SetLimit(measuredAtOnce)
	for i, info := range found {
		m := volumeMessage(info)
		m.Users = a.volumeUsers(info.Environment, info.Name)
		all[i] = m
		group.Go(func() error {
			size, err := a.volumes.Measure(ctx, info.Environment, info.Name)
			m.Size, m.SizePartial = size, err != nil
			return nil
		})
	}
	return all, group.Wait()
}

// RemoveVolume destroys a volume that nothing uses.
func (a *Agent) RemoveVolume(ctx context.Context, environment, name string) error {
	environment = orDev(environment)
	a.awaitVolume(ctx, environment, name)
	strangers, err := a.strangersOn(ctx, environment, name)
	if err != nil {
		return err
	}
	destroy, err := a.takeVolumeAway(environment, name, strangers)
	if err != nil {
		return err
	}
	a.emit(normal, "VolumeRemoved", environment, name, "removed, with all that was in it")
	return destroy()
}

func (a *Agent) takeVolumeAway(environment, name string, strangers []string) (destroy func() error, err error) {
	a.writing.Lock()
	defer a.writing.Unlock()
	if users := append(a.volumeUsers(environment, name), strangers...); len(users) > 0 {
		return nil, refuse(Precondition, "volume %s in environment %s is used by %s: remove what uses it first, with purser rm", name, environment, strings.Join(users, ", "))
	}
	destroy, err = a.volumes.Remove(environment, name)
	if errors.Is(err, volumes.ErrNotFound) {
		return nil, &Refusal{Reason: NotFound, Err: errors.New(a.unknownVolume(environment, name))}
	}
	return destroy, err
}

// awaitVolume waits, not for ever, for the containers of workloads that are removed
// and no longer to be seen: they may still have the volume mounted.
func (a *Agent) awaitVolume(ctx context.Context, environment, name string) {
	ctx, done := context.WithTimeout(ctx, leaving)
	defer done()
	for _, w := range a.all(environment, "") {
		if w.visible() || !w.mounts(name) {
			continue
		}
		if _, err := w.supervisor.WaitFor(ctx, func(v supervise.View) bool { return v.Gone }); err == nil {
			a.forget(w)
		}
	}
}

// strangersOn are the containers that no record explains and that use a volume.
// While containerd is away, nobody can tell that there are none.
func (a *Agent) strangersOn(ctx context.Context, environment, volume string) ([]string, error) {
	ctx, done := context.WithTimeout(ctx, answering)
	defer done()
	found, err := a.runtime.List(ctx)
	if err != nil {
		return nil, refuse(Later, "cannot tell whether a container still uses volume %s in environment %s while containerd does not answer; try again when it does (purser doctor): %w", volume, environment, err)
	}
	var strangers []string
	for _, f := range a.unexplained(found) {
		uses, err := a.strangerUses(ctx, f, environment, volume)
		if err != nil {
			return nil, refuse(Precondition, "cannot tell whether container %s uses volume %s in environment %s; remove the container first, with ctr: %w", f.ID, volume, environment, err)
		}
		if uses {
			strangers = append(strangers, "container "+f.ID)
		}
	}
	return strangers, nil
}

// strangerUses says whether a container uses a volume: by its record, or what it has
// mounted if that cannot be read.
func (a *Agent) strangerUses(ctx context.Context, f runtime.Found, environment, volume string) (bool, error) {
	if f.Record != nil {
		return f.Record.GetEnvironment() == environment && slices.Contains(launchspec.Volumes(f.Record.GetSpec()), volume), nil
	}
	path, err := a.volumes.Path(environment, volume)
	if errors.Is(err, volumes.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	sources, err := a.runtime.MountSources(ctx, f.ID)
	if errors.Is(err, runtime.ErrNotFound) {
		return false, nil // it has gone meanwhile
	}
	return slices.Contains(sources, path), err
}

// volumeUsers are the workloads, in whatever state, that use a volume.
func (a *Agent) volumeUsers(environment, name string) []string {
	var ids []string
	for _, w := range a.all(environment, "") {
		if w.mounts(name) {
			ids = append(ids, w.id())
		}
	}
	return ids
}

// mounts says whether a workload uses a volume: by its spec, or by its container,
// which may be of an earlier one.
func (w *workload) mounts(volume string) bool {
	for _, spec := range specs(w.record()) {
		if slices.Contains(launchspec.Volumes(spec), volume) {
			return true
		}
	}
	v, _ := w.supervisor.View()
	return slices.ContainsFunc(v.Status.Containers(), func(i *supervise.Instance) bool {
		return i.Revision != nil && slices.Contains(launchspec.Volumes(i.Revision.Spec), volume)
	})
}

// volumePath is where a volume that a spec names is, for package runtime.
func (a *Agent) volumePath(environment, name string) (string, error) {
	path, err := a.volumes.Path(environment, name)
	if errors.Is(err, volumes.ErrNotFound) {
		return "", errors.New(a.noVolume(environment, name))
	}
	return path, err
}

// noVolume says of a volume that is to be used and is not there which may have been
// meant, and how it is made.
func (a *Agent) noVolume(environment, name string) string {
	text, near := a.missingVolume(environment, name)
	if near {
		return text
	}
	return fmt.Sprintf("%s; to make it: purser volume create -E %s %s", text, environment, name)
}

// unknownVolume says so of one that is to be removed.
func (a *Agent) unknownVolume(environment, name string) string {
	text, near := a.missingVolume(environment, name)
	if near {
		return text
	}
	return fmt.Sprintf("%s; see purser volume list -E %s", text, environment)
}

// missingVolume asks for a volume that may have been meant, if one is near.
func (a *Agent) missingVolume(environment, name string) (text string, near bool) {
	text = fmt.Sprintf("no volume %s in environment %s", name, environment)
	var names []string
	// Without a list the text says less, which is better than another error.
	all, _ := a.volumes.List(environment)
	for _, info := range all {
		names = append(names, info.Name)
	}
	if meant, ok := launchspec.Nearest(name, names); ok {
		return text + "; did you mean " + meant + "?", true
	}
	return text, false
}

// sweepVolumes destroys what an earlier agent did not come to destroy.
func (a *Agent) sweepVolumes(ctx context.Context) {
	if err := a.volumes.Sweep(ctx); err != nil {
		a.log.Warn("cannot destroy what is left of removed volumes", "error", err)
	}
}
