package cni

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/invoke"
)

// Config says what the network is like.
type Config struct {
	// PluginDirs are where the plugins may be.
	PluginDirs []string
	// ConfigDir has the node's own configuration; without any there the bridge is used.
	ConfigDir string
	// Network is the name of the one that is used of several in ConfigDir: the first by file
	// name when empty.
	Network string
	// Bridge is the interface that containers are connected to.
	Bridge string
	// Subnets are the addresses of containers on the bridge, one of each family at most;
	// free ones are chosen, and kept, when there are none.
	Subnets []netip.Prefix
	// MTU of the containers' interfaces on the bridge; that of the node's way out when 0.
	MTU int
	// NameServers of the containers; those of the configuration or the node when empty.
	NameServers []netip.Addr
	// Pool is how many attachments are kept ready.
	Pool int
	// RunDir has what ends with a boot: the namespaces, and the addresses in use.
	RunDir string
	// StateDir has what has to outlast one: the records, and the bridge's subnets.
	StateDir string
	// Log gets what no caller can be told; slog.Default when nil.
	Log *slog.Logger `json:"-"`
	// Observe, if not nil, is told of each attachment that was connected (Add) or
	// disconnected (Del), or was not: one of Results.
	Observe func(operation, result string, took time.Duration) `json:"-"`
}

// What Observe is told of.
const (
	Add = "add"
	Del = "del"

	OK        = "ok"
	Exhausted = "exhausted"
	Failed    = "error"
)

// Operations and Results are all of them.
var (
	Operations = []string{Add, Del}
	Results    = []string{OK, Exhausted, Failed}
)

func (c Config) recordDir() string { return filepath.Join(c.StateDir, "attachments") }
func (c Config) cacheDir() string  { return filepath.Join(c.StateDir, "cache") }
func (c Config) pinDir() string    { return filepath.Join(c.RunDir, "netns") }
func (c Config) ipamDir() string   { return filepath.Join(c.RunDir, "addresses") }

func (c Config) makeDirs() error {
	for _, dir := range []string{c.recordDir(), c.cacheDir(), c.pinDir(), c.ipamDir()} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return fmt.Errorf("making a directory for the container network: %w", err)
		}
	}
	return nil
}

// own reads the node's own configuration; nil when it has none.
func (c Config) own() (*libcni.NetworkConfigList, error) {
	files, err := libcni.ConfFiles(c.ConfigDir, []string{".conf", ".conflist", ".json"})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("reading the CNI configuration in %s: %w", c.ConfigDir, err)
	}
	slices.Sort(files)
	var names []string
	for _, file := range files {
		list, err := readList(file)
		if err != nil {
			return nil, fmt.Errorf("reading the CNI configuration %s: %w", file, err)
		}
		if c.Network == "" || list.Name == c.Network {
			return list, nil
		}
		names = append(names, list.Name)
	}
	if c.Network != "" {
		return nil, fmt.Errorf("no CNI network %q is configured in %s (there is: %s); see network.cni_network in the configuration", c.Network, c.ConfigDir, strings.Join(names, ", "))
	}
	return nil, nil
}

func readList(file string) (*libcni.NetworkConfigList, error) {
	if filepath.Ext(file) == ".conflist" {
		return libcni.NetworkConfFromFile(file)
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	return listOfOne(data)
}

// listOfOne makes a list of one plugin's configuration, as CNI had it before it had lists.
func listOfOne(data []byte) (*libcni.NetworkConfigList, error) {
	var one struct {
		CNIVersion string `json:"cniVersion"`
		Name       string `json:"name"`
		Type       string `json:"type"`
	}
	if err := json.Unmarshal(data, &one); err != nil {
		return nil, err
	}
	if one.Type == "" {
		return nil, errors.New("it names no plugin (type)")
	}
	list, err := json.Marshal(map[string]any{
		"cniVersion": one.CNIVersion, "name": one.Name, "plugins": []json.RawMessage{data},
	})
	if err != nil {
		return nil, err
	}
	return libcni.NetworkConfFromBytes(list)
}

// MissingError says that plugins are not installed.
type MissingError struct {
	Plugins, Dirs []string
}

func (e *MissingError) Error() string {
	noun := "plugin"
	if len(e.Plugins) > 1 {
		noun = "plugins"
	}
	return fmt.Sprintf("the node has no CNI %s %s, which a bridge network needs (looked in %s): install them (Debian: apt-get install containernetworking-plugins), or say where they are in the configuration (network.cni_plugin_dirs)",
		noun, strings.Join(e.Plugins, ", "), strings.Join(e.Dirs, ", "))
}

// missing says which plugins of a network are not there; nil for none.
func (c Config) missing(list *libcni.NetworkConfigList) error {
	var missing []string
	for _, p := range list.Plugins {
		for _, name := range []string{p.Network.Type, p.Network.IPAM.Type} {
			if name == "" || slices.Contains(missing, name) {
				continue
			}
			if _, err := invoke.FindInPath(name, c.PluginDirs); err != nil {
				missing = append(missing, name)
			}
		}
	}
	if len(missing) == 0 {
		return nil
	}
	return &MissingError{Plugins: missing, Dirs: c.PluginDirs}
}
