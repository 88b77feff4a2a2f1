package ocispec

import (
	"slices"
	"testing"

	purserv1 "github.com/purserd/purser/api/purser/v1"
)

// Without these no container changes what limits its network, or writes packets that its
// node's kernel has not made: what package egress builds on.
func TestNoRightsOverNetworks(t *testing.T) {
	for _, mode := range []string{"none", "bridge", "host"} {
		for _, user := range []string{"root", "app"} {
			s, err := Build(params(&purserv1.LaunchSpec{User: &user, Network: &purserv1.Network{Mode: &mode}}))
			if err != nil {
				t.Fatal(err)
			}
			c := s.Process.Capabilities
			for _, set := range [][]string{c.Bounding, c.Effective, c.Permitted, c.Inheritable, c.Ambient} {
				for _, right := range []string{"CAP_NET_RAW", "CAP_NET_ADMIN", "CAP_SYS_ADMIN", "CAP_BPF"} {
					if slices.Contains(set, right) {
						t.Errorf("mode %s, user %s: has %s", mode, user, right)
					}
				}
			}
		}
	}
}
