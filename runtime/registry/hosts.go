package registry

import (
	"context"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"

	"github.com/containerd/containerd/v2/core/remotes"
	"github.com/containerd/containerd/v2/core/remotes/docker"
	"github.com/containerd/containerd/v2/core/remotes/docker/config"
	"github.com/containerd/containerd/v2/core/transfer"
	"github.com/containerd/errdefs"
	"github.com/containerd/log"
	"github.com/distribution/reference"
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
	// Patience is how long registries are waited for.
	Patience Patience
}

// Resolver finds images, and fetches their content, with the credentials of login,
// or those of docker's configuration when that is nil. The limiter bounds the
// connections that content comes over. done closes those that are left.
func (c Config) Resolver(ctx context.Context, registry string, login *Login, limiter *semaphore.Weighted) (r remotes.Resolver, done func()) {
	origin := c.origin(registry)
	known := dockerCredentials(ctx, c.DockerConfig, origin, c.Patience.answer())
	if login != nil {
		known = login.credentials(origin)
	}
	used := connections{patience: c.Patience}
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
	patience   Patience
	mu         sync.Mutex
	transports []*http.Transport
}

// add is called with each client, and again with a copy that is to be like no other.
func (c *connections) add(client *http.Client) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if t, ok := client.Transport.(*http.Transport); ok {
		t.ResponseHeaderTimeout = 0 // after which the library would begin again, and again
		c.transports = append(c.transports, t)
		client.Transport = impatient{t, c.patience}
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

// origin is a registry, as images' names have it, and the host that it is reached
// at, which is none of its mirrors.
type origin struct{ registry, host string }

// name is what credentials for a host are kept under.
func (o origin) name(host string) string {
	switch {
	case host != o.host:
		return host
	case o.registry == dockerHub:
		return hubKey
	}
	return o.registry
}

// origin finds out where a registry is reached: where hosts.toml says, or at its name.
func (c Config) origin(registry string) origin {
	o := origin{registry, registry}
	if registry == dockerHub {
		o.host = hubHost
	}
	dir, err := c.dir(registry)
	if err != nil {
		return o
	}
	file, err := readHosts(dir)
	if err != nil || file.Server == "" {
		return o // what is wrong with it is told when it is used
	}
	server := file.Server
	if !strings.Contains(server, "://") {
		server = "https://" + server
	}
	if u, err := url.Parse(server); err == nil && u.Host != "" {
		o.host = u.Host
	}
	return o
}

// dir is the directory of a registry in certs.d; errdefs.ErrNotFound when it has none.
func (c Config) dir(registry string) (string, error) {
	if c.CertsDir == "" {
		return "", errdefs.ErrNotFound
	}
	return config.HostDirFromRoot(c.CertsDir)(registry)
}

// hostDir returns the directory of a host. A hosts.toml in it that is wrong is
// an error: containerd's library would go on without it, past a mirror and to
// another host than the one that is meant.
func (c Config) hostDir(host string) (string, error) {
	dir, err := c.dir(host)
	if err != nil {
		return "", err
	}
	if _, err := readHosts(dir); err != nil {
		return "", &HostsError{err}
	}
	return dir, nil
}

// Silent keeps the library's own log away: what matters of it comes in its errors.
func Silent(ctx context.Context) context.Context {
	l := logrus.New()
	l.SetOutput(io.Discard)
	return log.WithLogger(ctx, logrus.NewEntry(l))
}
