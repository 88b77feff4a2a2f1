package chaos

import (
	"fmt"
	"testing"

	"google.golang.org/protobuf/proto"

	purserv1 "github.com/purserd/purser/api/purser/v1"
	"github.com/purserd/purser/e2e/rig"
)

// rolloutSteps are those of a change of a launch spec at which the agent is killed.
func (w way) rolloutSteps() []string {
	all := []string{"launch.record", "launch.recorded", "wish.recorded", "status.save", "status.saved", "rollout.stepped",
		"start.resolved", "start.created", "start.started", "delete.done", "stop.signalled"}
	if w == rolls {
		all = append(all, "promote.done")
	}
	return all
}

// TestRolloutThroughDeath has the agent die at each step of a change to a spec that turns out
// well, or does not: it is carried through, or gone back from after two tries, and neither is
// done twice.
func TestRolloutThroughDeath(t *testing.T) {
	for i, s := range nodes {
		if *only != "" && *only != string(s.version) {
			continue
		}
		t.Run(fmt.Sprintf("containerd %s", s.version), func(t *testing.T) {
			t.Parallel()
			n := newNode(t, settings{version: s.version, runtimes: s.runtimes})
			movers := []*mover{n.begin(rolls), n.begin(restarts)}
			for _, m := range movers {
				r := &remaker{mover: m}
				for j, step := range m.rolloutSteps() {
					r.roll(j%2 == i%2, step) // the other containerd has it the other way
				}
			}
			n.empty(movers)
		})
	}
}

// remaker is an app whose first function gets other specs.
type remaker struct {
	*mover
	made int // secrets, one for each spec
}

// roll changes the spec of a function while the agent is killed at a step, if that is passed.
func (r *remaker) roll(well bool, step string) {
	r.t.Helper()
	before := r.state()
	r.made++
	mood := map[bool]string{true: "good", false: "bad"}[well]
	name := fmt.Sprintf("t-%s-%d", r.way, r.made)
	if _, err := ask(r.api.Secrets.Put, &purserv1.PutRequest{Environment: environment, Name: name, Data: map[string][]byte{"KEY": []byte(mood + name)}}); err != nil {
		r.t.Fatal(err)
	}
	spec := r.spec("f")
	spec.Secrets[0].Name = proto.String(name)
	r.arm(step, "kill", 1)
	r.launch(spec, before.GetGeneration()+1)
	tries := 1
	if !well {
		tries = map[way]int{rolls: 2, restarts: 3}[r.way]
	}
	r.await("its spec has turned out", func() string { return r.turnedOut(well, before) })
	hit := r.disarm()
	r.awaitAgent(patience)
	r.await("it is as it is to be", func() string { return r.turnedOut(well, before) })
	if starts := r.starts("f"); starts != tries {
		r.t.Errorf("%s, well: %t, %v: it was started %d times, not %d", r.way, well, hit, starts, tries)
	}
	if pid := r.processes("f")[0].pid; !well && r.way == rolls && pid != r.pids["f"] {
		r.t.Errorf("%v: what served was process %d and is %d", hit, r.pids["f"], pid)
	}
	if value := r.processes("f")[0].env["KEY"]; well && value != "good"+name {
		r.t.Errorf("%v: it has %q", hit, value)
	}
	r.settle()
}

// launch asks for a spec until an agent has answered.
func (r *remaker) launch(spec *purserv1.LaunchSpec, generation uint64) {
	r.t.Helper()
	var err error
	if !rig.ComesTrue(patience, func() bool {
		_, err = ask(r.api.Workloads.Launch, &purserv1.LaunchRequest{Spec: spec, Generation: &generation})
		return err == nil
	}) {
		r.t.Fatal(err)
	}
}

func (r *remaker) state() *purserv1.Workload {
	r.t.Helper()
	states, err := r.states()
	if err != nil {
		r.t.Fatal(err)
	}
	return states[r.id("f")]
}

// turnedOut says why it does not run on the newest generation, or on the one before if that
// is none to run on.
func (r *remaker) turnedOut(well bool, before *purserv1.Workload) string {
	states, err := r.states()
	if err != nil {
		return err.Error()
	}
	w, runs := states[r.id("f")], before.GetBackedOut().GetRunsGeneration()
	if runs == 0 {
		runs = before.GetGeneration()
	}
	if well {
		runs = before.GetGeneration() + 1
	}
	here := r.processes("f")
	switch {
	case w.GetState() != "ready" || len(w.GetInstances()) != 1 || len(here) != 1 || int(w.GetInstances()[0].GetPid()) != here[0].pid:
	case w.GetGeneration() != before.GetGeneration()+1 || w.GetInstances()[0].GetGeneration() != runs || w.GetRotation().GetState() != "current":
	case well && w.GetBackedOut() == nil && w.GetFallsBackTo() == 0:
		return ""
	case !well && w.GetBackedOut().GetGeneration() == w.GetGeneration() && w.GetBackedOut().GetRunsGeneration() == runs:
		return ""
	}
	return fmt.Sprintf("%d processes, and %v", len(here), w)
}
