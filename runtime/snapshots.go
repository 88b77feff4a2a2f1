package runtime

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/containerd/containerd/v2/core/mount"
	"golang.org/x/sys/unix"

	"github.com/purserd/purser/runtime/ocispec"
)

// snapshotterChoice remembers which snapshotter works on this containerd.
type snapshotterChoice struct {
	mu   sync.Mutex
	name string
}

// snapshotter returns the configured snapshotter, or overlayfs where
// containerd could load it and native elsewhere.
func (r *Runtime) snapshotter(ctx context.Context) (string, error) {
	r.snapshot.mu.Lock()
	defer r.snapshot.mu.Unlock()
	if r.snapshot.name != "" {
		return r.snapshot.name, nil
	}
	answer, err := r.client.IntrospectionService().Plugins(ctx, "type==io.containerd.snapshotter.v1")
	if err != nil {
		return "", fmt.Errorf("asking for snapshotters: %w", err)
	}
	var works []string
	for _, p := range answer.Plugins {
		if p.InitErr == nil {
			works = append(works, p.ID)
		}
	}
	r.snapshot.name, err = chooseSnapshotter(r.cfg.Snapshotter, works)
	return r.snapshot.name, err
}

// chooseSnapshotter takes the one that is configured, which must be among those that
// work.
func chooseSnapshotter(configured string, works []string) (string, error) {
	wanted := []string{"overlayfs", "native"}
	if configured != "" {
		wanted = []string{configured}
	}
	for _, name := range wanted {
		if slices.Contains(works, name) {
			return name, nil
		}
	}
	slices.Sort(works)
	if configured != "" {
		return "", fmt.Errorf("snapshotter %q, which [containerd] in the agent's configuration names, does not work in containerd: there are %s", configured, strings.Join(works, ", "))
	}
	return "", fmt.Errorf("neither the overlayfs nor the native snapshotter works in containerd: name one in the agent's configuration, snapshotter in [containerd]; there are %s", strings.Join(works, ", "))
}

// mountPrefix is how directories in RunDir start that something is mounted on
// for a moment.
const mountPrefix = "image-"

// withMounted mounts a file system for as long as use runs.
func (r *Runtime) withMounted(mounts []mount.Mount, use func(root string) error) (err error) {
	dir, err := os.MkdirTemp(r.cfg.RunDir, mountPrefix)
	if err != nil {
		return fmt.Errorf("making a directory to mount on: %w", err)
	}
	defer func() { err = errors.Join(err, unmount(dir)) }()
	if err := mount.All(mounts, dir); err != nil {
		return fmt.Errorf("mounting it: %w", err)
	}
	return use(dir)
}

// unmount leaves nothing of dir. It never removes what is mounted.
func unmount(dir string) error {
	if err := mount.UnmountAll(dir, 0); err != nil {
		return fmt.Errorf("unmounting %s: %w", dir, err)
	}
	return os.Remove(dir)
}

// mountDirs are the directories that something is mounted on for a moment.
func (c Config) mountDirs() ([]string, error) {
	return filepath.Glob(filepath.Join(c.RunDir, mountPrefix+"*"))
}

// sweepMounts unmounts what an earlier process left when it died.
func (c Config) sweepMounts() error {
	left, err := c.mountDirs()
	if err != nil {
		return err
	}
	var failed []error
	for _, dir := range left {
		failed = append(failed, unmount(dir))
	}
	return errors.Join(failed...)
}

// accountsUnder reads /etc/passwd and /etc/group of the file system at root. An
// image may lack them.
func accountsUnder(root string) (ocispec.Accounts, error) {
	passwd, err := readInside(root, "etc/passwd")
	if err != nil {
		return ocispec.Accounts{}, err
	}
	group, err := readInside(root, "etc/group")
	return ocispec.Accounts{Passwd: passwd, Group: group}, err
}

// maxAccounts bounds what is read of a file that an image controls.
const maxAccounts = 4 << 20

// readInside reads a file as a process with that root would see it: links do
// not lead out of it. Without such a file it returns nothing.
func readInside(root, path string) ([]byte, error) {
	dir, err := os.Open(root)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	fd, err := unix.Openat2(int(dir.Fd()), path, &unix.OpenHow{
		Flags:   unix.O_RDONLY | unix.O_CLOEXEC | unix.O_NONBLOCK,
		Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS,
	})
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("opening /%s inside: %w", path, err)
	}
	f := os.NewFile(uintptr(fd), path)
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, err
	}
	data, err := io.ReadAll(io.LimitReader(f, maxAccounts))
	if err != nil {
		return nil, fmt.Errorf("reading /%s inside: %w", path, err)
	}
	return data, nil
}
