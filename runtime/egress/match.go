package egress

import (
	"encoding/binary"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// A condition is part of a rule: expressions that end the rule when they are not met, or
// when the packet is too short for them.
type condition []expr.Any

// register is where the kernel keeps what a condition looks at.
const register = unix.NFT_REG_1

// field is a part of a packet, counted in bytes from the start of a header.
type field struct {
	base        expr.PayloadBase
	offset, len uint32
}

// What is looked at. Headers of IPv4 have no options and those of IPv6 no extensions when
// rules look beyond them, so that what follows is at a place known.
var (
	etherType = field{expr.PayloadBaseLLHeader, 12, 2}

	ip4Version     = ip(0, 1) // with the length of the header, in words
	ip4Fragment    = ip(6, 2) // flags and offset
	ip4Protocol    = ip(9, 1)
	ip4Destination = ip(16, 4)

	ip6Next        = ip(6, 1)
	ip6HopLimit    = ip(7, 1)
	ip6Destination = ip(24, 16)
	// The header that follows IPv6's, when it is a hop-by-hop one or a fragment's.
	ip6After       = ip(40, 1) // the protocol after it
	ip6AfterLength = ip(41, 1)
	ip6Fragment    = ip(42, 2) // offset and flags
)

const (
	ip4Length         = 20
	ip6Length         = 40
	ip6FragmentLength = 8
)

func ip(offset, len uint32) field { return field{expr.PayloadBaseNetworkHeader, offset, len} }

// tcpFlags, sourcePort and so on are where a transport header begins at start.
func tcpFlags(start uint32) field        { return ip(start+13, 1) }
func sourcePort(start uint32) field      { return ip(start, 2) }
func destinationPort(start uint32) field { return ip(start+2, 2) }
func icmpType(start uint32) field        { return ip(start, 1) }

func (f field) load() expr.Any {
	return &expr.Payload{DestRegister: register, Base: f.base, Offset: f.offset, Len: f.len}
}

func (f field) compare(op expr.CmpOp, value []byte) condition {
	return condition{f.load(), &expr.Cmp{Register: register, Op: op, Data: value}}
}

func (f field) is(value ...byte) condition    { return f.compare(expr.CmpOpEq, value) }
func (f field) isNot(value ...byte) condition { return f.compare(expr.CmpOpNeq, value) }

func (f field) atLeast(value uint16) condition {
	return f.compare(expr.CmpOpGte, binary.BigEndian.AppendUint16(nil, value))
}

// masked compares some bits of a field.
func (f field) masked(mask []byte, op expr.CmpOp, value ...byte) condition {
	return condition{
		f.load(),
		&expr.Bitwise{SourceRegister: register, DestRegister: register, Len: f.len, Mask: mask, Xor: make([]byte, f.len)},
		&expr.Cmp{Register: register, Op: op, Data: value},
	}
}

func (f field) in(s *nftables.Set) condition {
	return condition{f.load(), &expr.Lookup{SourceRegister: register, SetName: s.Name, SetID: s.ID}}
}

// meta compares what the kernel knows of a packet beside its bytes.
func meta(key expr.MetaKey, value ...byte) condition {
	return condition{
		&expr.Meta{Key: key, Register: register},
		&expr.Cmp{Register: register, Op: expr.CmpOpEq, Data: value},
	}
}

// outLoopback is met by what a namespace says to itself.
func outLoopback(index int) condition {
	return meta(expr.MetaKeyOIF, binaryutil.NativeEndian.PutUint32(uint32(index))...)
}

func verdict(kind expr.VerdictKind) condition { return condition{&expr.Verdict{Kind: kind}} }

func accept() condition { return verdict(expr.VerdictAccept) }
func drop() condition   { return verdict(expr.VerdictDrop) }

// back leaves a chain for the one that it was called from, which refuses.
func back() condition { return verdict(expr.VerdictReturn) }

func call(chain string) condition {
	return condition{&expr.Verdict{Kind: expr.VerdictJump, Chain: chain}}
}

func count(counter string) condition {
	return condition{&expr.Objref{Type: unix.NFT_OBJECT_COUNTER, Name: counter}}
}

func resetTCP() condition { return condition{&expr.Reject{Type: unix.NFT_REJECT_TCP_RST}} }

func prohibited() condition {
	return condition{&expr.Reject{Type: unix.NFT_REJECT_ICMPX_UNREACH, Code: unix.NFT_REJECT_ICMPX_ADMIN_PROHIBITED}}
}
