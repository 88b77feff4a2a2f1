package runtime

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/typeurl/v2"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/purserd/purser/inject"
	"github.com/purserd/purser/runtime/ocispec"
)

// Files of secrets lie in the private directory, which never reaches a disk: for
// each container a directory, and in it one for each that is mounted.
const secretFilesDir = "files"

func (c Config) secretFiles(id string) string {
	return filepath.Join(c.privateDir(), secretFilesDir, id)
}

// secretDir is where the n-th directory of a container's is on the node.
func (c Config) secretDir(id string, n int) string {
	return filepath.Join(c.secretFiles(id), strconv.Itoa(n))
}

// writeSecretFiles makes the files of a container's secrets.
func (r *Runtime) writeSecretFiles(in Instance) error {
	if len(in.Files) == 0 {
		return nil
	}
	user, err := ocispec.User(in.Spec, in.Image.Config, in.Image.accounts)
	if err != nil {
		return &SpecError{Err: err}
	}
	for n := range in.Files {
		if err := os.MkdirAll(r.cfg.secretDir(in.ID, n), 0o755); err != nil {
			return fmt.Errorf("making a directory for the files of secrets: %w", err)
		}
	}
	return r.fillSecretDirs(in.ID, in.Files, user)
}

// fillSecretDirs writes files into directories that are there.
func (r *Runtime) fillSecretDirs(id string, files []inject.Directory, user specs.User) error {
	for n, d := range files {
		if err := d.Write(r.cfg.secretDir(id, n), user.UID, user.GID); err != nil {
			return err
		}
	}
	return nil
}

// Refresh replaces the files of secrets under a running container, each directory at one
// moment, by files for the same targets. redactions are looked for in its output from before
// they are there. A container that is not there, or its files, is [ErrNotFound].
func (r *Runtime) Refresh(ctx context.Context, id string, files []inject.Directory, redactions inject.Redactions) error {
	const doing = "replacing the files of secrets of container %s"
	user, err := r.userOf(ctx, id)
	if err != nil {
		return r.wrap(err, doing, id)
	}
	if err := r.helper.Redact(ctx, id, redactions); err != nil {
		return err
	}
	// No directory is made: its container may be being removed, and leave it for ever.
	files = slices.Clone(files)
	for n := range files {
		files[n].Within = nil // they are there
	}
	if err = r.fillSecretDirs(id, files, user); errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("%w: %w", ErrNotFound, err)
	}
	return r.wrap(err, doing, id)
}

// userOf is whom a container was made to run as. Its image may be another one by now.
func (r *Runtime) userOf(ctx context.Context, id string) (specs.User, error) {
	record, err := r.client.ContainerService().Get(r.ctx(ctx), id)
	if err != nil {
		return specs.User{}, err
	}
	var spec specs.Spec
	if err := typeurl.UnmarshalTo(record.Spec, &spec); err != nil {
		return specs.User{}, fmt.Errorf("reading its OCI spec: %w", err)
	}
	return spec.Process.User, nil
}

// removeSecretFiles removes the files of a container's secrets.
func (c Config) removeSecretFiles(id string) error {
	if err := os.RemoveAll(c.secretFiles(id)); err != nil {
		return fmt.Errorf("removing the files of secrets of container %s: %w", id, err)
	}
	return nil
}

// sweepSecretFiles removes those of containers that are gone: their own directories
// are removed later.
func (c Config) sweepSecretFiles() error {
	ids, err := namesIn(filepath.Join(c.privateDir(), secretFilesDir), fs.DirEntry.IsDir)
	if err != nil {
		return fmt.Errorf("looking for files of secrets: %w", err)
	}
	var errs []error
	for _, id := range ids {
		if _, err := os.Stat(c.instanceDir(id)); errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, c.removeSecretFiles(id))
		}
	}
	return errors.Join(errs...)
}

// secretMounts puts the directories into the container.
func (c Config) secretMounts(in Instance) []ocispec.SecretMount {
	all := make([]ocispec.SecretMount, len(in.Files))
	for n, d := range in.Files {
		all[n] = ocispec.SecretMount{Source: c.secretDir(in.ID, n), Target: d.Target}
	}
	return all
}

// lookPrefix begins the names of views that an image is looked into through.
const lookPrefix = "purser-look-"

// withFiles mounts an image's files for reading.
func (r *Runtime) withFiles(ctx context.Context, img *Image, use func(root string) error) (err error) {
	snapshotter, err := r.snapshotter(ctx)
	if err != nil {
		return err
	}
	ctx, release, err := r.client.WithLease(ctx)
	if err != nil {
		return fmt.Errorf("taking a lease: %w", err)
	}
	defer release(context.WithoutCancel(ctx))
	sn, key := r.client.SnapshotService(snapshotter), lookPrefix+rand.Text()
	view, err := sn.View(ctx, key, img.chain, snapshots.WithLabels(map[string]string{labelNode: r.cfg.Node}))
	if err != nil {
		return fmt.Errorf("making a view of its files: %w", err)
	}
	defer func() { err = errors.Join(err, sn.Remove(context.WithoutCancel(ctx), key)) }()
	return r.withMounted(view, use)
}
