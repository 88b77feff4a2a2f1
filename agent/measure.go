package agent

import (
	"context"
	"net/http"

	"github.com/purserd/purser/agent/supervise"
	"github.com/purserd/purser/api/launchspec"
	"github.com/purserd/purser/metrics"
)

// MetricsHandler serves the node's metrics.
func (a *Agent) MetricsHandler() http.Handler { return a.metrics.Handler() }

// Measure is the node's state at a scrape; see metrics.Source.
func (a *Agent) Measure(ctx context.Context) metrics.Snapshot {
	stats, err := a.runtime.Stats(ctx)
	logs := a.runtime.LogCounters()
	snapshot := metrics.Snapshot{Connected: err == nil, Redactions: logs.Redactions, LogBytesLost: logs.LostBytes}
	snapshot.OOMKills = a.measureOOMKills(stats)
	snapshot.NetworksReady = a.runtime.NetworksReady()
	snapshot.Ports = a.forwarder.measure()
	snapshot.Sources = a.measureSources()
	snapshot.Room, snapshot.Draining = a.measureRoom(), a.drain.get() != nil
	for _, w := range a.list("", "") {
		v, _ := w.supervisor.View()
		r := w.record()
		spec := r.GetSpec()
		m := metrics.Workload{
			App: spec.GetApp(), Function: spec.GetFunction(), Environment: w.environment(),
			State: string(v.Status.State), NotReady: v.NotReady(), OneOff: launchspec.OneOff(spec),
			Rotation: w.rotation(r).GetState(), BackedOut: r.GetBackedOut() != nil,
		}
		if e := v.Status.LastExit; e != nil {
			m.LastExit = &e.Code
		}
		if s, ok := stats[v.Status.LastInstance()]; ok {
			m.Stats = &metrics.Stats{CPUSeconds: s.CPU, MemoryBytes: float64(s.Memory)}
		}
		if n, limited := a.runtime.EgressDropped(v.Status.LastInstance(), spec); limited {
			m.EgressDropped = &n
		}
		snapshot.Workloads = append(snapshot.Workloads, m)
	}
	snapshot.DeletedInUse = a.deletedInUse()
	if a.cfg.Metrics.SecretNames {
		snapshot.Secrets = a.measureSecrets()
	}
	return snapshot
}

func (a *Agent) measureSecrets() []metrics.Secret {
	var all []metrics.Secret
	for _, info := range a.secrets.List("") {
		m := metrics.Secret{Environment: info.Environment, Name: info.Name, Current: a.latestOf(info.Environment, info.Name), Updated: info.Updated}
		if pinned := a.pinned(info.Environment, info.Name); len(pinned) > 0 {
			m.Pinned = pinned[0]
		}
		all = append(all, m)
	}
	return all
}

// deletedInUse counts the secrets that were deleted while workloads run on them, also where
// there are none.
func (a *Agent) deletedInUse() map[string]int {
	counts := map[string]int{}
	for _, info := range a.secrets.List("") {
		counts[info.Environment] += 0
		if info.Deleted && len(a.users(info.Environment, info.Name, 0)) > 0 {
			counts[info.Environment]++
		}
	}
	return counts
}

// SecretVersions are the versions of secrets that are given to nobody; see
// metrics.Withholder.
func (a *Agent) SecretVersions() []metrics.SecretVersion {
	var all []metrics.SecretVersion
	for _, info := range a.secrets.List("") {
		latest := a.latestOf(info.Environment, info.Name)
		for _, v := range info.Versions {
			if v.Version < latest {
				continue // something newer has taken its place
			}
			state, _ := a.versionState(info, v, nil)
			if state != versionHeld && state != versionQuarantined {
				continue
			}
			m := metrics.SecretVersion{Environment: info.Environment, Name: info.Name, Version: v.Version, State: state}
			if !a.cfg.Metrics.SecretNames {
				m.Name = ""
			}
			all = append(all, m)
		}
	}
	return all
}

// restartReason says why a workload with that status gets a new instance.
func restartReason(before supervise.Status) string {
	e := before.LastExit
	if e != nil && (before.State == supervise.BackingOff || e.Cause == supervise.Rebooted) {
		return e.Cause
	}
	return metrics.Replacement
}
