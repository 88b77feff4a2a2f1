// Package egress limits what a container may reach: nothing, or a list of CIDRs.
//
//	err := egress.Check()                     // can this kernel do it? says what it lacks
//	err = egress.Apply("/run/…/netns", egress.Policy{
//		Allowed:  []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")},
//		UDPPorts: []uint16{53},               // answered to whom asks through a gateway
//		Gateways: []netip.Addr{gateway},
//	})
//	n, err := egress.Dropped("/run/…/netns")  // packets so far
//
// # Where
//
// The rules are nftables', in the container's own network namespace. They vanish with it,
// need no agent once they are there, and nothing of the node's own rules is touched. A
// container cannot change them, as it lacks CAP_NET_ADMIN. There are two tables, both
// named purser:
//
//   - netdev, on the egress hook of each interface but loopback, is the wall. Every frame
//     that leaves passes it: those of the kernel, of packet sockets, and of gVisor, whose
//     own network stack writes frames to a packet socket.
//   - inet, on the output hook, has the same rules and is a courtesy: it refuses what the
//     other would drop, so that connect fails at once ("connection refused") instead of
//     after minutes, and sendto with "operation not permitted". The kernel has no reject
//     on the egress hook, so gVisor, which the output hook does not see, waits in vain.
//
// # What passes
//
// Only what is understood; the rest is dropped and counted:
//
//   - TCP, UDP, SCTP and ICMP to the allowed CIDRs, fragments as well;
//   - TCP to anywhere that is not the first packet of a connection;
//   - UDP from the published UDP ports to one of the gateways, at a port that the node
//     gives to clients (net.ipv4.ip_local_port_range), so not to a server on the node;
//   - ARP, and of IPv6 neighbour discovery, router solicitation and listener reports
//     with neighbours on the link, without which no address works.
//
// Names are looked up at DNS servers, so their addresses have to be allowed for it. IPv4
// options and IPv6 extension headers other than a fragment's never pass, whatever the
// address: source routes would lead on from an allowed one. Nor do VLAN tags, other
// protocols over Ethernet, and anything on an interface that is not Ethernet.
//
// # Why no state is kept
//
// A connection is followed by nothing here: no conntrack entry for each, no table that
// fills up. That is enough, because no TCP connection comes to be without a SYN, or SYN
// and ACK, from each side. The container's first SYN passes to allowed addresses alone;
// what answers a SYN from outside has an ACK with it, and so has all that follows. Other
// packets cannot be made at will: that takes raw or packet sockets, for which containers
// lack CAP_NET_RAW (package ocispec gives it to none, in gVisor neither), or TCP_REPAIR,
// for which they lack CAP_NET_ADMIN; a user namespace of their own gives them neither
// over this network. With such means a container could send packets out, one way; it
// would still open no connection. Who is outside and works together with a container can
// connect to it, and is then answered: what may come in is not this package's matter.
//
// UDP has no first packet. A container that answers on a published UDP port can send from
// it without being asked, to clients' ports of the gateway and nowhere else.
package egress
