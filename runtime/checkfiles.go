package runtime

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/purserd/purser/api/launchspec"
	purserv1 "github.com/purserd/purser/api/purser/v1"
	"github.com/purserd/purser/inject"
	"github.com/purserd/purser/runtime/ocispec"
)

// CheckFiles finds directories of secret files that cannot be mounted where the spec
// wants them, or would hide what the image has there. The error is a [SpecError]
// then.
func (r *Runtime) CheckFiles(ctx context.Context, img *Image, spec *purserv1.LaunchSpec, directories []inject.Directory) error {
	if len(directories) == 0 {
		return nil
	}
	mounts, err := ocispec.CheckMounts(spec.GetMounts(), r.mountPolicy(launchspec.Environment(spec)))
	if err != nil {
		return &SpecError{Err: err}
	}
	var errs []error
	for _, d := range directories {
		obstacle, err := r.obstacle(r.ctx(ctx), img, mounts, d)
		if err != nil {
			return err
		}
		if obstacle != "" {
			errs = append(errs, fmt.Errorf("%s cannot be in %s: %s; use another directory, such as /run/secrets", contents(d), d.Target, obstacle))
		}
	}
	if len(errs) > 0 {
		return &SpecError{Err: errors.Join(errs...)}
	}
	return nil
}

// contents says what is to be in a directory.
func contents(d inject.Directory) string {
	if d.Private {
		return "the file " + d.Files[0].Name + " of a secret"
	}
	return "the files of secret " + d.Files[0].Secret
}

// obstacle is what keeps a directory from its place in the container; empty when
// nothing does.
func (r *Runtime) obstacle(ctx context.Context, img *Image, mounts []*purserv1.Mount, d inject.Directory) (string, error) {
	if m, rest := mountAround(mounts, d.Target); m != nil {
		return obstacleInMount(m, rest)
	}
	there, err := r.lookIntoImage(ctx, img, d.Target)
	switch {
	case err != nil:
		return "", r.wrap(err, "looking into image %s", img.Ref)
	case there == aFile:
		return "image " + img.Ref + " has a file where that needs a directory", nil
	case there == aFullDirectory && d.Private:
		return "image " + img.Ref + " has files there, which the mounted directory would hide", nil
	}
	return "", nil
}

// mountAround is the innermost mount that a path is in, and where in it; nil when it
// is in none, or is that of a mount itself.
func mountAround(mounts []*purserv1.Mount, target string) (around *purserv1.Mount, rest string) {
	for _, m := range mounts {
		if in, ok := strings.CutPrefix(target, path.Clean(m.GetTarget())+"/"); ok && (around == nil || len(in) < len(rest)) {
			around, rest = m, in
		}
	}
	return around, rest
}

// obstacleInMount is what keeps a directory from being mounted in another mount: who
// mounts makes what is missing, unless the mount is read-only.
func obstacleInMount(m *purserv1.Mount, rest string) (string, error) {
	there := nothing
	if launchspec.MountType(m) != launchspec.MountTmpfs {
		var err error
		if there, err = look(m.GetSource(), rest); err != nil {
			return "", fmt.Errorf("looking into what is mounted on %s: %w", m.GetTarget(), err)
		}
	}
	switch {
	case there == aFile:
		return "what is mounted on " + m.GetTarget() + " has a file where that needs a directory", nil
	case there == nothing && m.GetReadOnly():
		return "what is mounted on " + m.GetTarget() + " is read-only and has no directory " + rest, nil
	}
	return "", nil
}

// place is what is at a path.
type place int

const (
	nothing place = iota
	anEmptyDirectory
	aFullDirectory
	aFile // or the path leads through one
)

// lookIntoImage says what is at a path of an image. What is in an image never
// changes, so it is found out once.
func (r *Runtime) lookIntoImage(ctx context.Context, img *Image, path string) (place, error) {
	if known, ok := img.places.Load(path); ok {
		return known.(place), nil
	}
	there := nothing
	err := r.withFiles(ctx, img, func(root string) (err error) {
		there, err = look(root, path)
		return err
	})
	if err == nil {
		img.places.Store(path, there)
	}
	return there, err
}

// look says what is at a path, as a process with that root would see it.
func look(root, path string) (place, error) {
	top, err := os.Open(root)
	if err != nil {
		return nothing, err
	}
	defer top.Close()
	fd, err := unix.Openat2(int(top.Fd()), path, &unix.OpenHow{
		Flags:   unix.O_RDONLY | unix.O_CLOEXEC | unix.O_DIRECTORY,
		Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS,
	})
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nothing, nil
	case errors.Is(err, unix.ENOTDIR):
		return aFile, nil
	case err != nil:
		return nothing, fmt.Errorf("opening %s: %w", path, err)
	}
	dir := os.NewFile(uintptr(fd), path)
	defer dir.Close()
	names, err := dir.Readdirnames(1)
	switch {
	case err != nil && !errors.Is(err, io.EOF):
		return nothing, err
	case len(names) > 0:
		return aFullDirectory, nil
	}
	return anEmptyDirectory, nil
}
