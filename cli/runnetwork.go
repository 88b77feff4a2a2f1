package cli

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"google.golang.org/protobuf/proto"

	"github.com/purserd/purser/api/launchspec"
	purserv1 "github.com/purserd/purser/api/purser/v1"
)

// networkFlags are the parts of a spec's network that have a flag.
type networkFlags struct {
	mode    string
	publish []string
	block   bool
	allowed []string
}

// apply puts what was given of the network over a spec's.
func (f *networkFlags) apply(given func(string) bool, spec *purserv1.LaunchSpec) error {
	ports, err := f.ports()
	if err := errors.Join(err, f.checkAllowed()); err != nil {
		return err
	}
	if !given("network") && !given("block-network") && !given("cidr-allowlist") && len(ports) == 0 {
		return nil
	}
	// Without a network there are no ports to be reached at, and nothing is left to limit. In
	// any other mode the spec's limits hold, or are refused: they are not lost by a flag.
	if spec.Network == nil || given("network") && f.mode == launchspec.NetworkNone {
		spec.Network = &purserv1.Network{}
	}
	setText(given("network"), f.mode, &spec.Network.Mode)
	f.limit(given, spec.Network)
	spec.Network.Ports = slices.Concat(spec.Network.Ports, ports)
	return nil
}

func (f *networkFlags) ports() (all []*purserv1.Port, err error) {
	for _, text := range f.publish {
		p, err := parsePublish(text)
		if err != nil {
			return nil, err
		}
		all = append(all, p)
	}
	return all, nil
}

// checkAllowed names the CIDR that is none, which the agent would know by its place alone.
func (f *networkFlags) checkAllowed() error {
	for _, text := range f.allowed {
		if _, err := netip.ParsePrefix(text); err != nil {
			return fmt.Errorf("--cidr-allowlist %s: is not a CIDR such as 10.0.0.0/8 or fd00::/8", text)
		}
	}
	return nil
}

// limit has each of the flags win over both fields, which exclude each other.
func (f *networkFlags) limit(given func(string) bool, n *purserv1.Network) {
	if !given("block-network") && !given("cidr-allowlist") {
		return
	}
	n.BlockNetwork, n.CidrAllowlist = nil, f.allowed
	if given("block-network") {
		n.BlockNetwork = proto.Bool(f.block)
	}
}
