package launchspec

import (
	"net/netip"

	purserv1 "github.com/purserd/purser/api/purser/v1"
)

// NetworkMode is [NetworkNone], [NetworkHost] or [NetworkBridge]. A spec that names none
// is given the node's when it is accepted; until then what only a bridge has asks for one.
func NetworkMode(s *purserv1.LaunchSpec) string {
	n := s.GetNetwork()
	if n.GetMode() == "" && needsBridge(n) {
		return NetworkBridge
	}
	return stringOr(n.GetMode(), NetworkNone)
}

// needsBridge tells whether something is asked for that other modes do not have.
func needsBridge(n *purserv1.Network) bool {
	return len(n.GetPorts()) > 0 || n.GetBlockNetwork() || len(n.GetCidrAllowlist()) > 0
}

// HostPortOf is the port of the node's that leads to a container's.
func HostPortOf(p *purserv1.Port) uint16 {
	if p.Host == nil {
		return uint16(p.GetContainer())
	}
	return uint16(p.GetHost())
}

// Protocol is [ProtocolTCP] or [ProtocolUDP].
func Protocol(p *purserv1.Port) string { return stringOr(p.GetProtocol(), DefaultProtocol) }

// HostIP is the address that a port is bound to; not valid when it is all.
func HostIP(p *purserv1.Port) netip.Addr {
	ip, _ := netip.ParseAddr(p.GetHostIp())
	return ip.Unmap()
}

// CIDRs are what a container may reach; all when there are none and nothing is blocked.
func CIDRs(s *purserv1.LaunchSpec) []netip.Prefix {
	var all []netip.Prefix
	for _, text := range s.GetNetwork().GetCidrAllowlist() {
		if p, err := netip.ParsePrefix(text); err == nil {
			all = append(all, p.Masked())
		}
	}
	return all
}

// network checks what the rules of single fields cannot say.
func (c *collector) network(s *purserv1.LaunchSpec) {
	n := s.GetNetwork()
	if mode := n.GetMode(); mode != "" && mode != NetworkBridge && needsBridge(n) {
		c.add(path{"network", "mode"}, "network.bridge", "must be bridge, or left out: ports, block_network and cidr_allowlist belong to it")
	}
	if n.GetBlockNetwork() && len(n.GetCidrAllowlist()) > 0 {
		c.add(path{"network", "cidr_allowlist"}, "network.blocked", "must not be given with block_network, which lets nothing be reached")
	}
	for i, p := range n.GetPorts() {
		at := path{"network", "ports", i}
		if p.GetProxyProtocol() != "" && Protocol(p) == ProtocolUDP {
			c.add(at.join("proxy_protocol"), "port.proxy", "must be left out: the PROXY protocol belongs to tcp")
		}
		if wrong := wrongHostIP(HostIP(p)); wrong != "" {
			c.add(at.join("host_ip"), "port.host_ip", "must be an address of the node's: %s", wrong)
		}
		for _, other := range n.GetPorts()[:i] {
			if hostPort(p).Conflicts(hostPort(other)) {
				c.add(at.join("host"), "port.unique", "must not name a port of the node twice: without host_ip it is that of all addresses")
				break
			}
		}
	}
}

// wrongHostIP says why no port can be bound to an address on any node; empty if one may be.
func wrongHostIP(ip netip.Addr) string {
	switch {
	case ip.IsMulticast(), ip == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return "no node has this one for itself"
	case ip.Is6() && ip.IsLinkLocalUnicast() && ip.Zone() == "":
		return "one that is of a link needs its interface, as fe80::1%eth0"
	}
	return ""
}

func hostPort(p *purserv1.Port) HostPort { return HostPort{Protocol(p), HostIP(p), HostPortOf(p)} }

// HostPort is a port of the node's, on one of its addresses, or on all when IP is not
// valid.
type HostPort struct {
	Protocol string
	IP       netip.Addr
	Port     uint16
}

// Conflicts tells whether only one of two can be bound.
func (b HostPort) Conflicts(other HostPort) bool {
	return b.Protocol == other.Protocol && b.Port == other.Port && b.covers(other.IP) && other.covers(b.IP)
}

// covers tells whether an address, or the lack of one, has something in common with the
// port's.
func (b HostPort) covers(ip netip.Addr) bool {
	switch {
	case !b.IP.IsValid() || !ip.IsValid() || b.IP == ip:
		return true
	case b.IP.Is4() != ip.Is4():
		return false
	}
	return b.IP.IsUnspecified() || ip.IsUnspecified()
}
