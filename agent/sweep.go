package agent

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/purserd/purser/agent/supervise"
	"github.com/purserd/purser/runtime"
)

// firstSweeps is the time between the first two sweeps, by which goes what an agent
// left that was killed.
const firstSweeps = 10 * time.Second

// sweepLeaks looks again and again for what containers have left on the node, until ctx
// ends. It is quiet when there is nothing.
func (a *Agent) sweepLeaks(ctx context.Context) {
	period := time.Duration(a.cfg.Sweep.Period)
	if period == 0 {
		return
	}
	// Until then containers may be there that the agent does not know yet.
	if err := a.gate.pass(ctx, nil); err != nil {
		return
	}
	sweeper := a.runtime.Sweeper(a.known)
	pause := min(firstSweeps, period)
	for {
		leaks, err := sweeper.Sweep(ctx)
		a.tellOfLeaks(leaks)
		switch {
		case ctx.Err() != nil:
			return
		case err == nil:
		case errors.Is(err, runtime.ErrUnavailable):
			a.log.Debug("nobody can tell what containers have left", "error", err)
		default:
			a.log.Warn("not all can be removed that containers have left; trying again", "error", err)
		}
		if sleep(ctx, pause); ctx.Err() != nil {
			return
		}
		// Less up to a tenth, so that the agents of many nodes don't sweep at once.
		pause = period - time.Duration(rand.Float64()*float64(period)/10)
		if err != nil {
			pause = min(pause, firstSweeps)
		}
	}
}

// tellOfLeaks counts and tells of what was removed. What was there when this agent came
// may have been left by one that was killed, which is no wonder.
func (a *Agent) tellOfLeaks(leaks []runtime.Leak) {
	for _, l := range leaks {
		if l.Inherited {
			a.log.Info("removed what was left by an earlier agent", "kind", l.Kind, "instance", l.Instance, "name", l.Name)
			continue
		}
		a.metrics.Leaked(l.Kind)
		if l.Instance == "" {
			a.emit(warning, "Leaked", "", "", "%s was left behind (%s); it has been removed", l.Name, l.Kind)
			continue
		}
		environment, workload := a.ownerOf(l)
		a.emit(warning, "Leaked", environment, workload, "container %s is gone and had left something behind (%s: %s); it has been removed", l.Instance, l.Kind, l.Name)
	}
}

// ownerOf says whose container left something, by its log or else by the records; empty
// when both have gone.
func (a *Agent) ownerOf(l runtime.Leak) (environment, workload string) {
	if l.About.Workload != "" {
		return l.About.Environment, l.About.Workload
	}
	if w := a.workloadOf(l.Instance); w != nil {
		return w.environment(), w.id()
	}
	return "", ""
}

// workloadOf is the workload that an instance is, or was, of; nil when it is not on
// record any more.
func (a *Agent) workloadOf(instance string) *workload {
	for _, w := range a.all("", "") {
		v, _ := w.supervisor.View()
		if slices.Contains(w.logged(v.Status), instance) {
			return w
		}
	}
	return nil
}

// known are the instances that the agent has a record of: an instance is recorded before
// anything of it is made, and until all of it is deleted.
func (a *Agent) known() runtime.Known {
	k := runtime.Known{Instances: a.instances(), Logs: map[string]bool{}}
	for _, w := range a.all("", "") {
		v, _ := w.supervisor.View()
		for _, id := range w.logged(v.Status) {
			k.Logs[id] = true
		}
	}
	return k
}

// logged are the instances of a workload whose logs are there, or about to be dropped.
func (w *workload) logged(s supervise.Status) []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append(slices.Clone(w.stale), s.Instances()...)
}
