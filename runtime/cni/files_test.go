package cni

import (
	"slices"
	"strings"
	"testing"
)

// A container gets those of the node's name servers that it can reach.
func TestNodeResolv(t *testing.T) {
	const resolved = "nameserver 192.0.2.2\nnameserver 127.0.0.9\nsearch behind\n"
	for name, tc := range map[string]struct{ main, want string }{
		"as it is":         {"# a comment\nnameserver 192.0.2.1\nnameserver 2001:db8::1\nsearch a b\noptions ndots:2\n", "nameserver 192.0.2.1\nnameserver 2001:db8::1\nsearch a b\noptions ndots:2\n"},
		"some on loopback": {"nameserver 127.0.0.1\nnameserver 192.0.2.1\n", "nameserver 192.0.2.1\n"},
		"of an interface":  {"nameserver fe80::1%eth0\nnameserver 192.0.2.1\n", "nameserver 192.0.2.1\n"},
		"all on loopback":  {"nameserver 127.0.0.53\noptions edns0\nsearch stub\n", "nameserver 192.0.2.2\nsearch behind\n"},
		"nobody":           {"search a\n", "search a\n"},
		"nothing":          {"", ""},
	} {
		if got := string(nodeResolv([]byte(tc.main), []byte(resolved)).text()); got != tc.want {
			t.Errorf("%s: got %q, want %q", name, got, tc.want)
		}
	}
}

// Of the routes those count that lead anywhere, and that a router has advertised.
func TestAdvertised(t *testing.T) {
	const table = `00000000000000000000000000000000 00 00000000000000000000000000000000 00 fe800000000000000000000000000001 00000400 00000002 00000000 00450003 eth0
00000000000000000000000000000000 00 00000000000000000000000000000000 00 fe800000000000000000000000000002 00000400 00000002 00000000 00000003 eth1
20010db8000000000000000000000000 40 00000000000000000000000000000000 00 00000000000000000000000000000000 00000100 00000001 00000000 00440001 eth2
00000000000000000000000000000000 00 00000000000000000000000000000000 00 00000000000000000000000000000000 ffffffff 00000001 00000000 00200200       lo
`
	if got := advertised(strings.NewReader(table)); !slices.Equal(got, []string{"eth0"}) {
		t.Errorf("got %v", got)
	}
}
