package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"sync"

	"github.com/containerd/containerd/v2/core/remotes"
	"github.com/containerd/containerd/v2/core/remotes/docker"
	"github.com/containerd/containerd/v2/core/remotes/docker/config"
	"github.com/containerd/containerd/v2/core/transfer"
	"github.com/containerd/log"
	"github.com/distribution/reference"
	"github.com/pelletier/go-toml/v2"
	"github.com/sirupsen/logrus"
	"golang.org/x/sync/semaphore"
)

// Config says how registries are reached.
type Config struct {
	// CertsDir has a directory for each registry with its hosts.toml, or
	// certificates, as containerd's certs.d. It may be missing.
	CertsDir string
	// DockerConfig is the path of docker's config.json, which may be missing.
	DockerConfig string
}

// Resolver finds images, and fetches their content, with the credentials of login,
// or those of docker's configuration when that is nil. The limiter bounds the
// connections that content comes over. done closes those that are left.
func (c Config) Resolver(ctx context.Context, registry string, login *Login, limiter *semaphore.Weighted) (r remotes.Resolver, done func()) {
	known := dockerCredentials(ctx, c.DockerConfig)
	if login != nil {
		known = login.credentials(registry)
	}
	var used connections
	resolver := docker.NewResolver(docker.ResolverOptions{
		Hosts: config.ConfigureHosts(ctx, config.HostOptions{HostDir: c.hostDir, Credentials: known, UpdateClient: used.add}),
	})
	if r, ok := resolver.(remotes.ResolverWithOptions); ok {
		r.SetOptions(transfer.WithDownloadLimiter(limiter))
	}
	return resolver, used.close
}

// connections are those of the clients that a resolver has made.
type connections struct {
	mu         sync.Mutex
	transports []*http.Transport
}

func (c *connections) add(client *http.Client) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if t, ok := client.Transport.(*http.Transport); ok {
		c.transports = append(c.transports, t)
	}
	return nil
}

func (c *connections) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, t := range c.transports {
		t.CloseIdleConnections()
	}
}

// Registry is the registry that a reference in full names.
func Registry(ref string) string {
	named, err := reference.ParseNormalizedNamed(ref)
	if err != nil {
		return ref
	}
	return reference.Domain(named)
}

// HostsError says that what certs.d has of a registry is wrong.
type HostsError struct{ Err error }

func (e *HostsError) Error() string { return e.Err.Error() }
func (e *HostsError) Unwrap() error { return e.Err }

// hostDir returns the directory of a host. A hosts.toml in it that cannot be read is
// an error: containerd's library would go on without it, past a mirror and to
// another host than the one that is meant.
func (c Config) hostDir(host string) (string, error) {
	dir, err := config.HostDirFromRoot(c.CertsDir)(host)
	if err != nil || c.CertsDir == "" {
		return "", err
	}
	path := filepath.Join(dir, "hosts.toml")
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return dir, nil
	}
	if err != nil {
		return "", &HostsError{fmt.Errorf("reading the hosts of registry %s: %w", host, err)}
	}
	var any map[string]any
	if err := toml.Unmarshal(data, &any); err != nil {
		return "", &HostsError{fmt.Errorf("%s cannot be read: %w", path, err)}
	}
	return dir, nil
}

// Silent keeps the library's own log away: what matters of it comes in its errors.
func Silent(ctx context.Context) context.Context {
	l := logrus.New()
	l.SetOutput(io.Discard)
	return log.WithLogger(ctx, logrus.NewEntry(l))
}
