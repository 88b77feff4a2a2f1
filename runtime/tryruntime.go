package runtime

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/purserd/purser/runtime/handover/protocol"
)

// tryPatience bounds one call of a runtime that is tried.
const tryPatience = 20 * time.Second

// Runtimes tries the configured runtimes, and returns them sorted by name. Each is
// tried once with the executable that it has now.
func (r *Runtime) Runtimes(ctx context.Context) []RuntimeInfo {
	var all []RuntimeInfo
	for _, name := range slices.Sorted(maps.Keys(r.cfg.Runtimes)) {
		i := RuntimeInfo{Name: name, Default: name == r.cfg.DefaultRuntime}
		if i.Path, i.Err = r.cfg.Runtimes[name].find(name); i.Err == nil {
			i.Version, i.Err = r.version(i.Path)
		}
		if i.Err == nil {
			i.Err = r.try(ctx, i.Path)
		}
		all = append(all, i)
	}
	return all
}

// version is the first line of what a runtime says of itself.
func (r *Runtime) version(path string) (string, error) {
	return r.versions.get(path, func() (string, error) {
		out, err := call(context.Background(), path, "--version")
		if err != nil {
			return "", err
		}
		version, _, _ := strings.Cut(out, "\n")
		return version, nil
	})
}

// isSandbox tells whether an OCI runtime is runsc, by its own account. Of one that
// cannot say it is told where it is executed.
func (r *Runtime) isSandbox(path string) bool {
	version, err := r.version(path)
	return err == nil && strings.HasPrefix(version, "runsc ")
}

// try tells why no container can be run with a runtime.
func (r *Runtime) try(ctx context.Context, path string) error {
	failed, err := r.tried.get(path, func() (failed, err error) {
		failed = r.cfg.tryRuntime(ctx, path)
		return failed, ctx.Err()
	})
	return errors.Join(failed, err)
}

// byExecutable remembers what was found out about executables, until they are
// replaced. Its zero value is ready to be used.
type byExecutable[T any] struct {
	mu    sync.Mutex // held while it is found out, so that it is found out once
	known map[string]finding[T]
}

type finding[T any] struct {
	modified time.Time // the executable
	value    T
}

// get returns what is known of an executable. What find returns with an error is not
// remembered.
func (b *byExecutable[T]) get(path string, find func() (T, error)) (value T, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	info, err := os.Stat(path)
	if err != nil {
		return value, err
	}
	if f, ok := b.known[path]; ok && f.modified.Equal(info.ModTime()) {
		return f.value, nil
	}
	if value, err = find(); err != nil {
		return value, err
	}
	if b.known == nil {
		b.known = map[string]finding[T]{}
	}
	b.known[path] = finding[T]{info.ModTime(), value}
	return value, nil
}

// tryRuntime runs a container with a runtime that does nothing.
func (c Config) tryRuntime(ctx context.Context, path string) (err error) {
	parent := c.RootDir
	if parent == "" {
		parent = c.RunDir
	}
	if err := os.MkdirAll(parent, 0o711); err != nil {
		return fmt.Errorf("making a directory for a container to try: %w", err)
	}
	dir, err := os.MkdirTemp(parent, trialPrefix)
	if err != nil {
		return fmt.Errorf("making a directory for a container to try: %w", err)
	}
	defer func() { err = errors.Join(err, removeTrial(dir)) }()
	id := c.trialID() + strings.ToLower(rand.Text()[:12])
	if err := c.writeTrial(dir, id); err != nil {
		return fmt.Errorf("making a container to try: %w", err)
	}
	state := filepath.Join(dir, "state")
	if _, err = call(ctx, path, "--root", state, "run", "--bundle", dir, id); err != nil {
		_, _ = call(context.WithoutCancel(ctx), path, "--root", state, "delete", "--force", id)
		return fmt.Errorf("no container can be run with it here: %w", err)
	}
	return nil
}

// writeTrial makes a bundle whose command is purser-oci, which needs nothing else.
func (c Config) writeTrial(dir, id string) error {
	root := filepath.Join(dir, "rootfs")
	for _, path := range []string{root, filepath.Join(root, "proc"), filepath.Join(root, "dev"), filepath.Join(root, "sys")} {
		if err := os.Mkdir(path, 0o755); err != nil {
			return err
		}
	}
	program, err := os.ReadFile(c.Wrapper)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(root, "try"), program, 0o755); err != nil {
		return err
	}
	config, err := json.Marshal(&specs.Spec{
		Version: "1.0.2", // as ocispec has it: one that every runtime in use knows
		Process: &specs.Process{Args: []string{"/try", protocol.TryCommand}, Cwd: "/", NoNewPrivileges: true},
		Root:    &specs.Root{Path: "rootfs"},
		Mounts:  []specs.Mount{{Destination: "/proc", Type: "proc", Source: "proc"}},
		Linux: &specs.Linux{
			CgroupsPath: filepath.Join(c.CgroupParent, id),
			Namespaces: []specs.LinuxNamespace{
				{Type: specs.PIDNamespace}, {Type: specs.MountNamespace}, {Type: specs.NetworkNamespace}, {Type: specs.IPCNamespace}, {Type: specs.UTSNamespace},
			},
		},
	})
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "config.json"), config, fs.FileMode(0o600))
}

// call executes a runtime; the error has the last line of what it said.
func call(ctx context.Context, path string, args ...string) (out string, err error) {
	ctx, cancel := context.WithTimeout(ctx, tryPatience)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.WaitDelay = time.Second
	text, err := cmd.CombinedOutput()
	if err == nil {
		return string(text), nil
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return "", fmt.Errorf("%s: %w: %s", path, err, lines[len(lines)-1])
}
