package runtime

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"

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
	for n, d := range in.Files {
		dir := r.cfg.secretDir(in.ID, n)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("making a directory for the files of secrets: %w", err)
		}
		if err := d.Write(dir, user.UID, user.GID); err != nil {
			return err
		}
	}
	return nil
}

// Refresh replaces the files of secrets under a running container, each directory
// at one moment. in is what the container was made from, but for Files, which have
// the same targets. A container that is not there is [ErrNotFound].
func (r *Runtime) Refresh(in Instance) error {
	if _, err := os.Stat(r.cfg.secretFiles(in.ID)); errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("replacing the files of secrets of container %s: %w", in.ID, ErrNotFound)
	}
	return r.writeSecretFiles(in)
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
	entries, err := os.ReadDir(filepath.Join(c.privateDir(), secretFilesDir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("looking for files of secrets: %w", err)
	}
	var errs []error
	for _, e := range entries {
		if _, err := os.Stat(c.instanceDir(e.Name())); errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, c.removeSecretFiles(e.Name()))
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

// CheckFiles finds directories of secret files that would hide what an image has
// there. The error is a [SpecError] then.
func (r *Runtime) CheckFiles(ctx context.Context, img *Image, directories []inject.Directory) error {
	var errs []error
	for _, d := range directories {
		if !d.Private {
			continue
		}
		empty, err := r.emptyInImage(r.ctx(ctx), img, d.Target)
		if err != nil {
			return r.wrap(err, "looking into image %s", img.Ref)
		}
		if !empty {
			errs = append(errs, fmt.Errorf("the file %s of a secret cannot be in %s: image %s has files there, which the mounted directory would hide; use another directory, such as /run/secrets",
				d.Files[0].Name, d.Target, img.Ref))
		}
	}
	if len(errs) > 0 {
		return &SpecError{Err: errors.Join(errs...)}
	}
	return nil
}

// emptyInImage says whether a directory of an image is empty or not there. What is
// in an image never changes, so it is found out once.
func (r *Runtime) emptyInImage(ctx context.Context, img *Image, dir string) (bool, error) {
	if known, ok := img.empty.Load(dir); ok {
		return known.(bool), nil
	}
	empty := false
	err := r.withFiles(ctx, img, func(root string) (err error) {
		empty, err = emptyInside(root, dir)
		return err
	})
	if err == nil {
		img.empty.Store(dir, empty)
	}
	return empty, err
}

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
	sn, key := r.client.SnapshotService(snapshotter), "purser-look-"+rand.Text()
	view, err := sn.View(ctx, key, img.chain)
	if err != nil {
		return fmt.Errorf("making a view of its files: %w", err)
	}
	defer func() { err = errors.Join(err, sn.Remove(context.WithoutCancel(ctx), key)) }()
	return r.withMounted(view, use)
}

// emptyInside looks into a directory as a process with that root would see it.
func emptyInside(root, path string) (bool, error) {
	top, err := os.Open(root)
	if err != nil {
		return false, err
	}
	defer top.Close()
	fd, err := unix.Openat2(int(top.Fd()), path, &unix.OpenHow{
		Flags:   unix.O_RDONLY | unix.O_CLOEXEC | unix.O_DIRECTORY,
		Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS,
	})
	if errors.Is(err, fs.ErrNotExist) {
		return true, nil
	}
	if errors.Is(err, unix.ENOTDIR) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("opening %s: %w", path, err)
	}
	dir := os.NewFile(uintptr(fd), path)
	defer dir.Close()
	names, err := dir.Readdirnames(1)
	if err != nil && !errors.Is(err, io.EOF) {
		return false, err
	}
	return len(names) == 0, nil
}
