package publish

import (
	"slices"

	"github.com/purserd/purser/runtime/forward"
)

// Wish is what is right for an owner.
type Wish struct {
	// Ports to be bound; without any, what it has is released.
	Ports []forward.Port
	// Targets are the instances that serve.
	Targets []forward.Target
}

func (w Wish) equal(other Wish) bool {
	return slices.Equal(w.Ports, other.Ports) && slices.EqualFunc(w.Targets, other.Targets, func(a, b forward.Target) bool {
		return a.Instance == b.Instance && slices.Equal(a.Addrs, b.Addrs) && slices.Equal(a.Ports, b.Ports)
	})
}

// Union are the ports of a, and those of b that can be bound beside them.
func Union(a, b []forward.Port) []forward.Port {
	all := slices.Clone(a)
	for _, port := range b {
		if !Has(all, port) {
			all = append(all, port)
		}
	}
	return all
}

// Has says whether a port cannot be bound beside others.
func Has(ports []forward.Port, port forward.Port) bool {
	return slices.ContainsFunc(ports, port.Conflicts)
}
