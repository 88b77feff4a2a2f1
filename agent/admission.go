package agent

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/purserd/purser/agent/capacity"
	"github.com/purserd/purser/agent/config"
	"github.com/purserd/purser/agent/state"
	"github.com/purserd/purser/agent/supervise"
	statev1 "github.com/purserd/purser/api/purser/state/v1"
	purserv1 "github.com/purserd/purser/api/purser/v1"
	"github.com/purserd/purser/metrics"
)

// findCapacity is what the node has by the configuration, else as found.
func findCapacity(c config.Capacity, cgroupParent string) (capacity.Node, error) {
	found, err := capacity.Found(cgroupParent)
	if err != nil {
		return capacity.Node{}, fmt.Errorf("%w; or give it as [capacity] in the configuration", err)
	}
	said := capacity.Amounts{capacity.CPU: capacity.Millicores(c.CPU), capacity.Memory: int64(c.Memory), capacity.Pids: c.Pids}
	for r, n := range said {
		if n > 0 {
			found[r] = n
		}
	}
	return capacity.Node{
		Total: found,
		Reserve: capacity.Amounts{
			capacity.CPU: capacity.Millicores(c.ReserveCPU), capacity.Memory: int64(c.ReserveMemory), capacity.Pids: c.ReservePids,
		},
		Overcommit: capacity.Factors{
			capacity.CPU: c.OvercommitCPU, capacity.Memory: c.OvercommitMemory, capacity.Pids: c.OvercommitPids,
		},
	}, nil
}

// admit refuses plans that the node has no room for, all of them together: what they
// take away makes room for what they add. The caller holds writing until they are
// carried out, so that nobody else is promised the same room.
func (a *Agent) admit(plans ...plan) error {
	var asked []capacity.Use
	var added capacity.Amounts
	planned := map[string]bool{}
	for _, p := range plans {
		planned[state.Key(p.record.GetEnvironment(), p.record.GetId())] = true
		if p.record.GetGoal() == string(supervise.Run) {
			use := useOf(p.record)
			asked, added = append(asked, use), added.Plus(use.Amounts)
		}
		if p.workload != nil && p.workload.counts() {
			added = added.Minus(useOf(p.workload.record()).Amounts)
		}
	}
	if err := a.admitAddresses(plans...); err != nil {
		return err
	}
	if !added.Grows() {
		return nil // a restart, or what has no limits: what others have does not matter
	}
	others := a.uses(func(w *workload) bool { return !planned[w.key] })
	return a.refuseShortage(a.capacity.Fits(others, asked, added))
}

// refuseShortage makes a refusal of a lack of room.
func (a *Agent) refuseShortage(err error) error {
	var short *capacity.Shortage
	if !errors.As(err, &short) {
		return err
	}
	for _, lack := range short.Lacks {
		a.metrics.NotAdmitted(lack.Resource.String())
	}
	return refuse(NoRoom, "the node has no room for it: %w; ask for less, or stop something: purser node shows the room", short)
}

// counts says whether a workload has what it asks for: it is to run, and has not
// ended for good. The goal is the record's, so that a drained node keeps the room of what will
// come back.
func (w *workload) counts() bool {
	r := w.record()
	if r.GetGoal() != string(supervise.Run) {
		return false
	}
	v, _ := w.supervisor.View()
	return v.Status.Run != runOf(r) || !v.Status.State.Ended() || onTrial(r) || v.Status.Kept != nil
}

// uses are what workloads ask for that have it.
func (a *Agent) uses(of func(*workload) bool) []capacity.Use {
	a.mu.RLock()
	workloads := slices.Collect(maps.Values(a.workloads))
	a.mu.RUnlock()
	var all []capacity.Use
	for _, w := range workloads {
		if of(w) && w.counts() {
			all = append(all, useOf(w.record()))
		}
	}
	return all
}

func useOf(r *statev1.Workload) capacity.Use {
	return capacity.Use{Name: r.GetEnvironment() + " " + r.GetId(), Amounts: capacity.Of(r.GetSpec())}
}

// requested is what all workloads ask for that have it.
func (a *Agent) requested() capacity.Amounts {
	return capacity.Sum(a.uses(func(*workload) bool { return true }))
}

// capacityMessage is what the API tells of the node's room.
func (a *Agent) capacityMessage() *purserv1.Capacity {
	requested := a.requested()
	return &purserv1.Capacity{
		Total:      amountsMessage(a.capacity.Total),
		Reserve:    amountsMessage(a.capacity.Reserve),
		Overcommit: &purserv1.Factors{Cpu: a.capacity.Overcommit[capacity.CPU], Memory: a.capacity.Overcommit[capacity.Memory], Pids: a.capacity.Overcommit[capacity.Pids]},
		Requested:  amountsMessage(requested),
		Free:       amountsMessage(a.capacity.Allocatable().Minus(requested)),
	}
}

func amountsMessage(a capacity.Amounts) *purserv1.Amounts {
	return &purserv1.Amounts{Cpu: float64(a[capacity.CPU]) / 1000, Memory: a[capacity.Memory], Pids: a[capacity.Pids]}
}

// measureRoom is the node's room at a scrape.
func (a *Agent) measureRoom() metrics.Room {
	return metrics.Room{
		Capacity:    measured(a.capacity.Total),
		Allocatable: measured(a.capacity.Allocatable()),
		Requested:   measured(a.requested()),
	}
}

func measured(a capacity.Amounts) metrics.Amounts {
	return metrics.Amounts{CPUCores: float64(a[capacity.CPU]) / 1000, MemoryBytes: float64(a[capacity.Memory]), Pids: float64(a[capacity.Pids])}
}
