package chaos

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	purserv1 "github.com/purserd/purser/api/purser/v1"
	"github.com/purserd/purser/e2e/rig"
)

// way is one in which workloads move to other versions of their secret.
type way string

const (
	rolls     way = "rolling"
	restarts  way = "restart"
	signals   way = "signal"
	refreshes way = "refresh"
)

var ways = []way{rolls, restarts, signals, refreshes}

// remade says whether another instance is made.
func (w way) remade() bool { return w == rolls || w == restarts }

// steps are those of a rotation at which the agent is killed: of a version that turns out
// well, and of one that does not.
func (w way) steps(well bool) []string {
	all := []string{"wish.record", "wish.recorded", "status.save", "status.saved", "rotation.begun"}
	if w.remade() {
		all = append(all, "start.resolved", "start.created", "start.started", "delete.done",
			"network.recorded", "network.pinned", "network.added", "network.connected", "network.claimed", "network.deleted", "network.unpinned")
	} else {
		all = append(all, "rotation.deliver", "rotation.delivered")
	}
	if w == restarts || w == rolls && well {
		all = append(all, "stop.signalled")
	}
	if w == rolls && well {
		all = append(all, "promote.done")
	}
	if well {
		return append(all, "rotation.committed")
	}
	return append(all, "rotation.withdrawn")
}

// members are the functions of an app: one goes first.
var members = []string{"f", "g"}

// mover is an app whose functions move in one way, with a secret of its own.
type mover struct {
	*node
	way
	version uint32 // that all run on
	value   string
	pids    map[string]int // of the functions
	told    map[string]int // starts that were known before
}

// TestRotationThroughDeath has the agent die at each step of a rotation: it is neither
// forgotten nor done again, and nobody else is touched.
func TestRotationThroughDeath(t *testing.T) {
	for i, s := range nodes {
		if *only != "" && *only != string(s.version) {
			continue
		}
		t.Run(fmt.Sprintf("containerd %s", s.version), func(t *testing.T) {
			t.Parallel()
			n := newNode(t, settings{version: s.version, runtimes: s.runtimes})
			var movers []*mover
			for _, w := range ways {
				movers = append(movers, n.begin(w))
			}
			for round, m := range append(slices.Clone(movers), movers...) {
				well := round < len(movers)
				m.t.Logf("%s, well: %t", m.way, well)
				m.through(well, half(m.steps(well), i+round/len(movers)))
				for _, other := range movers {
					if other != m {
						other.expectUntouched()
					}
				}
			}
			n.empty(movers)
		})
	}
}

// half is every second step: the other containerd has the others.
func half(steps []string, first int) (some []string) {
	for i, step := range steps {
		if *whole || i%2 == first%2 {
			some = append(some, step)
		}
	}
	return some
}

// begin launches an app.
func (n *node) begin(w way) *mover {
	n.t.Helper()
	m := &mover{node: n, way: w, pids: map[string]int{}, told: map[string]int{}}
	m.set(true)
	for _, f := range members {
		n.copyPipe(m.name(f))
		if _, err := ask(n.api.Workloads.Launch, &purserv1.LaunchRequest{Spec: m.spec(f)}); err != nil {
			n.t.Fatal(err)
		}
	}
	m.await("all run", m.current)
	m.settle()
	return m
}

func (m *mover) secret() string       { return "s-" + string(m.way) }
func (m *mover) name(f string) string { return string(m.way) + "-" + f }
func (m *mover) id(f string) string   { return string(m.way) + "/" + f }

// spec is of a function that cannot live on a value that begins with bad: it ends, or is not
// ready.
func (m *mover) spec(f string) *purserv1.LaunchSpec {
	ref := &purserv1.SecretRef{Name: proto.String(m.secret())}
	s := &purserv1.LaunchSpec{
		App: proto.String(string(m.way)), Function: proto.String(f), Environment: proto.String(environment),
		Image:    &purserv1.Image{Ref: proto.String(image)},
		Command:  []string{"sh", "-c", `trap 'echo "told $PURSER_INSTANCE 0" >>/truth/$PIPE' HUP; trap "exit 0" TERM; ` + begins + `while :; do look; sleep 0.1; done`},
		Env:      map[string]string{"CHAOS": m.truth, "PIPE": pipeOf(m.name(f)), "SERVES": "variable", "MARK": "0"},
		Mounts:   []*purserv1.Mount{{Source: proto.String(m.truth), Target: proto.String("/truth"), ReadOnly: proto.Bool(true)}},
		Rotation: &purserv1.Rotation{MinReady: proto.String("300ms")},
		Secrets:  []*purserv1.SecretRef{ref},
		Probes:   whileServed(),
	}
	if m.remade() {
		s.Rotation.Strategy = proto.String(string(m.way))
		return s
	}
	ref.Env, ref.OnChange = proto.Bool(false), proto.String(string(m.way))
	ref.File = &purserv1.SecretFile{Path: proto.String("/run/secrets/s")}
	s.Env["SERVES"] = "file"
	s.Rotation.HealthTimeout = proto.String("3s")
	return s
}

// set writes a version that is good, or bad.
func (m *mover) set(well bool) (version uint32) {
	m.t.Helper()
	mood := map[bool]string{true: "good", false: "bad"}[well]
	value := fmt.Sprintf("%s-%s-%d", mood, m.way, time.Now().UnixNano())
	put, err := ask(m.api.Secrets.Put, &purserv1.PutRequest{Environment: environment, Name: m.secret(), Data: map[string][]byte{"KEY": []byte(value)}})
	if err != nil {
		m.t.Fatal(err)
	}
	if well {
		m.version, m.value = put.GetVersion(), value
	}
	return put.GetVersion()
}

// through has the agent killed at some steps of one rotation, and at those that were not
// passed in it, as it died before, at those of further ones.
func (m *mover) through(well bool, steps []string) {
	m.t.Helper()
	for try := 1; len(steps) > 0; try++ {
		if try > 3 {
			m.t.Errorf("%s, well: %t: nothing passes %v", m.way, well, steps)
			return
		}
		began, before := time.Now(), m.died()
		version := m.set(well)
		for _, step := range steps {
			m.arm(step, "kill", 1) // changes are waited for before anything passes one
		}
		if well {
			m.goWell()
		} else {
			m.goWrong(version)
		}
		hit := m.disarm()
		m.awaitAgent(patience)
		m.t.Logf("%.1f s, %d agents died: %v", time.Since(began).Seconds(), m.died()-before, hit)
		m.settle()
		steps = slices.DeleteFunc(steps, func(step string) bool { return slices.Contains(hit, step) })
	}
}

// goWell has all move to a good version, each of them once.
func (m *mover) goWell() {
	m.t.Helper()
	m.await("all have moved", m.current)
	for _, f := range members {
		starts := m.starts(f)
		if want := map[bool]int{true: 1, false: 0}[m.remade()]; starts != want {
			m.t.Errorf("%s was started %d times", m.id(f), starts)
		}
		m.expectValue(f)
	}
}

// goWrong has one try a bad version twice, and go back.
func (m *mover) goWrong(version uint32) {
	m.t.Helper()
	m.await("it is quarantined, and all are as they were", func() string {
		if why := m.quarantined(version); why != "" {
			return why
		}
		return m.held()
	})
	// With restart it goes back to another one; other files are tried twice in the one there is.
	tries := map[way]int{rolls: 2, restarts: 3}[m.way]
	var moved []int
	for _, f := range members {
		starts := m.starts(f)
		if starts > 0 {
			moved = append(moved, starts)
		}
		if pid := m.processes(f)[0].pid; pid != m.pids[f] && (m.way != restarts || starts == 0) {
			m.t.Errorf("%s was process %d and is %d", m.id(f), m.pids[f], pid)
		}
		m.expectValue(f)
	}
	if want := []int{tries}; tries > 0 && !slices.Equal(moved, want) || tries == 0 && moved != nil {
		m.t.Errorf("%s: started were %v, not one of them %d times", m.way, moved, tries)
	}
}

// await waits until nothing is said to be in the way.
func (m *mover) await(what string, why func() string) {
	m.t.Helper()
	text := ""
	if !rig.ComesTrue(patience, func() bool { text = why(); return text == "" }) {
		m.t.Fatalf("%s: waited for that %s: %s", m.way, what, text)
	}
}

// current says what keeps all from being at rest on the version.
func (m *mover) current() string { return m.standing("current") }

// held says so where all are to be kept on it.
func (m *mover) held() string { return m.standing("held") }

func (m *mover) standing(state string) string {
	states, err := m.states()
	if err != nil {
		return err.Error()
	}
	for _, f := range members {
		w, most := states[m.id(f)], map[bool]int{true: 2, false: 1}[m.way == rolls]
		here := m.processes(f)
		if len(here) > most {
			m.t.Errorf("%s runs %d times", m.id(f), len(here))
		}
		if w.GetState() != "ready" || len(w.GetInstances()) != 1 || len(here) != 1 || w.GetRotation().GetState() != state || w.GetPins()[0].GetVersion() != m.version {
			return fmt.Sprintf("%s is %s (%s), %s (%s), on %v, with %d instances and %d processes", m.id(f),
				w.GetState(), w.GetReason(), w.GetRotation().GetState(), w.GetRotation().GetReason(), w.GetPins(), len(w.GetInstances()), len(here))
		}
		if int(w.GetInstances()[0].GetPid()) != here[0].pid {
			return fmt.Sprintf("%s is process %d for the agent, and %d", m.id(f), w.GetInstances()[0].GetPid(), here[0].pid)
		}
	}
	return ""
}

// quarantined says why a version is not, with the reason.
func (m *mover) quarantined(version uint32) string {
	is, err := ask(m.api.Secrets.Describe, &purserv1.DescribeRequest{Environment: environment, Name: m.secret()})
	if err != nil {
		return err.Error()
	}
	reason := map[bool]string{true: "status 7", false: "not ready"}[m.remade()]
	for _, v := range is.GetVersions() {
		if v.GetVersion() == version && (v.GetState() != "quarantined" || !strings.Contains(v.GetReason(), reason)) {
			return fmt.Sprintf("version %d is %s: %s", version, v.GetState(), v.GetReason())
		}
	}
	return ""
}

// processes are those of a function.
func (m *mover) processes(f string) []process { return m.byWorkload()[m.id(f)] }

// starts is how often a function was started since it was at rest.
func (m *mover) starts(f string) int { return len(m.node.told(m.name(f)).starts) - m.told[f] }

// settle notes what is there at rest.
func (m *mover) settle() {
	for _, f := range members {
		m.pids[f], m.told[f] = m.processes(f)[0].pid, len(m.node.told(m.name(f)).starts)
	}
}

// expectValue has what runs have the value.
func (m *mover) expectValue(f string) {
	m.t.Helper()
	p := m.processes(f)[0]
	value := p.env["KEY"]
	if !m.remade() {
		data, err := os.ReadFile(fmt.Sprintf("/proc/%d/root/run/secrets/s/KEY", p.pid))
		if err != nil {
			m.t.Error(err)
		}
		value = string(data)
	}
	if value != m.value {
		m.t.Errorf("%s has %q, not %q", m.id(f), value, m.value)
	}
	if same := p.pid == m.pids[f]; !m.remade() && !same {
		m.t.Errorf("%s was process %d and is %d", m.id(f), m.pids[f], p.pid)
	}
	if m.way == signals && !m.signalled(f, p.instance) {
		m.t.Errorf("%s has had no signal", m.id(f))
	}
}

// signalled says whether an instance has told of a signal.
func (m *mover) signalled(f, instance string) bool {
	return rig.ComesTrue(2*time.Second, func() bool {
		data, _ := os.ReadFile(filepath.Join(m.truth, m.name(f)))
		return strings.Contains(string(data), "told "+instance)
	})
}

// expectUntouched finds the processes of an app as they were at rest.
func (m *mover) expectUntouched() {
	m.t.Helper()
	for _, f := range members {
		if here := m.processes(f); len(here) != 1 || here[0].pid != m.pids[f] || m.starts(f) != 0 {
			m.t.Errorf("%s has been touched: it was process %d and is %v; %d starts", m.id(f), m.pids[f], pids(here), m.starts(f))
		}
	}
}

// empty removes all, and finds nothing left.
func (n *node) empty(movers []*mover) {
	n.t.Helper()
	for _, m := range movers {
		for _, f := range members {
			if _, err := ask(n.api.Workloads.Remove, &purserv1.RemoveRequest{Environment: environment, Id: m.id(f)}); err != nil {
				n.t.Error(err)
			}
		}
	}
	for _, what := range append(n.leftovers(newModel()), n.wrong...) {
		n.t.Error(what)
	}
	n.close()
}
