package agent

import (
	"errors"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/purserd/purser/agent/capacity"
	"github.com/purserd/purser/agent/config"
	"github.com/purserd/purser/agent/supervise"
	statev1 "github.com/purserd/purser/api/purser/state/v1"
	purserv1 "github.com/purserd/purser/api/purser/v1"
	"github.com/purserd/purser/api/version"
	"github.com/purserd/purser/metrics"
)

// asking is the record of a workload that asks for memory.
func asking(function, memory string) *statev1.Workload {
	return &statev1.Workload{
		Environment: "dev", Id: "a/" + function, Run: 1, Goal: string(supervise.Run),
		Spec: &purserv1.LaunchSpec{
			App: proto.String("a"), Function: proto.String(function),
			Resources: &purserv1.Resources{Memory: proto.String(memory)},
		},
	}
}

// roomFor is an agent with a gibibyte that runs workloads.
func roomFor(records ...*statev1.Workload) *Agent {
	a := with()
	a.metrics = metrics.New(version.Info{}, a, metrics.Labels{})
	a.capacity = capacity.Node{
		Total:      capacity.Amounts{capacity.CPU: 1000, capacity.Memory: 1 << 30, capacity.Pids: 100},
		Overcommit: capacity.Factors{capacity.CPU: 1, capacity.Memory: 1, capacity.Pids: 1},
	}
	for _, r := range records {
		w := newWorkload(a, r, supervise.Status{State: supervise.Running, Run: 1})
		a.workloads[w.key] = w
	}
	return a
}

// ontoPlan plans to have a record take the place of what there is of its ID.
func (a *Agent) ontoPlan(r *statev1.Workload) plan {
	return plan{record: r, workload: a.lookup(r.GetEnvironment(), r.GetId())}
}

func TestAdmission(t *testing.T) {
	stopped := asking("stopped", "1Gi")
	stopped.Goal = string(supervise.Stop)
	removed := asking("big", "768Mi")
	removed.Goal = string(supervise.Remove)
	for name, tc := range map[string]struct {
		runs  []*statev1.Workload
		plans []*statev1.Workload
		want  string // of the refusal; empty when admitted
	}{
		"the first":             {nil, []*statev1.Workload{asking("f", "1Gi")}, ""},
		"too big":               {nil, []*statev1.Workload{asking("f", "1025Mi")}, "memory: 1.1Gi asked for, 1Gi free of 1Gi"},
		"beside another":        {[]*statev1.Workload{asking("big", "768Mi")}, []*statev1.Workload{asking("f", "256Mi")}, ""},
		"too big beside":        {[]*statev1.Workload{asking("big", "768Mi")}, []*statev1.Workload{asking("f", "257Mi")}, "257Mi asked for, 256Mi free of 1Gi (1Gi less a reserve of 0, times 1); 768Mi taken, most of it by dev a/big (768Mi)"},
		"two, of which one":     {nil, []*statev1.Workload{asking("f", "512Mi"), asking("g", "513Mi")}, "1.1Gi asked for by dev a/g (513Mi), dev a/f (512Mi)"},
		"a larger one":          {[]*statev1.Workload{asking("f", "768Mi")}, []*statev1.Workload{asking("f", "1Gi")}, ""},
		"larger than all":       {[]*statev1.Workload{asking("f", "768Mi")}, []*statev1.Workload{asking("f", "2Gi")}, "2Gi asked for, 1Gi free"},
		"what is stopped":       {[]*statev1.Workload{stopped}, []*statev1.Workload{asking("f", "1Gi")}, ""},
		"in place of another":   {[]*statev1.Workload{asking("big", "768Mi")}, []*statev1.Workload{asking("f", "1Gi"), removed}, ""},
		"one grows, one goes":   {[]*statev1.Workload{asking("big", "768Mi"), asking("f", "256Mi")}, []*statev1.Workload{asking("f", "1Gi"), removed}, ""},
		"accepted and too much": {[]*statev1.Workload{asking("big", "2Gi")}, []*statev1.Workload{asking("big", "2Gi")}, ""},
		"less, and too much":    {[]*statev1.Workload{asking("big", "4Gi")}, []*statev1.Workload{asking("big", "2Gi")}, ""},
		"asks for nothing":      {[]*statev1.Workload{asking("big", "2Gi")}, []*statev1.Workload{{Environment: "dev", Id: "x", Goal: "run"}}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			a := roomFor(tc.runs...)
			var plans []plan
			for _, r := range tc.plans {
				plans = append(plans, a.ontoPlan(r))
			}
			err := a.admit(plans...)
			var refusal *Refusal
			switch {
			case tc.want == "" && err != nil:
				t.Errorf("refused: %v", err)
			case tc.want != "" && (!errors.As(err, &refusal) || refusal.Reason != NoRoom || !strings.Contains(err.Error(), tc.want)):
				t.Errorf("got %v, want it to contain %q", err, tc.want)
			}
		})
	}
}

func TestWhatCounts(t *testing.T) {
	a := with()
	for name, tc := range map[string]struct {
		goal   supervise.Goal
		state  supervise.State
		run    uint64 // of the status; the record's is 1
		counts bool
	}{
		"running":            {supervise.Run, supervise.Running, 1, true},
		"accepted":           {supervise.Run, supervise.Pending, 0, true},
		"backing off":        {supervise.Run, supervise.BackingOff, 1, true},
		"waits for an image": {supervise.Run, supervise.Pulling, 1, true},
		"drained":            {supervise.Run, supervise.Pending, 1, true},
		"completed":          {supervise.Run, supervise.Completed, 1, false},
		"failed":             {supervise.Run, supervise.Failed, 1, false},
		"failed before":      {supervise.Run, supervise.Failed, 0, true},
		"stopping":           {supervise.Stop, supervise.Stopping, 1, false},
		"being removed":      {supervise.Remove, supervise.Stopping, 1, false},
	} {
		r := asking("f", "1Gi")
		r.Goal = string(tc.goal)
		if got := newWorkload(a, r, supervise.Status{State: tc.state, Run: tc.run}).counts(); got != tc.counts {
			t.Errorf("%s: counts %v", name, got)
		}
	}
}

func TestStartOfWhatWasStoppedIsAdmitted(t *testing.T) {
	stopped := asking("f", "512Mi")
	stopped.Goal = string(supervise.Stop)
	a := roomFor(asking("big", "768Mi"), stopped)
	again := asking("f", "512Mi")
	again.Run = 2
	w := a.lookup("dev", "a/f")
	var refusal *Refusal
	if err := a.mayRun(w, again); !errors.As(err, &refusal) || refusal.Reason != NoRoom {
		t.Errorf("got %v", err)
	}
	if err := a.mayRun(w, stopped); err != nil {
		t.Errorf("stopping it: %v", err)
	}
	if err := a.mayRun(a.lookup("dev", "a/big"), asking("big", "768Mi")); err != nil {
		t.Errorf("restarting what runs: %v", err)
	}
}

func TestCapacityByConfiguration(t *testing.T) {
	c := config.Default().Capacity
	c.CPU, c.Memory, c.Pids = 1.5, 3<<30, 77
	n, err := findCapacity(c, "/purser")
	if err != nil {
		t.Fatal(err)
	}
	if n.Total[capacity.CPU] != 1500 || n.Total[capacity.Memory] != 3<<30 || n.Total[capacity.Pids] != 77 {
		t.Errorf("got %v", n.Total)
	}
	if n.Allocatable()[capacity.CPU] != 5600 {
		t.Errorf("allocatable %v", n.Allocatable())
	}
}
