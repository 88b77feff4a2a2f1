package agent

import (
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"

	"google.golang.org/protobuf/proto"

	"github.com/purserd/purser/agent/state"
	"github.com/purserd/purser/agent/supervise"
	"github.com/purserd/purser/api/launchspec"
	purserv1 "github.com/purserd/purser/api/purser/v1"
	"github.com/purserd/purser/metrics"
	"github.com/purserd/purser/runtime"
	"github.com/purserd/purser/runtime/cni"
)

// networkConfig is the container network by the configuration, which has been checked.
func (a *Agent) networkConfig() *cni.Config {
	n := a.cfg.Network
	c := &cni.Config{
		PluginDirs: n.CNIPluginDirs, ConfigDir: n.CNIConfigDir, Network: n.CNINetwork,
		Bridge: n.Bridge, MTU: n.MTU, Pool: n.Pool,
		StateDir: filepath.Join(a.cfg.StateDir, "network"),
		Observe:  a.metrics.Networked,
	}
	for _, text := range n.Subnets {
		if p, err := netip.ParsePrefix(text); err == nil {
			c.Subnets = append(c.Subnets, p)
		}
	}
	for _, text := range n.NameServers {
		if server, err := netip.ParseAddr(text); err == nil {
			c.NameServers = append(c.NameServers, server)
		}
	}
	return c
}

// defaultNetworkMode is that of a spec that names none, of a workload that may be on the
// bridge by now.
func (a *Agent) defaultNetworkMode(onBridge bool) string {
	if mode := a.cfg.Network.DefaultMode; mode != "" {
		return mode
	}
	return modeFor(a.runtime.CheckBridge(), onBridge)
}

// modeFor is bridge where CNI works, and none where there is no CNI. Where there is, and
// something is wrong with it, a spec gets bridge all the same, which refuses it and says why,
// instead of a container that nobody reaches. So it does while plugins are away on which a
// workload runs, as when they are being upgraded.
func modeFor(unusable error, onBridge bool) string {
	if unusable == nil || onBridge {
		return launchspec.NetworkBridge
	}
	if errors.Is(unusable, runtime.ErrNoBridge) || errors.As(unusable, new(*cni.MissingError)) {
		return launchspec.NetworkNone
	}
	return launchspec.NetworkBridge
}

// fillNetworkMode gives a spec the network mode of the node, unless it names one. A spec
// that is in force keeps what it was given: the same spec changes nothing, whatever the
// node's mode is by now. None is what a spec without a mode means, and not filled in.
func (a *Agent) fillNetworkMode(spec *purserv1.LaunchSpec, w *workload) {
	if spec.GetNetwork().GetMode() != "" {
		return
	}
	if w != nil {
		kept := w.record().GetSpec()
		same := withNetworkMode(spec, kept.GetNetwork().GetMode())
		if proto.Equal(same, kept) {
			spec.Network = same.GetNetwork()
			return
		}
	}
	mode := launchspec.NetworkMode(spec)
	if mode == launchspec.NetworkNone {
		mode = a.defaultNetworkMode(w != nil && bridged(w.record().GetSpec()))
	}
	if mode != launchspec.NetworkNone {
		spec.Network = withNetworkMode(spec, mode).GetNetwork()
	}
}

// withNetworkMode is a copy of a spec in a network mode; as it is for an empty one.
func withNetworkMode(spec *purserv1.LaunchSpec, mode string) *purserv1.LaunchSpec {
	spec = proto.CloneOf(spec)
	if mode == "" {
		return spec
	}
	if spec.Network == nil {
		spec.Network = &purserv1.Network{}
	}
	spec.Network.Mode = &mode
	return spec
}

// admitAddresses refuses plans that the container network has no addresses for. The caller
// holds writing.
func (a *Agent) admitAddresses(plans ...plan) error {
	planned, wanted, grows := map[string]bool{}, 0, false
	for _, p := range plans {
		planned[state.Key(p.record.GetEnvironment(), p.record.GetId())] = true
		if p.record.GetGoal() != string(supervise.Run) || !bridged(p.record.GetSpec()) {
			continue
		}
		wanted++
		grows = grows || p.workload == nil || !p.workload.addressed()
	}
	if !grows {
		return nil
	}
	room, known := a.runtime.NetworkRoom()
	for _, w := range a.all("", "") {
		if !planned[w.key] && w.addressed() {
			wanted++
		}
	}
	if !known || wanted <= room {
		return nil
	}
	a.metrics.NotAdmitted(metrics.Addresses)
	return refuse(NoRoom, "the container network has addresses for %d containers, and %d would need one; stop something, or give it larger subnets (network.subnets in the configuration)", room, wanted)
}

// addressed says whether a workload needs an address: it is on the bridge, and is to run.
func (w *workload) addressed() bool { return bridged(w.record().GetSpec()) && w.counts() }

func bridged(spec *purserv1.LaunchSpec) bool {
	return launchspec.NetworkMode(spec) == launchspec.NetworkBridge
}

// rollingWithoutAddress says of a rolling change for which there is no address what ends
// it: the instance that serves has its own until the new one is healthy.
func rollingWithoutAddress(s supervise.Status, err error) error {
	if s.Kept == nil || !errors.Is(err, cni.ErrExhausted) {
		return err
	}
	return fmt.Errorf("a rolling change needs an address more until the new instance is healthy: free one, or use rotation.strategy restart: %w", err)
}
