package runtime

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/containerd/containerd/api/services/tasks/v1"
	"github.com/containerd/containerd/v2/core/containers"
	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/typeurl/v2"
	"github.com/moby/sys/mountinfo"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// What containers leave in containerd, and in the directories of its shims.

// leftSnapshots lists those with this node's label: writable layers, and views.
func (r *Runtime) leftSnapshots(ctx context.Context) ([]thing, error) {
	name, err := r.snapshotter(ctx)
	if err != nil {
		return nil, err
	}
	var all []thing
	err = r.client.SnapshotService(name).Walk(ctx, func(_ context.Context, info snapshots.Info) error {
		t := thing{kind: LeakSnapshot, name: info.Name, owner: info.Name}
		if strings.HasPrefix(info.Name, lookPrefix) {
			t.kind, t.owner = LeakView, ""
		}
		t.remove = func(ctx context.Context) error { return r.removeSnapshot(ctx, name, t.name) }
		all = append(all, t)
		return nil
	}, fmt.Sprintf("labels.%q==%q", labelNode, r.cfg.Node))
	return all, err
}

// leftStates lists what the OCI runtimes know.
func (r *Runtime) leftStates(context.Context) ([]thing, error) {
	states, err := r.handover.States(r.cfg.Namespace)
	var all []thing
	for _, s := range states {
		all = append(all, thing{kind: LeakRuntimeState, name: s.Path, owner: s.ID, remove: s.Remove})
	}
	return all, err
}

// leftTasks lists the tasks whose containers are ours: by what is in our directories, or
// as what they write comes to one.
func (r *Runtime) leftTasks(ctx context.Context, ours map[string]bool) ([]thing, error) {
	answer, err := r.client.TaskService().List(ctx, &tasks.ListTasksRequest{})
	if err != nil {
		return nil, err
	}
	var all []thing
	for _, t := range answer.Tasks {
		if id := t.ID; ours[id] || strings.HasPrefix(t.Stdout, r.cfg.instanceDir(id)+"/") {
			all = append(all, thing{kind: LeakTask, name: id, owner: id, remove: func(ctx context.Context) error { return r.deleteUnrecorded(ctx, id) }})
		}
	}
	return all, nil
}

// deleteUnrecorded deletes a container whose record is gone, without which containerd
// lets nobody at its task: it gets one again for that.
func (r *Runtime) deleteUnrecorded(ctx context.Context, id string) error {
	spec, err := typeurl.MarshalAny(&specs.Spec{})
	if err != nil {
		return err
	}
	snapshotter, err := r.snapshotter(ctx)
	if err != nil {
		return err
	}
	_, err = r.client.ContainerService().Create(ctx, containers.Container{
		ID: id, Spec: spec, Runtime: containers.RuntimeInfo{Name: shimName},
		Snapshotter: snapshotter, SnapshotKey: id, Labels: map[string]string{labelNode: r.cfg.Node},
	})
	if err != nil {
		return fmt.Errorf("recording it again: %w", err)
	}
	if err := r.Delete(ctx, id); err != nil {
		// With a record nobody would take it for left, whatever ended ctx.
		undo, cancel := context.WithTimeout(context.WithoutCancel(ctx), askTimeout)
		defer cancel()
		return errors.Join(err, r.client.ContainerService().Delete(undo, id))
	}
	return nil
}

// tasksDir is where containerd's shims have their directories: bundles, by namespace and ID.
const tasksDir = "io.containerd.runtime.v2.task"

// bundleID is the ID of the container whose bundle a path is; empty when of none in the
// namespace.
func bundleID(path, namespace string) string {
	dir, id := filepath.Split(path)
	if strings.HasSuffix(dir, "/"+tasksDir+"/"+namespace+"/") {
		return id
	}
	return ""
}

// bundle is a directory that a root file system is mounted in.
type bundle struct {
	dir, id string
	// ours: the mount has a writable layer of ours.
	ours bool
}

// mountedBundles are those of the namespace; other containerds' may be among them.
func (r *Runtime) mountedBundles() ([]bundle, error) {
	mounts, err := mountinfo.GetMounts(func(m *mountinfo.Info) (skip, stop bool) {
		return filepath.Base(m.Mountpoint) != "rootfs" || bundleID(filepath.Dir(m.Mountpoint), r.cfg.Namespace) == "", false
	})
	if err != nil {
		return nil, fmt.Errorf("reading what is mounted: %w", err)
	}
	var all []bundle
	for _, m := range mounts {
		dir := filepath.Dir(m.Mountpoint)
		id := filepath.Base(dir)
		ours := r.cfg.RootDir != "" && strings.Contains(m.VFSOptions+",", r.cfg.upperOption(id))
		all = append(all, bundle{dir, id, ours})
	}
	return all, nil
}

// leftBundles lists those of containers that are ours, where shims or mounts lead to them.
func (r *Runtime) leftBundles(shims []shimProcess, mounted []bundle, ours map[string]bool) []thing {
	parents, others := map[string]bool{}, map[string]bool{}
	for _, s := range shims {
		switch parent := filepath.Dir(s.bundle); {
		case s.ours && bundleID(s.bundle, r.cfg.Namespace) != "":
			parents[parent] = true
		case s.others:
			others[parent] = true
		}
	}
	for _, b := range mounted {
		// A container of another containerd may be named like one of ours.
		if parent := filepath.Dir(b.dir); b.ours || ours[b.id] && !others[parent] {
			parents[parent] = true
		}
	}
	var all []thing
	for parent := range parents {
		ids, _ := namesIn(parent, os.DirEntry.IsDir)
		for _, id := range ids {
			if dir := filepath.Join(parent, id); ours[id] {
				all = append(all, thing{kind: LeakBundle, name: dir, owner: id, remove: func(context.Context) error { return removeBundle(dir) }})
			}
		}
	}
	return all
}

// removeBundle removes a shim's directory, and the one beside it that it links to.
func removeBundle(dir string) error {
	if err := mount.UnmountRecursive(dir, 0); err != nil {
		return fmt.Errorf("unmounting what is in %s: %w", dir, err)
	}
	work, err := os.Readlink(filepath.Join(dir, "work"))
	if err == nil && filepath.Base(work) == filepath.Base(dir) && bundleID(work, filepath.Base(filepath.Dir(dir))) != "" {
		if err := os.RemoveAll(work); err != nil {
			return err
		}
	}
	return os.RemoveAll(dir)
}
