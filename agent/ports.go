package agent

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/purserd/purser/agent/publish"
	"github.com/purserd/purser/agent/supervise"
	"github.com/purserd/purser/api/launchspec"
	purserv1 "github.com/purserd/purser/api/purser/v1"
	"github.com/purserd/purser/runtime/forward"
)

// portOwner is a workload to the forwarder. An environment has no slash in its name.
func portOwner(environment, id string) string { return environment + "/" + id }

func (w *workload) portOwner() string { return portOwner(w.environment(), w.id()) }

// portsOf are the ports of the node that a spec wants to be reached at.
func portsOf(spec *purserv1.LaunchSpec) []forward.Port {
	var all []forward.Port
	for _, p := range spec.GetNetwork().GetPorts() {
		all = append(all, forward.Port{
			Protocol: launchspec.Protocol(p), HostIP: launchspec.HostIP(p), Host: launchspec.HostPortOf(p),
			Container: uint16(p.GetContainer()), ProxyProtocol: p.GetProxyProtocol(),
		})
	}
	return all
}

func hasPorts(spec *purserv1.LaunchSpec) bool { return len(portsOf(spec)) > 0 }

// publish has the workload's ports lead to what serves it. It is called with each change
// of the workload's view.
func (w *workload) publish(v supervise.View) {
	has := slices.ContainsFunc(specs(w.record()), hasPorts) || v.Serving() != nil && hasPorts(v.Serving().Revision.Spec)
	w.agent.publisher.Changed(w.portOwner(), has)
}

// rightFor is what is right for a workload's ports now.
func (a *Agent) rightFor(owner string) publish.Wish {
	environment, id, _ := strings.Cut(owner, "/")
	w := a.lookup(environment, id)
	if w == nil {
		return publish.Wish{}
	}
	v, _ := w.supervisor.View()
	return portWish(v, w.record().GetFallback().GetSpec())
}

// portWish is what is right for the ports of a workload: they are bound for as long as it
// is to run, and lead to the instance that serves. While there is none, who connects waits.
// Those of a spec that may be gone back to stay bound, so that nobody else gets them.
func portWish(v supervise.View, fallback *purserv1.LaunchSpec) publish.Wish {
	i := v.Serving()
	over := v.Status.Run == v.Desired.Run && v.Status.State.Ended() && i == nil && !v.Desired.Trial
	if v.Gone || v.Desired.Goal != supervise.Run || over {
		return publish.Wish{}
	}
	wish := publish.Wish{Ports: publish.Union(portsOf(fallback), portsOf(v.Desired.Revision.Spec))}
	if i == nil {
		return wish
	}
	// Of an older spec's ports those are bound, too, as long as its instance serves.
	serves := portsOf(i.Revision.Spec)
	wish.Ports = publish.Union(serves, wish.Ports)
	if addresses := addressesOf(i); len(serves) > 0 && len(addresses) > 0 {
		wish.Targets = []forward.Target{{Instance: i.ID, Addrs: addresses, Ports: serves}}
	}
	return wish
}

// addressesOf are the addresses of an instance on the node's container network.
func addressesOf(i *supervise.Instance) []netip.Addr {
	var all []netip.Addr
	for _, text := range i.Addresses {
		if ip, err := netip.ParseAddr(text); err == nil {
			all = append(all, ip)
		}
	}
	return all
}

// reserveTime bounds what a launch waits for the forwarder, as others wait for the launch.
const reserveTime = 5 * time.Second

// reserve binds the ports of plans that are about to be committed, so that one which is
// taken refuses them. end is to be called when they are in force, or nothing has come of
// them.
func (a *Agent) reserve(ctx context.Context, plans ...plan) (end func(), err error) {
	var claims []publish.Claim
	for _, p := range plans {
		ports := p.ports()
		if len(ports) > 0 || p.workload != nil && slices.ContainsFunc(specs(p.workload.record()), hasPorts) {
			claims = append(claims, publish.Claim{Owner: portOwner(p.record.GetEnvironment(), p.record.GetId()), Ports: ports})
		}
	}
	if len(claims) == 0 {
		return func() {}, nil
	}
	ctx, cancel := context.WithTimeout(ctx, reserveTime)
	defer cancel()
	end, err = a.publisher.Reserve(ctx, claims)
	return end, portRefusal(err)
}

// ports are those that a plan wants.
func (p plan) ports() []forward.Port {
	if supervise.Goal(p.record.GetGoal()) != supervise.Run {
		return nil
	}
	return publish.Union(portsOf(p.record.GetFallback().GetSpec()), portsOf(p.record.GetSpec()))
}

// portRefusal makes a refusal of a port that is taken.
func portRefusal(err error) error {
	var taken *forward.TakenError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &taken):
		remedy := "choose another host port, or stop what has it"
		if taken.Absent {
			remedy = "choose one that it has, or leave it out for all"
		}
		return refuse(Precondition, "network.ports: %w; %s", taken, remedy)
	}
	return refuse(Later, "its ports cannot be bound: %w; the port forwarder's last words are in ports/stderr of the run directory", err)
}

// portTime bounds how long a stop waits for connections to be led elsewhere.
const portTime = 2 * time.Second

// leave waits until no new connection is led to an instance that is about to be stopped:
// the view that says so has been published.
func (w *workload) leave(ctx context.Context, instance string) {
	limited, cancel := context.WithTimeout(ctx, portTime)
	defer cancel()
	if err := w.agent.publisher.Settle(limited, w.portOwner()); err != nil && ctx.Err() == nil {
		w.agent.log.Warn("an instance is stopped although connections may still be led to it", "instance", instance, "error", err)
	}
}

// forwarderRestarted has the ports be as is right with a forwarder that runs in the place
// of one that had died.
func (a *Agent) forwarderRestarted() {
	a.metrics.PortForwarderRestarted()
	a.publisher.Restarted()
}

// portTrouble tells why the ports of a workload are not as they should be, or that they
// are again.
func (a *Agent) portTrouble(owner string, err error) {
	environment, id, _ := strings.Cut(owner, "/")
	if err == nil {
		a.emit(normal, "PortsBound", environment, id, "its ports are bound")
		return
	}
	a.emit(warning, "PortsNotBound", environment, id, "its ports are not served; this is tried again: %v", err)
}

// publishAll takes up what earlier agents had the forwarder do: what is right stays as it
// is, and the ports of workloads that are no more are closed.
func (a *Agent) publishAll(ctx context.Context) {
	for _, w := range a.all("", "") {
		v, _ := w.supervisor.View()
		w.publish(v)
	}
	// Not before it is known which containers there are: the database may have been lost.
	if err := a.gate.pass(ctx, nil); err != nil {
		return
	}
	if err := a.publisher.Prune(ctx); err != nil && ctx.Err() == nil {
		a.log.Warn("ports of workloads that are no more may still be bound", "error", err)
	}
}
