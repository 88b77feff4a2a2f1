package egress_test

import (
	"encoding/binary"
	"net/netip"
	"slices"
)

// Packets as they are on the wire, without checksums, which no rule looks at.

func u16(n int) []byte { return binary.BigEndian.AppendUint16(nil, uint16(n)) }

func bytesOf(parts ...[]byte) []byte { return slices.Concat(parts...) }

// frame is of Ethernet, to everybody.
func frame(etherType int, payload []byte) []byte {
	return bytesOf([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 1}, u16(etherType), payload)
}

const (
	typeIP4, typeARP, typeIP6 = 0x0800, 0x0806, 0x86dd

	protoICMP, protoTCP, protoUDP, protoICMP6, protoSCTP = 1, 6, 17, 58, 132
)

// ip4 is a packet with fragment flags and offset, and options of a multiple of 4 bytes.
func ip4(to netip.Addr, proto byte, fragment int, options, payload []byte) []byte {
	words := 5 + len(options)/4
	return bytesOf([]byte{byte(0x40 | words), 0}, u16(words*4+len(payload)), u16(1), u16(fragment),
		[]byte{64, proto, 0, 0}, inside4.AsSlice(), to.AsSlice(), options, payload)
}

func ip6(from, to netip.Addr, next, hops byte, payload []byte) []byte {
	return bytesOf([]byte{0x60, 0, 0, 0}, u16(len(payload)), []byte{next, hops}, from.AsSlice(), to.AsSlice(), payload)
}

// ip is a packet of the address's family.
func ip(to netip.Addr, proto byte, payload []byte) []byte {
	if to.Is4() {
		return frame(typeIP4, ip4(to, proto, 0, nil, payload))
	}
	return frame(typeIP6, ip6(inside6, to, proto, 64, payload))
}

// extended puts extension headers between IPv6's own and the payload.
func extended(to netip.Addr, first byte, headers, payload []byte) []byte {
	return frame(typeIP6, ip6(inside6, to, first, 64, bytesOf(headers, payload)))
}

// fragment6 is the header of one, with an offset in units of 8 bytes.
func fragment6(next byte, offset int, more bool) []byte {
	place := offset << 3
	if more {
		place |= 1
	}
	return bytesOf([]byte{next, 0}, u16(place), []byte{0, 0, 0, 1})
}

const (
	fin, syn, rst, ack, ece, cwr = 0x01, 0x02, 0x04, 0x10, 0x40, 0x80
	more                         = 0x2000 // of IPv4: there are more fragments
)

func tcp(flags byte) []byte {
	return bytesOf(u16(7000), u16(80), make([]byte, 8), []byte{0x50, flags}, u16(1000), make([]byte, 4))
}

func udp(from, to int) []byte { return bytesOf(u16(from), u16(to), u16(24), u16(0)) }

func icmp(kind byte) []byte { return []byte{kind, 0, 0, 0, 0, 0, 0, 0} }

// discovery is a message of IPv6's neighbour discovery about an address.
func discovery(kind byte, about netip.Addr) []byte { return bytesOf(icmp(kind), about.AsSlice()) }
