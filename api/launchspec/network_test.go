package launchspec_test

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/purserd/purser/api/launchspec"
	purserv1 "github.com/purserd/purser/api/purser/v1"
)

func TestNetworkMode(t *testing.T) {
	for fields, want := range map[string]string{
		``: "none", `"network": {}`: "none", `"network": {"mode": "host"}`: "host", `"network": {"mode": "bridge"}`: "bridge",
		`"network": {"ports": [{"container": 1}]}`: "bridge", `"network": {"block_network": true}`: "bridge",
		`"network": {"cidr_allowlist": ["::/0"]}`: "bridge", `"network": {"block_network": false}`: "none",
	} {
		if got := launchspec.NetworkMode(withFields(t, fields)); got != want {
			t.Errorf("%s: got %s, want %s", fields, got, want)
		}
	}
}

func TestPorts(t *testing.T) {
	s := withFields(t, `"network": {"ports": [{"container": 80}, {"container": 81, "host": 8081, "host_ip": "::ffff:10.0.0.1", "protocol": "udp"}]}`)
	least, full := s.GetNetwork().GetPorts()[0], s.GetNetwork().GetPorts()[1]
	if launchspec.HostPortOf(least) != 80 || launchspec.Protocol(least) != "tcp" || launchspec.HostIP(least).IsValid() {
		t.Errorf("the least means port %d, %s, %v", launchspec.HostPortOf(least), launchspec.Protocol(least), launchspec.HostIP(least))
	}
	if launchspec.HostPortOf(full) != 8081 || launchspec.Protocol(full) != "udp" || launchspec.HostIP(full) != netip.MustParseAddr("10.0.0.1") {
		t.Errorf("the other means port %d, %s, %v", launchspec.HostPortOf(full), launchspec.Protocol(full), launchspec.HostIP(full))
	}
}

func TestCIDRs(t *testing.T) {
	s := withFields(t, `"network": {"cidr_allowlist": ["10.1.2.3/8", "fd00::1/64"]}`)
	want := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/64")}
	if got := launchspec.CIDRs(s); !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// withFields is a spec with fields beside those that each needs.
func withFields(t *testing.T, fields string) *purserv1.LaunchSpec {
	t.Helper()
	if fields != "" {
		fields = ", " + fields
	}
	return spec(t, `{"app": "a", "function": "f", "image": {"ref": "busybox"}`+fields+`}`)
}
