package egress_test

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/purserd/purser/runtime/egress"
)

// What a launch takes longer.
func BenchmarkApply(b *testing.B) {
	many := friends()
	for i := range 256 {
		many.Allowed = append(many.Allowed, netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i), byte(i)}), 24))
	}
	for name, policy := range map[string]egress.Policy{"blocked": {Blocked: true}, "some": friends(), "many": many} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				b.StopTimer()
				p := newPair(b)
				b.StartTimer()
				p.apply(policy)
			}
		})
	}
}

// Bytes out and back over one connection, with no policy, one, and the same answered.
func BenchmarkThroughput(b *testing.B) {
	const size = 256 << 20
	for _, c := range []struct {
		name    string
		policy  egress.Policy
		inbound bool
	}{{"free", egress.Policy{}, false}, {"allowed", friends(), false}, {"answered", egress.Policy{Blocked: true}, true}} {
		b.Run(c.name, func(b *testing.B) {
			p := newPair(b)
			p.inside.serve(80)
			p.outside.serve(80)
			p.apply(c.policy)
			from, to := p.inside, friend4
			if c.inbound {
				from, to = p.outside, inside4
			}
			b.SetBytes(2 * size)
			for b.Loop() {
				if err := from.stream(netip.AddrPort{}, at(to, 80), size); err != nil {
					b.Fatal(fmt.Errorf("%s: %w", c.name, err))
				}
			}
		})
	}
}
