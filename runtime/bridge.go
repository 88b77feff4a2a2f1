package runtime

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/purserd/purser/api/launchspec"
	purserv1 "github.com/purserd/purser/api/purser/v1"
	"github.com/purserd/purser/runtime/cni"
)

// Containers on the node's container network: one claims a network namespace that is
// connected before anything else is made of it, and gives it back once nothing of it runs.

// ErrNoBridge is for a Runtime that was given no network.
var ErrNoBridge = errors.New("this node has no container network")

// openNetwork takes up what an earlier process left of the network.
func (r *Runtime) openNetwork() (err error) {
	if r.cfg.Network == nil {
		return nil
	}
	cfg := *r.cfg.Network
	cfg.RunDir, cfg.Log = filepath.Join(r.cfg.RunDir, "network"), r.cfg.Logger
	if r.network, err = cni.Open(cfg); err != nil {
		return fmt.Errorf("opening the container network: %w", err)
	}
	return nil
}

func (r *Runtime) closeNetwork() error {
	if r.network == nil {
		return nil
	}
	return r.network.Close()
}

// CheckBridge says what keeps containers from the container network. If nothing does, it
// is made ready for some.
func (r *Runtime) CheckBridge() error {
	if r.network == nil {
		return ErrNoBridge
	}
	return r.network.Check()
}

// checkNetwork says what of a spec's network this node does not have.
func (r *Runtime) checkNetwork(spec *purserv1.LaunchSpec) error {
	if launchspec.NetworkMode(spec) != launchspec.NetworkBridge {
		return nil
	}
	if err := r.CheckBridge(); err != nil {
		return fmt.Errorf("network.mode bridge: %w", err)
	}
	return r.checkEgress(spec)
}

// connect claims a network namespace for a container that is to be on a bridge; nil for
// all others.
func (r *Runtime) connect(ctx context.Context, in Instance) (*cni.Attachment, error) {
	if launchspec.NetworkMode(in.Spec) != launchspec.NetworkBridge {
		return nil, nil
	}
	if r.network == nil {
		return nil, ErrNoBridge
	}
	return r.network.Claim(ctx, in.ID)
}

// disconnect gives back what a container has claimed, if it has; nothing of it runs.
func (r *Runtime) disconnect(ctx context.Context, id string) error {
	if r.network == nil {
		return nil
	}
	if err := r.network.Release(ctx, id); err != nil {
		return fmt.Errorf("disconnecting container %s: %w", id, err)
	}
	return nil
}

// disconnected disconnects a container that was not made, and returns why it was not.
func (r *Runtime) disconnected(ctx context.Context, id string, why error) error {
	undo, cancel := context.WithTimeout(context.WithoutCancel(ctx), stepTimeout)
	defer cancel()
	return errors.Join(why, r.disconnect(undo, id))
}

// netNS is the path of an instance's network namespace; empty when it has none of the
// container network.
func (in Instance) netNS() string {
	if in.attached == nil {
		return ""
	}
	return in.attached.NetNS
}

// Addresses are a container's own on the container network, IPv4 first.
func (r *Runtime) Addresses(id string) []string {
	if r.network == nil {
		return nil
	}
	attached, ok := r.network.Of(id)
	if !ok {
		return nil
	}
	var all []string
	for _, a := range attached.Addresses {
		all = append(all, a.String())
	}
	return all
}

// leftNetworks lists who has claimed a network namespace.
func (r *Runtime) leftNetworks(context.Context) ([]thing, error) {
	if r.network == nil {
		return nil, nil
	}
	name := func(id string) string { return "network namespace of " + id }
	return perOwner(r.network.Owners(), LeakNetwork, name, r.disconnect), nil
}

// NetworksReady is how many connected network namespaces wait for containers.
func (r *Runtime) NetworksReady() int {
	if r.network == nil {
		return 0
	}
	return r.network.Ready()
}

// NetworkRoom is how many containers the container network has addresses for; false when
// that is not known.
func (r *Runtime) NetworkRoom() (int, bool) {
	if r.network == nil {
		return 0, false
	}
	return r.network.Room()
}

// Disband removes what there is of the container network, once the node's containers are
// gone. No container can be put on it any more.
func (r *Runtime) Disband(ctx context.Context) error {
	if r.network == nil {
		return nil
	}
	return r.network.Disband(ctx)
}
