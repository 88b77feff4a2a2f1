package egress

import (
	"encoding/binary"
	"net/netip"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

const (
	tableName   = "purser"
	counterName = "dropped"
	ip4Chain    = "ip4"
	ip6Chain    = "ip6"
)

// limits are a policy made for a namespace.
type limits struct {
	Policy
	place
	clientPorts uint16 // the lowest port that the node gives to clients
}

// place is what rules need to know of a namespace.
type place struct {
	loopback   int      // its index
	interfaces []string // all others
	neighbours []netip.Prefix
}

// ruleset collects a table of one family. All tables of a connection are sent at once, and
// take effect at once.
type ruleset struct {
	conn  *nftables.Conn
	table *nftables.Table
	err   error
}

func table(conn *nftables.Conn, family nftables.TableFamily) *ruleset {
	return &ruleset{conn: conn, table: conn.AddTable(&nftables.Table{Name: tableName, Family: family})}
}

// wall is what every frame that leaves has to pass.
func (l limits) wall(conn *nftables.Conn) error {
	r := table(conn, nftables.TableFamilyNetdev)
	r.counter()
	r.families(l)
	for _, name := range l.interfaces {
		chain := r.base("egress-"+name, nftables.ChainHookEgress, name)
		r.rule(chain, etherType.is(0x08, 0x06), accept()) // ARP
		r.rule(chain, etherType.is(0x08, 0x00), call(ip4Chain))
		r.rule(chain, etherType.is(0x86, 0xdd), call(ip6Chain))
		r.rule(chain, count(counterName), drop())
	}
	return r.err
}

// courtesy tells programs at once what the wall would have them wait for.
func (l limits) courtesy(conn *nftables.Conn) error {
	r := table(conn, nftables.TableFamilyINet)
	r.counter()
	r.families(l)
	chain := r.base("output", nftables.ChainHookOutput, "")
	r.rule(chain, outLoopback(l.loopback), accept())
	r.rule(chain, meta(expr.MetaKeyNFPROTO, unix.NFPROTO_IPV4), call(ip4Chain))
	r.rule(chain, meta(expr.MetaKeyNFPROTO, unix.NFPROTO_IPV6), call(ip6Chain))
	r.rule(chain, count(counterName))
	r.rule(chain, meta(expr.MetaKeyL4PROTO, unix.IPPROTO_TCP), resetTCP())
	r.rule(chain, prohibited())
	return r.err
}

// families adds a chain for each version of IP, which accepts what may pass.
func (r *ruleset) families(l limits) {
	published := r.ports("published", l.UDPPorts)
	r.ip4(l, published)
	r.ip6(l, published)
}

func (r *ruleset) ip4(l limits, published *nftables.Set) {
	chain := r.chain(ip4Chain)
	r.rule(chain, ip4Version.isNot(0x45), back()) // options
	if to := r.addresses("reachable4", nftables.TypeIPAddr, l.reachable(false)); to != nil {
		r.rule(chain, ip4Destination.in(to), ip4Protocol.in(r.transports(unix.IPPROTO_ICMP)), accept())
	}
	gateways := r.addresses("gateways4", nftables.TypeIPAddr, l.gateways(false))
	if published != nil && gateways != nil {
		answer := join(ip4Protocol.is(unix.IPPROTO_UDP), ip4Destination.in(gateways))
		r.rule(chain, answer, ip4Fragment.masked([]byte{0x1f, 0xff}, expr.CmpOpNeq, 0, 0), accept())
		r.rule(chain, answer, fromPort(ip4Length, published, l.clientPorts), accept())
	}
	r.rule(chain, ip4Fragment.masked([]byte{0x3f, 0xff}, expr.CmpOpNeq, 0, 0), back())
	r.rule(chain, ip4Protocol.is(unix.IPPROTO_TCP), begun(ip4Length), accept())
}

func (r *ruleset) ip6(l limits, published *nftables.Set) {
	chain := r.chain(ip6Chain)
	r.neighbourhood(chain, l)
	if to := r.addresses("reachable6", nftables.TypeIP6Addr, l.reachable(true)); to != nil {
		r.rule(chain, ip6Destination.in(to), ip6Next.in(r.transports(unix.IPPROTO_ICMPV6)), accept())
		r.rule(chain, ip6Destination.in(to), ip6Next.is(unix.IPPROTO_FRAGMENT), ip6After.in(r.transports(unix.IPPROTO_ICMPV6)), accept())
	}
	gateways := r.addresses("gateways6", nftables.TypeIP6Addr, l.gateways(true))
	if published != nil && gateways != nil {
		r.rule(chain, ip6Next.is(unix.IPPROTO_UDP), ip6Destination.in(gateways), fromPort(ip6Length, published, l.clientPorts), accept())
		r.fragments6(chain, ip6Destination.in(gateways), fromPort(ip6Length+ip6FragmentLength, published, l.clientPorts))
	}
	r.rule(chain, ip6Next.is(unix.IPPROTO_TCP), begun(ip6Length), accept())
}

// fragments6 lets UDP's pass: the first by its ports, and those that follow, which are
// nothing without it.
func (r *ruleset) fragments6(chain *nftables.Chain, to, ports condition) {
	answer := join(ip6Next.is(unix.IPPROTO_FRAGMENT), ip6After.is(unix.IPPROTO_UDP), to)
	r.rule(chain, answer, ip6Fragment.masked([]byte{0xff, 0xf8}, expr.CmpOpNeq, 0, 0), accept())
	r.rule(chain, answer, ip6Fragment.masked([]byte{0xff, 0xf8}, expr.CmpOpEq, 0, 0), ports, accept())
}

// neighbourhood lets pass what an IPv6 address needs to work at all. No router sends it
// on: neighbour discovery, hop limit 255, goes to addresses on the link alone (RFC 4861,
// 6.1 and 7.1), and so do reports of multicast listeners, hop limit 1 (RFC 3810, 5).
func (r *ruleset) neighbourhood(chain *nftables.Chain, l limits) {
	link := append(slices.Clone(linkLocal), l.neighbours...)
	neighbours := r.addresses("neighbours6", nftables.TypeIP6Addr, spans(family(link, true)))
	const routerSolicitation, solicitation, advertisement = 133, 135, 136
	discovery := r.anonymous(nftables.TypeICMP6Type, routerSolicitation, solicitation, advertisement)
	r.rule(chain, ip6Next.is(unix.IPPROTO_ICMPV6), ip6HopLimit.is(255), ip6Destination.in(neighbours),
		icmpType(ip6Length).in(discovery), accept())

	const report1, done1, report2 = 131, 132, 143
	const routerAlert = 8 // the length of a hop-by-hop header with nothing else
	listeners := r.anonymous(nftables.TypeICMP6Type, report1, done1, report2)
	r.rule(chain, ip6Next.is(unix.IPPROTO_HOPOPTS), ip6HopLimit.is(1), ip6Destination.in(neighbours),
		ip6After.is(unix.IPPROTO_ICMPV6), ip6AfterLength.is(0),
		icmpType(ip6Length+routerAlert).in(listeners), accept())
}

var linkLocal = []netip.Prefix{netip.MustParsePrefix("fe80::/10"), netip.MustParsePrefix("ff02::/16")}

// begun is met by TCP that does not begin a connection: no SYN, or one with an ACK.
func begun(start uint32) condition {
	const syn, ack = 0x02, 0x10
	return tcpFlags(start).masked([]byte{syn | ack}, expr.CmpOpNeq, syn)
}

// fromPort is met by UDP from a published port to a client's.
func fromPort(start uint32, published *nftables.Set, clients uint16) condition {
	return join(sourcePort(start).in(published), destinationPort(start).atLeast(clients))
}

func join(conditions ...condition) condition { return slices.Concat(conditions...) }

// base adds a chain that the kernel calls. What its rules leave open is dropped.
func (r *ruleset) base(name string, hook *nftables.ChainHook, device string) *nftables.Chain {
	policy := nftables.ChainPolicyDrop
	return r.conn.AddChain(&nftables.Chain{
		Name: name, Table: r.table, Type: nftables.ChainTypeFilter, Hooknum: hook,
		Priority: nftables.ChainPriorityFilter, Policy: &policy, Device: device,
	})
}

// chain adds one that is called from others.
func (r *ruleset) chain(name string) *nftables.Chain {
	return r.conn.AddChain(&nftables.Chain{Name: name, Table: r.table})
}

func (r *ruleset) rule(chain *nftables.Chain, parts ...condition) {
	r.conn.AddRule(&nftables.Rule{Table: r.table, Chain: chain, Exprs: join(parts...)})
}

func (r *ruleset) counter() {
	r.conn.AddObj(&nftables.CounterObj{Table: r.table, Name: counterName})
}

// addresses adds a set of them, or none when it would be empty.
func (r *ruleset) addresses(name string, kind nftables.SetDatatype, all []span) *nftables.Set {
	var elements []nftables.SetElement
	for _, s := range all {
		elements = append(elements, nftables.SetElement{Key: s.first.AsSlice()})
		if s.end.IsValid() {
			elements = append(elements, nftables.SetElement{Key: s.end.AsSlice(), IntervalEnd: true})
		}
	}
	return r.set(&nftables.Set{Name: name, KeyType: kind, Interval: true}, elements)
}

func (r *ruleset) ports(name string, all []uint16) *nftables.Set {
	var elements []nftables.SetElement
	for _, p := range slices.Compact(slices.Sorted(slices.Values(all))) {
		elements = append(elements, nftables.SetElement{Key: binary.BigEndian.AppendUint16(nil, p)})
	}
	return r.set(&nftables.Set{Name: name, KeyType: nftables.TypeInetService}, elements)
}

// transports are the protocols that carry data to an allowed address. They are looked at
// by name, so that IPv6's extension headers, which are numbered like them, do not pass.
func (r *ruleset) transports(icmp byte) *nftables.Set {
	return r.anonymous(nftables.TypeInetProto, unix.IPPROTO_TCP, unix.IPPROTO_UDP, unix.IPPROTO_SCTP, icmp)
}

// anonymous adds a set of bytes for one rule: the kernel takes it in no other.
func (r *ruleset) anonymous(kind nftables.SetDatatype, all ...byte) *nftables.Set {
	var elements []nftables.SetElement
	for _, b := range all {
		elements = append(elements, nftables.SetElement{Key: []byte{b}})
	}
	return r.set(&nftables.Set{Anonymous: true, Constant: true, KeyType: kind}, elements)
}

func (r *ruleset) set(s *nftables.Set, elements []nftables.SetElement) *nftables.Set {
	if len(elements) == 0 {
		return nil
	}
	s.Table = r.table
	if err := r.conn.AddSet(s, elements); err != nil && r.err == nil {
		r.err = err
	}
	return s
}
