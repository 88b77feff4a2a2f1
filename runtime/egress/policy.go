package egress

import (
	"net/netip"
	"slices"
)

// Policy is what a container may reach. The zero value lets it reach everything.
type Policy struct {
	// Blocked lets it reach nothing, whatever is allowed.
	Blocked bool
	// Allowed are all that it may reach, when there are any.
	Allowed []netip.Prefix
	// UDPPorts are those of the container that are published over UDP.
	UDPPorts []uint16
	// Gateways are the node's addresses on the container's network, from which published
	// ports are asked.
	Gateways []netip.Addr
}

// Limits says whether there is anything that a container may not reach.
func (p Policy) Limits() bool { return p.Blocked || len(p.Allowed) > 0 }

// reachable are the addresses of one family that are allowed.
func (p Policy) reachable(six bool) []span {
	if p.Blocked {
		return nil
	}
	return spans(family(plain(p.Allowed), six))
}

// gateways of one family.
func (p Policy) gateways(six bool) []span {
	var all []netip.Prefix
	for _, a := range p.Gateways {
		a = a.Unmap().WithZone("")
		all = append(all, netip.PrefixFrom(a, a.BitLen()))
	}
	return spans(family(all, six))
}

// plain are the prefixes of IPv4 that are written as IPv6's as what they mean, and all
// others that are any.
func plain(prefixes []netip.Prefix) []netip.Prefix {
	var all []netip.Prefix
	for _, p := range prefixes {
		p = p.Masked()
		if p.Addr().Is4In6() {
			p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
		}
		if p.IsValid() {
			all = append(all, p)
		}
	}
	return all
}

func family(all []netip.Prefix, six bool) []netip.Prefix {
	return slices.DeleteFunc(slices.Clone(all), func(p netip.Prefix) bool { return p.Addr().Is6() != six })
}

// span is a range of addresses, of which end is the first that is beyond; not valid when
// there is none beyond.
type span struct{ first, end netip.Addr }

// spans are what prefixes cover, in order, none touching another: the kernel takes no
// set of intervals that overlap.
func spans(prefixes []netip.Prefix) []span {
	slices.SortFunc(prefixes, func(a, b netip.Prefix) int { return a.Masked().Addr().Compare(b.Masked().Addr()) })
	var all []span
	for _, p := range prefixes {
		next := span{p.Masked().Addr(), last(p).Next()}
		if n := len(all) - 1; n >= 0 && all[n].reaches(next.first) {
			all[n].end = later(all[n].end, next.end)
			continue
		}
		all = append(all, next)
	}
	return all
}

// reaches says whether an address is in the span or the first beyond.
func (s span) reaches(a netip.Addr) bool { return !s.end.IsValid() || a.Compare(s.end) <= 0 }

// later is the end that is further: none is the furthest.
func later(a, b netip.Addr) netip.Addr {
	if !a.IsValid() || b.IsValid() && b.Less(a) {
		return a
	}
	return b
}

// last is the highest address of a prefix.
func last(p netip.Prefix) netip.Addr {
	raw := p.Masked().Addr().AsSlice()
	for bit := p.Bits(); bit < len(raw)*8; bit++ {
		raw[bit/8] |= 0x80 >> (bit % 8)
	}
	a, _ := netip.AddrFromSlice(raw)
	return a
}
