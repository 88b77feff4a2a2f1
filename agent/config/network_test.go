package config

import (
	"slices"
	"strings"
	"testing"
)

func TestNetwork(t *testing.T) {
	c, err := Parse("config.toml", []byte("[network]\ndefault_mode = 'none'\nsubnets = ['10.1.0.0/16', 'fd00:1::/64']\nname_servers = ['192.0.2.1', '::1']\nmtu = 1280\npool = 0"))
	if err != nil {
		t.Fatal(err)
	}
	if n := c.Network; n.DefaultMode != "none" || !slices.Equal(n.Subnets, []string{"10.1.0.0/16", "fd00:1::/64"}) || n.MTU != 1280 || n.Pool != 0 || n.Bridge != "purser0" {
		t.Errorf("got %+v", n)
	}
}

func TestNetworkThatCannotBe(t *testing.T) {
	for in, want := range map[string]string{
		"default_mode = 'bridged'":                 "network.default_mode: \"bridged\" is neither none, host nor bridge",
		"bridge = 'a-name-of-16-char'":             "network.bridge: \"a-name-of-16-char\" is not a name of an interface",
		"bridge = 'a/b'":                           "network.bridge",
		"mtu = 1000":                               "network.mtu: 1000 is not from 1280",
		"pool = 65":                                "network.pool: 65 is not from 0 to 64",
		"cni_plugin_dirs = ['cni']":                "network.cni_plugin_dirs: \"cni\" is not an absolute path",
		"cni_config_dir = 'cni'":                   "network.cni_config_dir: \"cni\" is not an absolute path",
		"subnets = ['10.1.2.3/16']":                "network.subnets: \"10.1.2.3/16\" is not a subnet",
		"subnets = ['10.1.0.0/16', '10.2.0.0/16']": "network.subnets: has two of one family",
		"subnets = ['10.1.0.0/30']":                "network.subnets: 10.1.0.0/30 has no room",
		"name_servers = ['dns.example']":           "network.name_servers: \"dns.example\" is not an IP address",
		"brigde = 'x'":                             "did you mean network.bridge?",
	} {
		if _, err := Parse("config.toml", []byte("[network]\n"+in)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want it to contain %q", in, err, want)
		}
	}
}
