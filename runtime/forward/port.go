package forward

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"

	"github.com/purserd/purser/api/launchspec"
)

// Protocols of a port.
const (
	TCP = "tcp"
	UDP = "udp"
)

// Versions of HAProxy's PROXY protocol.
const (
	ProxyV1 = "v1"
	ProxyV2 = "v2"
)

// Port is one of the node's that leads to one of a container's.
type Port struct {
	Protocol string
	// HostIP is the node's address that it is bound to: all of both families when zero.
	HostIP          netip.Addr
	Host, Container uint16
	// ProxyProtocol begins each connection with the client's address, in this version.
	ProxyProtocol string `json:",omitempty"`
}

// binding is what of a port can be taken.
type binding struct {
	protocol string
	ip       netip.Addr
	port     uint16
}

func (p Port) binding() binding { return binding{p.Protocol, p.HostIP, p.Host} }

// String is such as 0.0.0.0:80/tcp, or :80/tcp for all addresses.
func (b binding) String() string {
	return net.JoinHostPort(b.host(), strconv.Itoa(int(b.port))) + "/" + b.protocol
}

func (b binding) host() string {
	if b.ip.IsValid() {
		return b.ip.String()
	}
	return ""
}

// network is what package net calls that of the binding: without an address a socket
// serves both families.
func (b binding) network() string {
	switch {
	case !b.ip.IsValid():
		return b.protocol
	case b.ip.Is4():
		return b.protocol + "4"
	}
	return b.protocol + "6"
}

// conflicts tells whether only one of two bindings can be had.
func (b binding) conflicts(other binding) bool {
	return launchspec.HostPort{Protocol: b.protocol, IP: b.ip, Port: b.port}.Conflicts(
		launchspec.HostPort{Protocol: other.protocol, IP: other.ip, Port: other.port})
}

// Conflicts tells whether only one of two ports can be bound.
func (p Port) Conflicts(other Port) bool { return p.binding().conflicts(other.binding()) }

func (p Port) check() error {
	switch {
	case p.Protocol != TCP && p.Protocol != UDP:
		return fmt.Errorf("protocol %q is neither tcp nor udp", p.Protocol)
	case p.Host == 0 || p.Container == 0:
		return errors.New("0 is no port")
	case p.HostIP.Is4In6():
		return fmt.Errorf("address %s is IPv4's in IPv6", p.HostIP)
	case p.ProxyProtocol != "" && p.Protocol == UDP:
		return errors.New("the PROXY protocol belongs to tcp")
	case p.ProxyProtocol != "" && p.ProxyProtocol != ProxyV1 && p.ProxyProtocol != ProxyV2:
		return fmt.Errorf("version %q of the PROXY protocol is neither v1 nor v2", p.ProxyProtocol)
	}
	return nil
}

// maxPorts of an owner: as many descriptors travel in one message (unix(7), SCM_MAX_FD).
const maxPorts = 253

func checkPorts(ports []Port) error {
	if len(ports) > maxPorts {
		return fmt.Errorf("%d ports are more than %d", len(ports), maxPorts)
	}
	for i, p := range ports {
		if err := p.check(); err != nil {
			return fmt.Errorf("port %s: %w", p.binding(), err)
		}
		for _, other := range ports[:i] {
			if p.binding().conflicts(other.binding()) {
				return fmt.Errorf("port %s: is asked for twice, by %s", p.binding(), other.binding())
			}
		}
	}
	return nil
}

// Target is an instance that connections go to.
type Target struct {
	Instance string
	// Addrs are the instance's: one of the client's family is used if there is one.
	Addrs []netip.Addr
	// Ports, unless nil, say which of the instance's ports those of the owner lead to.
	// Those that it does not have do not lead to it. When nil, the owner's say it.
	Ports []Port
}

func (t Target) equal(other Target) bool {
	return t.Instance == other.Instance && slices.Equal(t.Addrs, other.Addrs) &&
		(t.Ports == nil) == (other.Ports == nil) && slices.Equal(t.Ports, other.Ports)
}

// destination is where a connection to an owner's port goes. It is false when the target
// has nothing there.
func (t Target) destination(claimed Port, client netip.Addr) (to netip.AddrPort, p Port, ok bool) {
	if t.Ports != nil {
		at := slices.IndexFunc(t.Ports, func(p Port) bool { return p.binding() == claimed.binding() })
		if at < 0 {
			return netip.AddrPort{}, Port{}, false
		}
		claimed = t.Ports[at]
	}
	if len(t.Addrs) == 0 {
		return netip.AddrPort{}, Port{}, false
	}
	addr := t.Addrs[0]
	for _, a := range t.Addrs {
		if a.Is4() == client.Is4() {
			addr = a
			break
		}
	}
	return netip.AddrPortFrom(addr, claimed.Container), claimed, true
}

func checkTargets(targets []Target) error {
	for _, t := range targets {
		for _, a := range t.Addrs {
			if !a.IsValid() {
				return fmt.Errorf("instance %s: has an address that is none", t.Instance)
			}
		}
		if err := checkPorts(t.Ports); err != nil {
			return fmt.Errorf("instance %s: %w", t.Instance, err)
		}
	}
	return nil
}

// Owner is who has claimed ports, and where they lead.
type Owner struct {
	Name    string
	Ports   []Port
	Targets []Target
}
