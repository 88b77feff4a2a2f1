package agent

import (
	"testing"

	"github.com/purserd/purser/agent/supervise"
	"github.com/purserd/purser/metrics"
	"github.com/purserd/purser/runtime"
)

// onInstance is a workload of an agent's that has an instance, in the place of the one
// that it had.
func onInstance(a *Agent, id, instance string, change ...func(*supervise.Status)) *workload {
	r := asking("f", "1Mi")
	r.Id = id
	status := supervise.Status{State: supervise.Running, Run: 1, Instance: &supervise.Instance{ID: instance, Revision: supervise.NewRevision(1, r.GetSpec(), nil)}}
	for _, f := range change {
		f(&status)
	}
	w := newWorkload(a, r, status)
	a.workloads[w.key] = w
	return w
}

// What the kernel killed is counted beyond the end of the container that it was in.
func TestOOMKillsOutliveContainers(t *testing.T) {
	a := roomFor()
	f := metrics.Function{App: "a", Name: "f", Environment: "dev"}
	expect := func(when string, want uint64, stats map[string]runtime.Stats) {
		t.Helper()
		if got, there := a.measureOOMKills(stats)[f]; !there || got != want {
			t.Errorf("%s: got %d, %v; want %d", when, got, there, want)
		}
	}
	w := onInstance(a, "a/f", "one")
	expect("nothing has happened", 0, nil)
	expect("two were killed", 2, map[string]runtime.Stats{"one": {OOMKills: 2}})
	expect("containerd is away", 2, nil)
	for range 2 { // it may be asked for again
		if e := w.exited("one", runtime.Exit{Code: killed, OOMKills: 3}); e.Cause != supervise.OOMKilled {
			t.Errorf("ended by %s", e.Cause)
		}
	}
	expect("the first process was killed", 3, nil)
	w = onInstance(a, "a/f", "two")
	expect("another runs", 4, map[string]runtime.Stats{"two": {OOMKills: 1}})
	w.exited("two", runtime.Exit{Code: killed, OOMKills: 1})
	expect("it was killed", 4, nil)
	onInstance(a, "other", "three")
	expect("beside another of the same labels", 6, map[string]runtime.Stats{"three": {OOMKills: 2}})
	a.drop(a.lookup("dev", "other"))
	expect("that one is gone", 6, nil)
	a.drop(a.lookup("dev", "a/f"))
	if all := a.measureOOMKills(nil); len(all) != 0 || len(a.oomKills.of) != 0 {
		t.Errorf("of no workload: %v", all)
	}
}

func TestOneOffWorkloadsHaveNoOOMKills(t *testing.T) {
	a := roomFor()
	w := onInstance(a, "a/f", "one")
	w.wanted.Spec.Labels = map[string]string{"purser.one-off": "true"}
	w.exited("one", runtime.Exit{Code: killed, OOMKills: 1})
	if all := a.measureOOMKills(map[string]runtime.Stats{"one": {OOMKills: 1}}); len(all) != 0 || len(a.oomKills.of) != 0 {
		t.Errorf("got %v", all)
	}
}
