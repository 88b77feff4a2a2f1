package dev

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/google/renameio/v2"
	"github.com/pelletier/go-toml/v2"

	"github.com/purserd/purser/agent/config"
)

// unneeded are containerd's plugins that a node does not use; some have
// another name in each version. They cost start-up time, or warnings about
// what this machine lacks. A name that a version does not know is ignored.
var unneeded = []string{
	"io.containerd.grpc.v1.cri",
	"io.containerd.cri.v1.images",
	"io.containerd.cri.v1.runtime",
	"io.containerd.podsandbox.controller.v1.podsandbox",
	"io.containerd.image-verifier.v1.bindir",
	"io.containerd.internal.v1.opt",
	"io.containerd.internal.v1.restart",
	"io.containerd.internal.v1.tracing",
	"io.containerd.monitor.container.v1.restart",
	"io.containerd.nri.v1.nri",
	"io.containerd.snapshotter.v1.aufs",
	"io.containerd.snapshotter.v1.blockfile",
	"io.containerd.snapshotter.v1.btrfs",
	"io.containerd.snapshotter.v1.devmapper",
	"io.containerd.snapshotter.v1.erofs",
	"io.containerd.snapshotter.v1.zfs",
	"io.containerd.tracing.processor.v1.otlp",
}

// containerdConfig is the part of containerd's file that differs from its
// defaults. Without addresses, debug and metrics endpoints are off.
type containerdConfig struct {
	// Version 2 is what 1.6 and 2.x both read.
	Version         int              `toml:"version"`
	Root            string           `toml:"root"`
	State           string           `toml:"state"`
	DisabledPlugins []string         `toml:"disabled_plugins"`
	GRPC            containerdSocket `toml:"grpc"`
}

type containerdSocket struct {
	Address string `toml:"address"`
}

func (l *layout) containerdConfig() containerdConfig {
	return containerdConfig{
		Version:         2,
		Root:            l.path("containerd", "root"),
		State:           l.path("containerd", "state"),
		DisabledPlugins: unneeded,
		GRPC:            containerdSocket{Address: l.containerdSocket()},
	}
}

// own are the keys that make the node what it is.
func own(c *config.Config) map[string]string {
	return map[string]string{
		"state_dir": c.StateDir, "run_dir": c.RunDir, "socket": c.Socket, "cgroup_parent": c.CgroupParent,
		"containerd.address": c.Containerd.Address, "containerd.namespace": c.Containerd.Namespace,
		"network.bridge": c.Network.Bridge,
	}
}

// configure returns the agent's configuration: that of a file, empty for none, over
// the node's own.
func (l *layout) configure(p *programs, file string) (*config.Config, error) {
	c := l.agentConfig(p)
	if file == "" {
		return c, nil
	}
	before := own(c)
	if err := c.Over(file); err != nil {
		return nil, err
	}
	var errs []error
	after := own(c)
	for _, key := range slices.Sorted(maps.Keys(after)) {
		if after[key] != before[key] {
			errs = append(errs, fmt.Errorf("%s: %s cannot be set for purser dev, which sets it itself: leave it out of the file", file, key))
		}
	}
	return c, errors.Join(errs...)
}

// agentConfig differs from the daemon's defaults in what two nodes on one
// machine must not share.
func (l *layout) agentConfig(p *programs) *config.Config {
	c := config.Default()
	c.StateDir = l.path("state")
	c.RunDir = l.path("run")
	c.Socket = l.agentSocket()
	c.CgroupParent = l.cgroupParent()
	c.AllowedRoots = []string{}
	c.Containerd.Address = l.containerdSocket()
	c.Containerd.Namespace = namespace
	c.Metrics.Address = "127.0.0.1:0"
	c.Network.Bridge = l.bridge()
	c.Network.CNIConfigDir = l.path("net.d")
	c.Network.Subnets, c.Network.NameServers = []string{}, []string{}
	c.Secrets.Identity = l.path("state", "identity.age")
	c.Secrets.Recipients = []string{}
	c.DefaultRuntime = "runc"
	c.Runtimes = map[string]config.Runtime{"runc": {Path: p.runc, Options: map[string]any{}}}
	for name, path := range p.others {
		c.Runtimes[name] = config.Runtime{Path: path, Options: map[string]any{}}
	}
	return c
}

func (l *layout) writeConfigs(agent *config.Config) error {
	if err := writeTOML(l.path("containerd.toml"), l.containerdConfig()); err != nil {
		return err
	}
	return writeTOML(l.path("agent.toml"), agent)
}

func writeTOML(path string, value any) error {
	data, err := toml.Marshal(value)
	if err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	note := []byte("# Written by purser dev on every start; changes are lost.\n")
	if err := renameio.WriteFile(path, append(note, data...), 0o600); err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	return nil
}
