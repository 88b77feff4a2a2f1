package cni_test

import (
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"github.com/purserd/purser/runtime/cni"
)

// Nobody is given an address that somebody has, though the files are lost that say so.
func TestLostAddresses(t *testing.T) {
	n := newNode(t, func(c *cni.Config) { c.Pool = 0 })
	has := map[netip.Addr]string{}
	claim := func(owner string) {
		t.Helper()
		for _, ip := range n.claim(owner).Addresses {
			if other := has[ip]; other != "" {
				t.Errorf("%s has %s, which %s has", owner, ip, other)
			}
			has[ip] = owner
		}
	}
	lose := func() {
		t.Helper()
		if err := os.RemoveAll(filepath.Join(n.cfg.RunDir, "addresses", n.cfg.Bridge)); err != nil {
			t.Fatal(err)
		}
	}
	claim("a")
	claim("b")
	lose()
	claim("c")
	if got := n.addresses(); len(got) != 3 {
		t.Errorf("in use are %v", got)
	}
	lose()
	n.open()
	if got := n.addresses(); len(got) != 3 {
		t.Errorf("to the next agent in use are %v", got)
	}
	claim("d")
}
