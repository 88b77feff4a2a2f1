package config

import (
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"regexp"
)

// Network says how containers are connected.
type Network struct {
	// DefaultMode is that of specs that name none: bridge where CNI works on the node,
	// else none, when empty.
	DefaultMode string `toml:"default_mode"`
	// CNIPluginDirs are where the CNI plugins may be.
	CNIPluginDirs []string `toml:"cni_plugin_dirs"`
	// CNIConfigDir has the node's own CNI configuration; without any there the bridge below
	// is used.
	CNIConfigDir string `toml:"cni_config_dir"`
	// CNINetwork is the name of the one that is used of several in CNIConfigDir: the first
	// by file name when empty.
	CNINetwork string `toml:"cni_network"`
	// Bridge is the interface that containers are connected to.
	Bridge string `toml:"bridge"`
	// Subnets are the addresses of containers: one of each family at most. Free ones are
	// chosen once, and kept, when empty.
	Subnets []string `toml:"subnets"`
	// MTU of the containers' interfaces; that of the node's way out when 0.
	MTU int `toml:"mtu"`
	// NameServers of containers on the bridge; those of the node when empty.
	NameServers []string `toml:"name_servers"`
	// Pool is how many connected network namespaces are kept ready for launches.
	Pool int `toml:"pool"`
}

var defaultNetwork = Network{
	CNIPluginDirs: []string{"/opt/cni/bin", "/usr/lib/cni", "/usr/libexec/cni"},
	CNIConfigDir:  "/etc/cni/net.d",
	Bridge:        "purser0",
	Pool:          4,
}

// interfaceName is what the kernel takes for one, of 15 bytes at most.
var interfaceName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,14}$`)

func (n *Network) check() error {
	errs := []error{n.checkDirs(), n.checkAddresses()}
	switch n.DefaultMode {
	case "", "none", "host", "bridge":
	default:
		errs = append(errs, fmt.Errorf("network.default_mode: %q is neither none, host nor bridge", n.DefaultMode))
	}
	if !interfaceName.MatchString(n.Bridge) {
		errs = append(errs, fmt.Errorf("network.bridge: %q is not a name of an interface, which has 15 characters at most", n.Bridge))
	}
	// IPv6 wants 1280 (RFC 8200, section 5).
	if n.MTU != 0 && (n.MTU < 1280 || n.MTU > 65535) {
		errs = append(errs, fmt.Errorf("network.mtu: %d is not from 1280 to 65535", n.MTU))
	}
	if n.Pool < 0 || n.Pool > 64 {
		errs = append(errs, fmt.Errorf("network.pool: %d is not from 0 to 64", n.Pool))
	}
	return errors.Join(errs...)
}

func (n *Network) checkDirs() error {
	var errs []error
	for _, dir := range n.CNIPluginDirs {
		if !filepath.IsAbs(dir) {
			errs = append(errs, fmt.Errorf("network.cni_plugin_dirs: %q is not an absolute path", dir))
		}
	}
	if !filepath.IsAbs(n.CNIConfigDir) {
		errs = append(errs, fmt.Errorf("network.cni_config_dir: %q is not an absolute path", n.CNIConfigDir))
	}
	return errors.Join(errs...)
}

func (n *Network) checkAddresses() error {
	var errs []error
	families := map[bool]bool{}
	for _, text := range n.Subnets {
		p, err := netip.ParsePrefix(text)
		switch {
		case err != nil || p.Masked() != p:
			errs = append(errs, fmt.Errorf("network.subnets: %q is not a subnet such as 10.213.0.0/20", text))
			continue
		case families[p.Addr().Is6()]:
			errs = append(errs, errors.New("network.subnets: has two of one family"))
		case p.Addr().BitLen()-p.Bits() < 3:
			errs = append(errs, fmt.Errorf("network.subnets: %s has no room for containers", p))
		}
		families[p.Addr().Is6()] = true
	}
	for _, text := range n.NameServers {
		if _, err := netip.ParseAddr(text); err != nil {
			errs = append(errs, fmt.Errorf("network.name_servers: %q is not an IP address", text))
		}
	}
	return errors.Join(errs...)
}
