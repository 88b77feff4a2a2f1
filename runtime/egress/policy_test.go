package egress

import (
	"net/netip"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// Spans hold what the prefixes hold, in order, with room between them.
func TestSpans(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		six := rapid.Bool().Draw(t, "six")
		// Few addresses, at both ends of the family, so that many overlap or touch.
		address := rapid.Custom(func(t *rapid.T) netip.Addr {
			raw := make([]byte, 4)
			if six {
				raw = make([]byte, 16)
			}
			fill := rapid.SampledFrom([]byte{0, 0xff}).Draw(t, "fill")
			for i := range raw {
				raw[i] = fill
			}
			raw[len(raw)-1] = rapid.Byte().Draw(t, "last")
			a, _ := netip.AddrFromSlice(raw)
			return a
		})
		prefix := rapid.Custom(func(t *rapid.T) netip.Prefix {
			a := address.Draw(t, "address")
			host := rapid.SampledFrom([]int{0, 0, 1, 2, 4, 7, a.BitLen()}).Draw(t, "host bits")
			return netip.PrefixFrom(a, a.BitLen()-host)
		})
		prefixes := rapid.SliceOfN(prefix, 0, 8).Draw(t, "prefixes")
		all := spans(slices.Clone(prefixes))
		for i, s := range all {
			if i > 0 && (!all[i-1].end.IsValid() || !all[i-1].end.Less(s.first)) {
				t.Fatalf("%v: %v reaches %v", prefixes, all[i-1], s)
			}
		}
		a := address.Draw(t, "asked")
		want := slices.ContainsFunc(prefixes, func(p netip.Prefix) bool { return p.Contains(a) })
		got := slices.ContainsFunc(all, func(s span) bool {
			return s.first.Compare(a) <= 0 && (!s.end.IsValid() || a.Less(s.end))
		})
		if got != want {
			t.Fatalf("%v: %v holds %s: %v, want %v", prefixes, all, a, got, want)
		}
	})
}

func TestPlain(t *testing.T) {
	for text, want := range map[string]string{
		"10.1.2.3/8":          "10.0.0.0/8",
		"fd00::1/8":           "fd00::/8",
		"::ffff:10.0.0.0/104": "10.0.0.0/8",
		"::ffff:10.0.0.0/96":  "0.0.0.0/0",
		"::ffff:10.0.0.0/80":  "::/80",
		"::/0":                "::/0",
	} {
		if got := plain([]netip.Prefix{{}, netip.MustParsePrefix(text)}); len(got) != 1 || got[0].String() != want {
			t.Errorf("%s: got %v, want %s", text, got, want)
		}
	}
	if got := (Policy{Allowed: make([]netip.Prefix, 1)}); !got.Limits() || got.reachable(false) != nil || got.reachable(true) != nil {
		t.Error("a prefix that is none allows something")
	}
}
