package runtime

import (
	"fmt"
	"net/netip"

	"github.com/purserd/purser/api/launchspec"
	purserv1 "github.com/purserd/purser/api/purser/v1"
	"github.com/purserd/purser/runtime/egress"
)

// What a container on a bridge may reach is limited in its network namespace, before
// anything runs there, and for as long as the namespace lives: package egress.

// limitEgress limits what is sent from a network namespace to what a spec allows. The
// gateways are the node's addresses on the same network. A namespace is a container's
// alone, so one without limits is left as it is.
func (r *Runtime) limitEgress(spec *purserv1.LaunchSpec, netns string, gateways []netip.Addr) error {
	policy := egressPolicy(spec, gateways)
	if !policy.Limits() {
		return nil
	}
	if err := egress.Apply(netns, policy); err != nil {
		return fmt.Errorf("limiting what it may reach: %w", err)
	}
	return nil
}

// limitInstance does so for an instance that is attached to the container network.
func (r *Runtime) limitInstance(in Instance) error {
	if in.attached == nil {
		return nil
	}
	return r.limitEgress(in.Spec, in.attached.NetNS, in.attached.Gateways)
}

func egressPolicy(spec *purserv1.LaunchSpec, gateways []netip.Addr) egress.Policy {
	p := egress.Policy{
		Blocked:  spec.GetNetwork().GetBlockNetwork(),
		Allowed:  launchspec.CIDRs(spec),
		Gateways: gateways,
	}
	for _, port := range spec.GetNetwork().GetPorts() {
		if launchspec.Protocol(port) == launchspec.ProtocolUDP {
			p.UDPPorts = append(p.UDPPorts, uint16(port.GetContainer()))
		}
	}
	return p
}

// checkEgress says why this node cannot limit what a spec wants limited. A kernel that
// once could is not tried again.
func (r *Runtime) checkEgress(spec *purserv1.LaunchSpec) error {
	policy := egressPolicy(spec, nil)
	if !policy.Limits() || r.limits.Load() {
		return nil
	}
	err := egress.Check()
	r.limits.Store(err == nil)
	switch {
	case err == nil:
		return nil
	case policy.Blocked:
		return fmt.Errorf("network.block_network: %w", err)
	}
	return fmt.Errorf("network.cidr_allowlist: %w", err)
}

// EgressDropped is how many packets a container with that spec has sent that the spec does
// not allow; false when all is allowed, or its network is gone.
func (r *Runtime) EgressDropped(id string, spec *purserv1.LaunchSpec) (packets uint64, limited bool) {
	if r.network == nil || !egressPolicy(spec, nil).Limits() {
		return 0, false
	}
	attached, ok := r.network.Of(id)
	if !ok {
		return 0, false
	}
	packets, err := egress.Dropped(attached.NetNS)
	return packets, err == nil
}
