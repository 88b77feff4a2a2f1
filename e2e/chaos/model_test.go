package chaos

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	purserv1 "github.com/purserd/purser/api/purser/v1"
)

// goal is what is wanted of a workload.
type goal string

const (
	run    goal = "run"
	stop   goal = "stop"
	absent goal = "absent"
)

// world is what may be wanted of a workload.
type world struct {
	goal goal
	mark int // of its spec
}

// thing is what the model knows of one workload.
type thing struct {
	name string
	kind kind
	// worlds are what may be wanted: more than one after a call that nobody answered.
	worlds []world

	// What was found when the node was at rest last.
	pid      int
	instance string
	starts   int // as its payloads have told
	version  int // of its secret

	// What has been done since.
	touched int  // starts that this may have led to
	kills   int  // deaths of its payload or its shim, which must be followed by a start
	fresh   bool // a new instance must run: a call that was answered says so
	job     int  // runs of a job that were asked for
}

func (t *thing) id() string { return "c/" + t.name }

// certain says whether it is known what is wanted.
func (t *thing) certain() bool { return len(t.worlds) == 1 }

// model is what must be true, whatever the agent thinks.
type model struct {
	things map[string]*thing
	// secrets by name.
	secrets map[string]*secret
	// all are the values of all calls, answered or not.
	all []string
	// killed are instances that got a SIGKILL which the payload could not tell of.
	killed map[string]bool
	// blind are instances of which nobody can know how they ended: their shim was
	// killed, or containerd was away.
	blind map[string]bool
	// judged are the instances whose exit has been compared.
	judged map[string]bool
	// heard are the instances whose output has been looked at since their end.
	heard map[string]bool
	// unheld: both the agent and the log helper have died in this round. Where that is at
	// the same time, nobody has the FIFOs open, and what a container that ends has left
	// in them is gone.
	unheld bool
	// agentDied in this round.
	agentDied bool
	// away counts how often containerd was, in this round.
	away int
}

func newModel() *model {
	return &model{things: map[string]*thing{}, secrets: map[string]*secret{plain: newSecret(), turning: newSecret()}, killed: map[string]bool{}, blind: map[string]bool{}, heard: map[string]bool{}, judged: map[string]bool{}}
}

// names in a fixed order, so that a seed means the same in every run.
func (m *model) names() []string { return slices.Sorted(maps.Keys(m.things)) }

// answered notes a call that was answered: from now on this alone is wanted.
func (t *thing) answered(w world, starts int) {
	t.worlds = []world{w}
	t.touched += starts
	t.fresh = w.goal == run && (starts > 0 || t.fresh)
}

// unclear notes a call that nobody answered.
func (t *thing) unclear(w world, starts int) {
	t.worlds = append(t.worlds, w)
	t.touched += starts
	t.fresh = false
}

// settled says whether a workload is as one of its worlds has it, and which; why not
// otherwise. w is what the agent says, nil when it knows none; here is what runs.
func (m *model) settled(t *thing, w *purserv1.Workload, here []process) (world, string) {
	reasons := []string{}
	for _, is := range t.worlds {
		why := m.fits(t, is, w, here)
		if why == "" {
			return is, ""
		}
		reasons = append(reasons, fmt.Sprintf("if %v: %s", is, why))
	}
	return world{}, strings.Join(reasons, "; ")
}

// fits says why a workload is not as a world has it.
func (m *model) fits(t *thing, is world, w *purserv1.Workload, here []process) string {
	if is.goal == absent {
		if w != nil || len(here) > 0 {
			return fmt.Sprintf("it is there: %s, processes %v", w.GetState(), pids(here))
		}
		return ""
	}
	if w == nil {
		return "the agent does not know it"
	}
	if mark := w.GetSpec().GetEnv()["MARK"]; mark != fmt.Sprint(is.mark) {
		return "it has the spec of mark " + mark
	}
	if is.goal == stop {
		return m.fitsStopped(w, here)
	}
	if t.kind.job() {
		return m.fitsFinished(w, here)
	}
	if t.kind == crasher {
		return "" // never at rest
	}
	return m.fitsRunning(t, is, w, here)
}

func pids(all []process) (out []int) {
	for _, p := range all {
		out = append(out, p.pid)
	}
	return out
}

func (m *model) fitsStopped(w *purserv1.Workload, here []process) string {
	ended := slices.Contains([]string{"stopped", "completed", "failed"}, w.GetState())
	if !ended || len(here) > 0 || len(w.GetInstances()) > 0 {
		return fmt.Sprintf("it is %s (%s), instances %v, processes %v", w.GetState(), w.GetReason(), w.GetInstances(), pids(here))
	}
	return ""
}

func (m *model) fitsFinished(w *purserv1.Workload, here []process) string {
	if w.GetState() != "completed" && w.GetState() != "failed" || len(here) > 0 || len(w.GetInstances()) > 0 {
		return fmt.Sprintf("it is %s (%s), processes %v", w.GetState(), w.GetReason(), pids(here))
	}
	return ""
}

// fitsRunning wants exactly one process, once a rolling change is over, the one that the agent knows, with the spec
// that was asked for and versions that it may have, and another one than before if one was asked for.
func (m *model) fitsRunning(t *thing, is world, w *purserv1.Workload, here []process) string {
	state := "running"
	if t.kind.secretName() == turning {
		state = "ready"
	}
	if len(here) != 1 || w.GetState() != state || len(w.GetInstances()) != 1 {
		return fmt.Sprintf("it is %s (%s), instances %v, processes %v", w.GetState(), w.GetReason(), w.GetInstances(), pids(here))
	}
	p, i := here[0], w.GetInstances()[0]
	switch {
	case int(i.GetPid()) != p.pid || i.GetId() != p.instance:
		return fmt.Sprintf("the agent knows process %d of %s, and %d of %s runs", i.GetPid(), i.GetId(), p.pid, p.instance)
	case m.killed[p.instance]:
		return "what runs has been killed, or the shim that it needs"
	case p.env["MARK"] != fmt.Sprint(is.mark):
		return "what runs has mark " + p.env["MARK"]
	case t.fresh && p.instance == t.instance:
		return "the instance before a call that was answered runs still"
	case t.kind.secretName() != "":
		return m.secrets[t.kind.secretName()].fits(t, w, p)
	}
	return ""
}

// judge compares a workload that is at rest with what has happened since the last
// time, and makes that the new last time.
func (m *model) judge(t *thing, is world, w *purserv1.Workload, here []process, truth told) (wrong []string) {
	complain := func(text string, args ...any) { wrong = append(wrong, t.id()+": "+fmt.Sprintf(text, args...)) }
	starts := len(truth.starts) - t.starts
	if t.kind == crasher {
		t.starts, t.touched, t.kills, t.worlds = len(truth.starts), 0, 0, []world{is}
		return m.judgeExit(t, w, truth)
	}
	turns := m.turns(t)
	most := t.touched + t.kills + turns*startsOfATurn
	if most > 0 {
		most += m.away // a start that containerd did not live to answer is undone
	}
	if t.kind.job() {
		wrong = append(wrong, m.judgeJob(t, w, truth)...)
	} else if starts > most {
		complain("%d instances were started where %d calls and %d deaths ask for so many at most: %v", starts, t.touched, t.kills, truth.starts[t.starts:])
	}
	if is.goal == run && !t.kind.job() {
		p := here[0]
		if t.touched == 0 && t.kills == 0 && turns == 0 && t.pid != 0 && (p.pid != t.pid || p.instance != t.instance) {
			complain("nothing has touched it, and process %d of %s is now %d of %s", t.pid, t.instance, p.pid, p.instance)
		}
		if t.kills > 0 && starts == 0 {
			complain("it was killed, and not started again")
		}
		t.pid, t.instance = p.pid, p.instance
	} else {
		t.pid, t.instance = 0, ""
	}
	wrong = append(wrong, m.judgeExit(t, w, truth)...)
	t.starts, t.touched, t.kills, t.job, t.fresh, t.worlds = len(truth.starts), 0, 0, 0, false, []world{is}
	return wrong
}

// judgeJob wants as many attempts as the policy has, and the state that follows.
func (m *model) judgeJob(t *thing, w *purserv1.Workload, truth told) (wrong []string) {
	complain := func(text string, args ...any) { wrong = append(wrong, t.id()+": "+fmt.Sprintf(text, args...)) }
	if w == nil {
		return nil
	}
	attempts, excused := len(truth.starts)-t.starts, t.kills+m.away
	switch {
	case attempts == 0 && t.fresh && excused == 0:
		complain("it was launched, and is %s without having run", w.GetState())
	case attempts == 0: // as it was when the node was at rest last
	case t.kind == good && w.GetState() != "completed" && excused == 0:
		complain("a job that ends well is %s: %s", w.GetState(), w.GetReason())
	case t.kind == good && attempts > 1+excused:
		complain("a job that ends well was run %d times: %v", attempts, truth.starts)
	case t.kind == bad && w.GetState() != "failed":
		complain("a job that fails is %s: %s", w.GetState(), w.GetReason())
	case t.kind == bad && (attempts < retries+1 || attempts > retries+1+m.away):
		complain("a job that fails had %d attempts, its policy has %d: %v", attempts, retries+1, truth.starts)
	}
	return wrong
}

// judgeExit compares the last exit that the agent tells with how the payload said it
// would end.
func (m *model) judgeExit(t *thing, w *purserv1.Workload, truth told) (wrong []string) {
	e := w.GetLastExit()
	if e == nil || m.judged[e.GetInstance()] {
		return nil
	}
	m.judged[e.GetInstance()] = true
	code, told := truth.exits[e.GetInstance()]
	switch {
	case !slices.Contains(truth.starts, e.GetInstance()):
		return nil // it never came to execute its command
	case told && int(e.GetCode()) == code:
		return nil
	case m.blind[e.GetInstance()] && (e.GetCode() == 255 && m.agentDied || e.GetCode() == 137):
		return nil // an agent that lives hears of an end from the kernel
	case e.GetCode() == 137 && (m.killed[e.GetInstance()] || t.kind == deaf):
		return nil
	case e.GetCode() == 137 && m.away > 0:
		return nil // the grace is over before containerd is back to send the signal
	}
	return []string{fmt.Sprintf("%s: instance %s ended with %d (%s) as the agent says; told %v %d, killed %v, blind %v",
		t.id(), e.GetInstance(), e.GetCode(), e.GetReason(), told, code, m.killed[e.GetInstance()], m.blind[e.GetInstance()])}
}
