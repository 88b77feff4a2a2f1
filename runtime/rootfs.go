package runtime

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/containers"
	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/errdefs"
)

// A container's root file system is an image's layers under a writable one of
// its own. With the overlayfs snapshotter the layers of an image are held by one
// view, which all its containers share and which costs containerd nothing more
// at a launch; the writable layers are directories of ours in [Config.RootDir],
// mounted volatile, as no container outlives a reboot. A snapshot for each
// container, which takes two transactions to make and two to remove, is the way
// with every other snapshotter, and where such a mount does not work.

// overlayfs is the snapshotter whose layers are directories.
const overlayfs = "overlayfs"

// labelView, on the configuration of an image, makes containerd's garbage
// collection keep the image's view for as long as the image.
const labelView = "containerd.io/gc.ref.snapshot." + overlayfs + "/purser"

// viewKey names the view of an image's layers.
func viewKey(chain string) string { return "purser-view-" + chain }

// openLayers finds out what is to be known of an image's files: its accounts,
// and how its containers get at its layers.
func (r *Runtime) openLayers(ctx context.Context, i client.Image, img *Image) (err error) {
	snapshotter, err := r.snapshotter(ctx)
	if err != nil {
		return err
	}
	// The lease keeps the view while nothing else does, and lets it go should
	// this process die.
	ctx, release, err := r.client.WithLease(ctx)
	if err != nil {
		return fmt.Errorf("taking a lease: %w", err)
	}
	defer release(context.WithoutCancel(ctx))
	sn := r.client.SnapshotService(snapshotter)
	view, err := sn.View(ctx, viewKey(img.chain), img.chain)
	if errdefs.IsAlreadyExists(err) {
		view, err = sn.Mounts(ctx, viewKey(img.chain))
	}
	if err != nil {
		return fmt.Errorf("making a view of its files: %w", err)
	}
	if lower := lowerOptions(view); snapshotter == overlayfs && r.cfg.RootDir != "" && lower != nil {
		shared, err := r.tryLayers(lower, img)
		if err != nil || shared {
			return errors.Join(err, r.keepView(ctx, i, img.chain))
		}
	}
	defer func() { err = errors.Join(err, sn.Remove(context.WithoutCancel(ctx), viewKey(img.chain))) }()
	return r.withMounted(view, func(root string) error {
		img.accounts, err = accountsUnder(root)
		return err
	})
}

// lowerOptions turns the mount of a view into the options of an overlay on top
// of its layers; nil when it is neither of the two that overlayfs makes.
func lowerOptions(view []mount.Mount) []string {
	if len(view) != 1 {
		return nil
	}
	switch m := view[0]; m.Type {
	case "bind": // a single layer
		options := []string{"lowerdir=" + m.Source}
		if exists("/sys/module/overlay/parameters/index") {
			options = append(options, "index=off") // as the snapshotter has it
		}
		return options
	case "overlay":
		return m.Options
	}
	return nil
}

// tryLayers reads the accounts from a root file system made as a container's,
// and reports whether it could be mounted.
func (r *Runtime) tryLayers(lower []string, img *Image) (works bool, err error) {
	if err := os.MkdirAll(r.cfg.RootDir, 0o711); err != nil {
		return false, fmt.Errorf("making the directory of writable layers: %w", err)
	}
	dir, err := os.MkdirTemp(r.cfg.RootDir, trialPrefix)
	if err != nil {
		return false, fmt.Errorf("making a writable layer: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	root, err := layered(dir, lower)
	if err != nil {
		return false, err
	}
	unmounted := r.withMounted(root, func(root string) error {
		works = true
		img.accounts, err = accountsUnder(root)
		return err
	})
	if !works {
		r.log.Warn("writable layers cannot be kept here; containerd keeps them, and launches take longer", "directory", r.cfg.RootDir, "error", unmounted)
		return false, nil
	}
	img.lower = lower
	return true, unmounted
}

// keepView ties a view to its image.
func (r *Runtime) keepView(ctx context.Context, i client.Image, chain string) error {
	config, err := i.Config(ctx)
	if err != nil {
		return fmt.Errorf("looking for its configuration: %w", err)
	}
	info := content.Info{Digest: config.Digest, Labels: map[string]string{labelView: viewKey(chain)}}
	if _, err := r.client.ContentStore().Update(ctx, info, "labels."+labelView); err != nil {
		return fmt.Errorf("keeping the view of its files: %w", err)
	}
	return nil
}

// layered makes a writable layer in a directory, and returns the mount of it on
// top of others.
func layered(dir string, lower []string) ([]mount.Mount, error) {
	upper, work := filepath.Join(dir, "upper"), filepath.Join(dir, "work")
	if err := os.Mkdir(work, 0o700); err != nil {
		return nil, fmt.Errorf("making a writable layer: %w", err)
	}
	if err := mkdirLike(upper, topmost(lower)); err != nil {
		return nil, fmt.Errorf("making a writable layer: %w", err)
	}
	options := append([]string{"volatile", "workdir=" + work, "upperdir=" + upper}, lower...)
	return []mount.Mount{{Type: "overlay", Source: "overlay", Options: options}}, nil
}

// topmost is the uppermost of the layers.
func topmost(lower []string) string {
	for _, option := range lower {
		if dirs, ok := strings.CutPrefix(option, "lowerdir="); ok {
			first, _, _ := strings.Cut(dirs, ":")
			return first
		}
	}
	return ""
}

// mkdirLike makes a directory with the mode and the owner of another: the root
// directory that a container sees is its writable layer's.
func mkdirLike(path, like string) error {
	info, err := os.Stat(like)
	if err != nil {
		return err
	}
	if err := os.Mkdir(path, 0o700); err != nil {
		return err
	}
	owner := info.Sys().(*syscall.Stat_t)
	if err := os.Lchown(path, int(owner.Uid), int(owner.Gid)); err != nil {
		return err
	}
	return os.Chmod(path, info.Mode())
}

// prepareRoot makes what is a container's own of its root file system. When the
// image's layers are gone that were there when it was looked at, they are
// unpacked again.
func (r *Runtime) prepareRoot(ctx context.Context, record containers.Container, img *Image) ([]mount.Mount, error) {
	root, err := r.makeRoot(ctx, record, img)
	if !errdefs.IsNotFound(err) && !errors.Is(err, fs.ErrNotExist) {
		return root, err
	}
	r.images.forget(img.Digest)
	again, err := r.Image(ctx, img.Ref)
	if err != nil {
		return nil, err
	}
	if err := r.cfg.removeRoot(record.ID); err != nil {
		return nil, err
	}
	return r.makeRoot(ctx, record, again)
}

func (r *Runtime) makeRoot(ctx context.Context, record containers.Container, img *Image) ([]mount.Mount, error) {
	if img.lower == nil {
		// Until the record is there that names it, only this label keeps it from
		// containerd's garbage collection.
		keep := snapshots.WithLabels(map[string]string{labelRoot: time.Now().UTC().Format(time.RFC3339), labelNode: r.cfg.Node})
		return r.client.SnapshotService(record.Snapshotter).Prepare(ctx, record.SnapshotKey, img.chain, keep)
	}
	dir := r.cfg.rootDir(record.ID)
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, fmt.Errorf("making a writable layer: %w", err)
	}
	return layered(dir, img.lower)
}

// snapshotKey is what a container's record keeps from garbage collection: its
// own snapshot, or the view that it shares.
func snapshotKey(id string, img *Image) string {
	if img.lower == nil {
		return id
	}
	return viewKey(img.chain)
}

// removeSnapshot removes a container's own snapshot, if it has one.
func (r *Runtime) removeSnapshot(ctx context.Context, snapshotter, id string) error {
	err := r.client.SnapshotService(snapshotter).Remove(ctx, id)
	if err != nil && !isNotFound(err) {
		return err
	}
	return nil
}

// rootDirectory makes a path absolute. One that would have to be escaped in the
// options of a mount, which not every kernel understands, is not used.
func rootDirectory(path string) (string, error) {
	if path == "" {
		return "", nil
	}
	path, err := filepath.Abs(path)
	if strings.ContainsAny(path, ":,\\") {
		return "", nil
	}
	return path, err
}

// rootDir holds a container's writable layer.
func (c Config) rootDir(id string) string { return filepath.Join(c.RootDir, id) }

// removeRoot removes a container's writable layer.
func (c Config) removeRoot(id string) error {
	if c.RootDir == "" {
		return nil
	}
	if err := os.RemoveAll(c.rootDir(id)); err != nil {
		return fmt.Errorf("removing the writable layer of container %s: %w", id, err)
	}
	return nil
}
