package egress_test

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/purserd/purser/runtime/egress"
)

// A policy replaces another, or none, as often as one likes.
func TestReplace(t *testing.T) {
	p := newPair(t)
	p.outside.serve(80)
	reached := func(want ...netip.Addr) {
		t.Helper()
		for _, a := range []netip.Addr{friend4, friend6, other4, other6} {
			err := p.inside.connect(at(a, 80))
			if wanted := strings.Contains(fmt.Sprint(want), a.String()); wanted != (err == nil) {
				t.Errorf("%s: %v, want it reached: %v", a, err, wanted)
			}
		}
	}
	reached(friend4, friend6, other4, other6)
	p.apply(friends())
	reached(friend4, friend6)
	p.apply(friends())
	reached(friend4, friend6)
	p.wantDropped(0, 2)
	p.apply(egress.Policy{Blocked: true, Allowed: friends().Allowed})
	reached()
	p.apply(egress.Policy{Allowed: []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")}})
	reached(friend4, other4)
	p.apply(egress.Policy{Allowed: []netip.Prefix{netip.MustParsePrefix("::/0"), netip.MustParsePrefix("::ffff:192.0.2.0/120")}})
	reached(friend4, friend6, other6)
	p.apply(egress.Policy{})
	reached(friend4, friend6, other4, other6)
	p.apply(egress.Policy{})
	if n := p.dropped(); n != 0 {
		t.Errorf("%d dropped without a policy", n)
	}
}

// What neither of two policies lets pass does not pass while one replaces the other.
func TestReplaceWithoutGap(t *testing.T) {
	p := newPair(t)
	wire, out := p.listen(t), p.writer(t, false)
	p.apply(friends())
	ended := make(chan error, 1)
	go func() {
		for _, policy := range alternating(egress.Policy{Blocked: true}, friends(), 100) {
			if err := egress.Apply(p.inside.path, policy); err != nil {
				ended <- err
				return
			}
		}
		ended <- nil
	}()
	for going := true; going; {
		select {
		case err := <-ended:
			if err != nil {
				t.Fatal(err)
			}
			going = false
		default:
		}
		if wire.carries(out, ip(other4, protoTCP, tcp(syn)), unix.ETH_P_ALL) {
			t.Fatal("a frame has passed")
		}
	}
}

func alternating(a, b egress.Policy, times int) (all []egress.Policy) {
	for range times {
		all = append(all, a, b)
	}
	return all
}

// Every interface is limited.
func TestInterfaces(t *testing.T) {
	p := newPair(t)
	p.inside.run(fmt.Sprintf("ip link add eth1 type veth peer name out1 netns %d && ip addr add 10.98.0.2/24 dev eth1 && ip link set eth1 up", p.outside.tid()))
	p.outside.run("ip addr add 10.98.0.1/24 dev out1 && ip link set out1 up")
	p.outside.serve(80)
	second := at(netip.MustParseAddr("10.98.0.1"), 80)
	if err := p.inside.connect(second); err != nil {
		t.Fatal(err)
	}
	p.apply(friends())
	if err := p.inside.connect(at(friend4, 80)); err != nil {
		t.Error(err)
	}
	if err := p.inside.connect(second); err == nil {
		t.Error("the second interface is not limited")
	}
	p.wantDropped(0, 1)
	for _, device := range []string{"eth0", "eth1"} {
		if out := p.inside.run("ip link show " + device); !strings.Contains(out, "UP") {
			t.Error(out)
		}
	}
}

// As much as a spec may have, with CIDRs that overlap, touch and repeat.
func TestLargePolicy(t *testing.T) {
	p := newPair(t)
	p.outside.serve(80)
	policy := friends()
	for i := range 250 {
		four, six := [4]byte{10}, [16]byte{0xfd}
		binary.BigEndian.PutUint16(four[1:], uint16(i/2*3))
		binary.BigEndian.PutUint16(six[2:], uint16(i/2*3))
		policy.Allowed = append(policy.Allowed, netip.PrefixFrom(netip.AddrFrom4(four), 16+i%9), netip.PrefixFrom(netip.AddrFrom16(six), 24+i%9))
		policy.UDPPorts = append(policy.UDPPorts, uint16(1+i), uint16(1+i/2))
	}
	p.apply(policy)
	for _, a := range []netip.Addr{friend4, friend6} {
		if err := p.inside.connect(at(a, 80)); err != nil {
			t.Error(err)
		}
	}
	for _, a := range []netip.Addr{other4, other6} {
		if err := p.inside.connect(at(a, 80)); err == nil {
			t.Errorf("%s is reached", a)
		}
	}
}

func TestErrors(t *testing.T) {
	lonely := newRoom(t)
	if err := egress.Apply(lonely.path, friends()); err == nil || !strings.Contains(err.Error(), "no interface but loopback") {
		t.Errorf("nothing to limit: got %v", err)
	}
	if err := egress.Apply(lonely.path, egress.Policy{}); err != nil {
		t.Errorf("no limits: %v", err)
	}
	gone := filepath.Join(t.TempDir(), "gone")
	if err := egress.Apply(gone, friends()); err == nil || !strings.Contains(err.Error(), gone) {
		t.Errorf("no network: got %v", err)
	}
	if _, err := egress.Dropped(gone); err == nil || !strings.Contains(err.Error(), gone) {
		t.Errorf("no network: got %v", err)
	}
}
