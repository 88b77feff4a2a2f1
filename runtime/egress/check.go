package egress

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"

	"github.com/purserd/purser/runtime/netns"
)

// Check tries all that policies need, in a network namespace that is gone afterwards. Its
// error says what the kernel lacks, and what to do.
func Check() error {
	return netns.DoInNew(func() error { return check(needs) })
}

// need is something of the kernel's.
type need struct {
	what, options string // in words, and in those of its configuration
	try           func() error
}

// needs are in order: each takes those before it.
var needs = []need{
	{"nftables for network devices", "CONFIG_NF_TABLES, CONFIG_NF_TABLES_NETDEV", tryTables},
	{"the egress hook of network devices, which Linux has since 5.16", "CONFIG_NETFILTER_EGRESS", tryEgress},
	{"rejecting packets in nftables", "CONFIG_NF_TABLES_INET, CONFIG_NFT_REJECT, CONFIG_NFT_REJECT_INET", tryReject},
	{"all that the rules are made of", "CONFIG_NF_TABLES", tryAll},
}

// check finds the first need that is not met on the calling thread's network.
func check(needs []need) error {
	for _, n := range needs {
		err := n.try()
		if errors.Is(err, unix.EPERM) {
			return fmt.Errorf("limiting what containers reach: %w: the agent needs CAP_NET_ADMIN", err)
		}
		if err != nil {
			return fmt.Errorf("the kernel cannot limit what containers reach: it lacks %s (%w): "+
				"load its nf_tables modules, or use a kernel of 5.16 or later with %s", n.what, err, n.options)
		}
	}
	return nil
}

func tryTables() error {
	conn := &nftables.Conn{}
	table(conn, nftables.TableFamilyNetdev).counter()
	return conn.Flush()
}

func tryEgress() error {
	conn := &nftables.Conn{}
	table(conn, nftables.TableFamilyNetdev).base("try", nftables.ChainHookEgress, loopback)
	return conn.Flush()
}

func tryReject() error {
	conn := &nftables.Conn{}
	r := table(conn, nftables.TableFamilyINet)
	r.rule(r.base("try", nftables.ChainHookOutput, ""), prohibited())
	return conn.Flush()
}

// tryAll has a rule of every kind, on the only interface that there is.
func tryAll() error {
	conn := &nftables.Conn{}
	all := netip.IPv6Unspecified()
	l := limits{place: place{interfaces: []string{loopback}}, Policy: Policy{
		Allowed:  []netip.Prefix{netip.PrefixFrom(all, 0), netip.PrefixFrom(netip.IPv4Unspecified(), 0)},
		UDPPorts: []uint16{1},
		Gateways: []netip.Addr{all, netip.IPv4Unspecified()},
	}}
	return cmp.Or(errors.Join(l.wall(conn), l.courtesy(conn)), conn.Flush())
}

const loopback = "lo"
