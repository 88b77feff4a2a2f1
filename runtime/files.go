package runtime

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"sync"

	"github.com/purserd/purser/api/launchspec"
	"github.com/purserd/purser/runtime/ocispec"
)

// instancesDir holds a directory for each container.
func (c Config) instancesDir() string { return filepath.Join(c.RunDir, "instances") }

func (c Config) instanceDir(id string) string { return filepath.Join(c.instancesDir(), id) }

// files are the paths of what is generated for a container.
func (c Config) files(id string) ocispec.Files {
	dir := c.instanceDir(id)
	return ocispec.Files{
		Hosts:      filepath.Join(dir, "hosts"),
		ResolvConf: filepath.Join(dir, "resolv.conf"),
	}
}

// errTaken says that there is a container of that ID.
var errTaken = errors.New("the ID is taken")

// claim makes a container's directory, which no two containers have.
func (c Config) claim(id string) error {
	err := os.Mkdir(c.instanceDir(id), 0o711)
	if errors.Is(err, fs.ErrExist) {
		return errTaken
	}
	if err != nil {
		return fmt.Errorf("making its directory: %w", err)
	}
	return nil
}

// writeFiles fills a container's directory with what its network calls for.
func (c Config) writeFiles(in Instance) error {
	f := c.files(in.ID)
	contents := map[string][]byte{f.Hosts: isolatedHosts(in.ID)}
	switch {
	case launchspec.NetworkMode(in.Spec) == launchspec.NetworkHost:
		hosts, resolv, err := hostFiles()
		if err != nil {
			return err
		}
		contents = map[string][]byte{f.Hosts: hosts, f.ResolvConf: resolv}
	case in.attached != nil:
		contents = map[string][]byte{
			f.Hosts:      connectedHosts(in.ID, in.attached.Addresses),
			f.ResolvConf: in.attached.Resolv(c.Network.NameServers),
		}
	}
	for path, data := range contents {
		// Readable by all: the container's user need not be root.
		if err := os.WriteFile(path, data, 0o644); err != nil {
			return fmt.Errorf("writing %s: %w", path, err)
		}
	}
	return nil
}

// isolatedHosts are for a container that reaches nothing but itself.
func isolatedHosts(id string) []byte {
	return fmt.Appendf(nil, "%s127.0.1.1\t%s\n", localHosts, id)
}

const localHosts = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n"

// connectedHosts are for a container with addresses of its own.
func connectedHosts(id string, addresses []netip.Addr) []byte {
	hosts := []byte(localHosts)
	for _, a := range addresses {
		hosts = fmt.Appendf(hosts, "%s\t%s\n", a, id)
	}
	return hosts
}

// hostFiles are copies of the node's, as they are now.
func hostFiles() (hosts, resolv []byte, err error) {
	if hosts, err = readIfThere("/etc/hosts"); err != nil {
		return nil, nil, err
	}
	if resolv, err = readIfThere("/etc/resolv.conf"); err != nil {
		return nil, nil, err
	}
	return hosts, resolv, nil
}

func readIfThere(path string) ([]byte, error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return data, err
}

// mountPolicy, for the specs of an environment, adds purser's and containerd's own places to what is configured.
func (r *Runtime) mountPolicy(environment string) ocispec.MountPolicy {
	forbidden := []string{
		r.cfg.RunDir, r.cfg.LogDir, r.cfg.Address,
		"/run/containerd", "/var/lib/containerd", "/run/purser", "/var/lib/purser",
	}
	if r.cfg.RootDir != "" {
		forbidden = append(forbidden, r.cfg.RootDir)
	}
	policy := ocispec.MountPolicy{
		Roots:     r.cfg.AllowedRoots,
		Forbidden: append(forbidden, r.cfg.Forbidden...),
	}
	if r.cfg.VolumePath != nil {
		policy.Volume = func(name string) (string, error) { return r.cfg.VolumePath(environment, name) }
	}
	return policy
}

// host looks at the node once: its limits don't change under a process.
func (r *Runtime) host() (ocispec.Host, error) { return readHost() }

var readHost = sync.OnceValues(ocispec.ReadHost)

// removeFiles removes a container's directory with all that is in it.
func (c Config) removeFiles(id string) error {
	if err := os.RemoveAll(c.instanceDir(id)); err != nil {
		return fmt.Errorf("removing the files of container %s: %w", id, err)
	}
	return nil
}
