package agent

import (
	"slices"
	"sync"

	"github.com/purserd/purser/agent/supervise"
	"github.com/purserd/purser/api/launchspec"
	"github.com/purserd/purser/metrics"
	"github.com/purserd/purser/runtime"
)

// oomKills counts the processes that the kernel has killed for want of memory, by
// function, since the agent started. A cgroup has such a counter, which goes with its
// container; these outlive it, and never go down.
type oomKills struct {
	mu sync.Mutex
	of map[metrics.Function]*oomCount
}

// oomCount is the count of one function.
type oomCount struct {
	// gone is the sum of instances of which nothing more will be heard.
	gone uint64
	// instances has what each of the others was seen to have.
	instances map[string]uint64
}

// saw notes the counter of an instance, which may have been noted before.
func (o *oomKills) saw(f metrics.Function, instance string, kills uint64) {
	if kills == 0 {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.note(f, instance, kills)
}

// note is saw for who holds mu.
func (o *oomKills) note(f metrics.Function, instance string, kills uint64) {
	if o.of == nil {
		o.of = map[metrics.Function]*oomCount{}
	}
	c := o.of[f]
	if c == nil {
		c = &oomCount{instances: map[string]uint64{}}
		o.of[f] = c
	}
	c.instances[instance] = max(c.instances[instance], kills)
}

// settle returns the counts of the functions that there are, with the instances that
// something may still be heard of. Others are forgotten. The caller holds mu.
func (o *oomKills) settle(there map[metrics.Function][]string) map[metrics.Function]uint64 {
	for f := range o.of {
		if _, ok := there[f]; !ok {
			delete(o.of, f)
		}
	}
	counts := map[metrics.Function]uint64{}
	for f, instances := range there {
		counts[f] = o.of[f].settle(instances)
	}
	return counts
}

// settle adds up what there is, and keeps apart what may still change.
func (c *oomCount) settle(there []string) uint64 {
	if c == nil {
		return 0
	}
	total := c.gone
	for id, kills := range c.instances {
		total += kills
		if !slices.Contains(there, id) {
			c.gone += kills
			delete(c.instances, id)
		}
	}
	return total
}

// measureOOMKills is what all functions of the node have come to.
func (a *Agent) measureOOMKills(stats map[string]runtime.Stats) map[metrics.Function]uint64 {
	// While the workloads are looked at, too: by an older look a later instance would
	// be one that is gone.
	a.oomKills.mu.Lock()
	defer a.oomKills.mu.Unlock()
	there := map[metrics.Function][]string{}
	for _, w := range a.list("", "") {
		f, counted := w.function()
		if !counted {
			continue
		}
		v, _ := w.supervisor.View()
		ids := v.Status.Instances()
		there[f] = append(there[f], ids...)
		for _, id := range ids {
			if s := stats[id]; s.OOMKills > 0 {
				a.oomKills.note(f, id, s.OOMKills)
			}
		}
	}
	return a.oomKills.settle(there)
}

// function is what a workload is counted as, if it is counted: the names of one-off
// workloads do not recur.
func (w *workload) function() (f metrics.Function, counted bool) {
	spec := w.record().GetSpec()
	f = metrics.Function{App: spec.GetApp(), Name: spec.GetFunction(), Environment: w.environment()}
	return f, !launchspec.OneOff(spec)
}

// exited puts into words how an instance ended, and counts what it was short of.
func (w *workload) exited(instance string, e runtime.Exit) *supervise.Exit {
	if f, counted := w.function(); counted {
		w.agent.oomKills.saw(f, instance, e.OOMKills)
	}
	return exitOf(instance, e)
}
