package chaos

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"

	purserv1 "github.com/purserd/purser/api/purser/v1"
	"github.com/purserd/purser/e2e/rig"
	"github.com/purserd/purser/failpoint"
)

// chaos is one run: a node, the model of it, and what decides.
type chaos struct {
	t     *testing.T
	n     *node
	mu    sync.Mutex // guards m
	m     *model
	rng   *rand.Rand
	began time.Time
	kills map[string]int // by what was killed
	hits  map[string]int // by step
	marks int
	// What had died when the node was at rest last.
	helpers, deaths int
}

// The workloads: each is a slot that may be empty.
var slots = map[string]kind{
	"tick1": ticker, "tick2": ticker, "tick3": ticker, "files1": files, "roll1": roller, "flood1": flood, "deaf1": deaf, "crash1": crasher,
	"turn1": turner, "turn2": turner, "read1": reader,
	"spare1": ticker, "spare2": files, "good1": good, "good2": good, "bad1": bad,
}

func begin(t *testing.T, s settings, seed uint64) *chaos {
	t.Helper()
	c := &chaos{t: t, n: newNode(t, s), m: newModel(), rng: rand.New(rand.NewPCG(seed, 0)), began: time.Now(), kills: map[string]int{}, hits: map[string]int{}}
	for name, k := range slots {
		if k == roller {
			c.n.copyPipe(name)
		}
		c.m.things[name] = &thing{name: name, kind: k, worlds: []world{{goal: absent}}}
	}
	c.say("seed %d", seed)
	c.putSecret(plain, true)
	c.putSecret(turning, true)
	for _, name := range c.m.names() {
		if k := slots[name]; !k.job() && !strings.HasPrefix(name, "spare") {
			c.launch(c.m.things[name])
		}
	}
	c.check("the beginning")
	return c
}

// say adds to the trace.
func (c *chaos) say(text string, args ...any) {
	c.t.Logf("%7.3f %s", time.Since(c.began).Seconds(), fmt.Sprintf(text, args...))
}

// operation is a call, or some, as a client would make them.
type operation struct {
	name   string
	weight int
	do     func(c *chaos, t *thing)
}

var operations = []operation{
	{"launch", 14, (*chaos).launch},
	{"restart", 10, func(c *chaos, t *thing) { c.restart(t, false) }},
	{"restart --secrets", 8, func(c *chaos, t *thing) { c.restart(t, true) }},
	{"stop", 8, (*chaos).stop},
	{"start", 8, (*chaos).start},
	{"remove", 8, (*chaos).remove},
	{"secret set", 4, func(c *chaos, _ *thing) { c.putSecret(plain, true) }},
	{"secret set, to turn", 5, func(c *chaos, _ *thing) { c.putSecret(turning, true) }},
	{"secret set, bad", 5, func(c *chaos, _ *thing) { c.putSecret(turning, false) }},
	{"secret hold", 2, func(c *chaos, _ *thing) { c.hold() }},
	{"secret release", 4, func(c *chaos, _ *thing) { c.release() }},
	{"secret retry", 2, func(c *chaos, _ *thing) { c.retry() }},
	{"signal TERM", 5, (*chaos).signal},
	{"exec", 5, (*chaos).exec},
	{"logs", 3, (*chaos).logs},
	{"pull", 4, func(c *chaos, _ *thing) { c.pull() }},
	{"nothing", 10, func(*chaos, *thing) { <-time.After(300 * time.Millisecond) }},
}

// fault is a way to die.
type fault struct {
	name   string
	weight int
	do     func(c *chaos, t *thing, roll int)
}

var faults = []fault{
	{"none", 16, func(*chaos, *thing, int) {}},
	{"kill agent", 18, func(c *chaos, _ *thing, _ int) { c.count("agent"); c.n.killAgent() }},
	{"kill agent twice", 5, func(c *chaos, _ *thing, roll int) {
		c.count("agent")
		c.n.killAgent()
		<-time.After(time.Duration(50+roll%150) * time.Millisecond) // it is starting
		c.count("agent")
		c.n.killAgent()
	}},
	{"kill log helper", 12, func(c *chaos, _ *thing, _ int) { c.killHelper() }},
	{"kill payload", 12, func(c *chaos, t *thing, _ int) { c.killPayload(t) }},
	{"kill shim", 8, func(c *chaos, t *thing, _ int) { c.killShim(t) }},
	{"kill containerd", 6, func(c *chaos, _ *thing, roll int) {
		c.restartContainerd(c.n.daemon.Kill, time.Duration(roll%400)*time.Millisecond, nil)
	}},
	{"stop containerd", 4, func(c *chaos, _ *thing, roll int) {
		c.restartContainerd(c.n.daemon.Stop, time.Duration(roll%400)*time.Millisecond, nil)
	}},
	{"kill containerd, agent and payload", 4, func(c *chaos, t *thing, roll int) {
		c.restartContainerd(c.n.daemon.Kill, time.Duration(roll%400)*time.Millisecond, func() {
			c.count("agent")
			c.n.killAgent()
			c.killPayload(t)
		})
	}},
}

// pick chooses by weight.
func pick[T any](rng *rand.Rand, all []T, weight func(T) int) T {
	sum := 0
	for _, one := range all {
		sum += weight(one)
	}
	at := rng.IntN(sum)
	for _, one := range all {
		if at -= weight(one); at < 0 {
			return one
		}
	}
	panic("unreachable")
}

// step is all that is decided for a moment.
type step struct {
	operation   operation
	target      string
	fault       fault
	victim      string
	point       string // empty for none
	action      string
	passing     int
	delay, roll int
}

// decide draws the same number of random numbers whatever comes of them.
func (c *chaos) decide() step {
	names := c.m.names()
	s := step{
		operation: pick(c.rng, operations, func(o operation) int { return o.weight }),
		target:    names[c.rng.IntN(len(names))],
		fault:     pick(c.rng, faults, func(f fault) int { return f.weight }),
		victim:    names[c.rng.IntN(len(names))],
		point:     failpoint.Names[c.rng.IntN(len(failpoint.Names))],
		action:    "kill", passing: 1 + c.rng.IntN(3), delay: c.rng.IntN(250), roll: c.rng.IntN(1000),
	}
	if c.rng.IntN(2) == 0 {
		s.victim = s.target
	}
	if c.rng.IntN(4) == 0 {
		s.action = "error"
	}
	if c.rng.IntN(3) > 0 {
		s.point = ""
	}
	return s
}

func (s step) String() string {
	text := fmt.Sprintf("%s %s; after %d ms: %s %s (%d)", s.operation.name, s.target, s.delay, s.fault.name, s.victim, s.roll)
	if s.point != "" {
		text += fmt.Sprintf("; %s at passing %d of %s", s.action, s.passing, s.point)
	}
	return text
}

// round makes some random steps, and then has everything checked.
func (c *chaos) round(number int) {
	for range 5 {
		s := c.decide()
		c.say("%s", s)
		if s.point != "" {
			c.n.arm(s.point, s.action, s.passing)
		}
		var both sync.WaitGroup
		both.Go(func() { s.operation.do(c, c.m.things[s.target]) })
		both.Go(func() {
			<-time.After(time.Duration(s.delay) * time.Millisecond)
			s.fault.do(c, c.m.things[s.victim], s.roll)
		})
		both.Wait()
		c.n.awaitAgent(30 * time.Second)
	}
	c.check(fmt.Sprintf("round %d", number))
}

// check ends all that is under way, and has the model judge.
func (c *chaos) check(when string) {
	c.t.Helper()
	helpers := c.kills["log helper"]
	for _, point := range c.n.disarm() {
		c.hits[point]++
		c.count("at a step")
		if strings.HasPrefix(point, "output.") {
			helpers++
		}
	}
	c.n.awaitAgent(30 * time.Second)
	deaths := c.n.died()
	c.m.agentDied = deaths > c.deaths
	c.m.unheld = c.m.agentDied && helpers > c.helpers
	c.helpers, c.deaths = c.kills["log helper"], deaths
	began := time.Now()
	wrong := c.n.rest(c.m)
	c.say("%s: at rest after %.1f s", when, time.Since(began).Seconds())
	for _, what := range wrong {
		c.t.Errorf("after %s: %s", when, what)
	}
	if len(wrong) > 0 {
		c.t.FailNow()
	}
}

func (c *chaos) count(what string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.kills[what]++
}

// watchDoubles looks again and again whether anything runs twice, until the end.
func (c *chaos) watchDoubles(ctx context.Context) {
	for ctx.Err() == nil {
		for _, what := range c.n.twice() {
			c.n.blame(fmt.Errorf("at %.3f: %s", time.Since(c.began).Seconds(), what))
		}
		<-time.After(60 * time.Millisecond)
	}
}

// open returns what is wanted of a workload now; false when that is not certain.
func (c *chaos) open(t *thing) (world, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return t.worlds[0], t.certain()
}

// settle notes what came of a call that was to lead to a world.
func (c *chaos) settle(t *thing, w world, starts int, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err == nil {
		t.answered(w, starts)
		return
	}
	c.say("  %s: %v", t.name, err)
	t.unclear(w, starts)
}

func (c *chaos) launch(t *thing) {
	if _, certain := c.open(t); !certain || t.kind.job() && t.job > 0 || c.takesBad(t) {
		return
	}
	c.marks++
	w := world{goal: run, mark: c.marks}
	if t.kind.job() {
		t.job++
	}
	_, err := ask(c.n.api.Workloads.Launch, &purserv1.LaunchRequest{Spec: c.n.spec(t.name, t.kind, w.mark)})
	c.settle(t, w, 1, err)
}

func (c *chaos) restart(t *thing, secrets bool) {
	w, certain := c.open(t)
	if !certain || w.goal == absent || t.kind.job() || secrets && c.takesBad(t) {
		return
	}
	w.goal = run
	_, err := ask(c.n.api.Workloads.Restart, &purserv1.RestartRequest{Environment: environment, Id: t.id(), Secrets: secrets})
	c.settle(t, w, 1, err)
}

func (c *chaos) stop(t *thing) {
	w, certain := c.open(t)
	if !certain || w.goal == absent {
		return
	}
	w.goal = stop
	_, err := ask(c.n.api.Workloads.Stop, &purserv1.StopRequest{Environment: environment, Id: t.id()})
	c.settle(t, w, 0, err)
}

func (c *chaos) start(t *thing) {
	w, certain := c.open(t)
	if !certain || w.goal == absent || t.kind.job() {
		return
	}
	starts := 0
	if w.goal == stop {
		starts = 1
	}
	w.goal = run
	_, err := ask(c.n.api.Workloads.Start, &purserv1.StartRequest{Environment: environment, Id: t.id()})
	c.settle(t, w, starts, err)
}

func (c *chaos) remove(t *thing) {
	w, certain := c.open(t)
	if !certain || w.goal == absent {
		return
	}
	_, err := ask(c.n.api.Workloads.Remove, &purserv1.RemoveRequest{Environment: environment, Id: t.id()})
	c.settle(t, world{goal: absent}, 0, err)
}

// signal asks a payload to end, which is another way for it to die.
func (c *chaos) signal(t *thing) {
	if t.kind == deaf || t.kind.job() {
		return
	}
	c.mu.Lock()
	c.m.excuse()
	t.kills++ // at most; that it is started is the same for a death that was not
	c.mu.Unlock()
	_, err := ask(c.n.api.Workloads.Signal, &purserv1.SignalRequest{Environment: environment, Id: t.id(), Signal: "TERM"})
	if err != nil {
		c.mu.Lock()
		defer c.mu.Unlock()
		t.kills--
		t.touched++ // perhaps
	}
}

func (c *chaos) exec(t *thing) {
	cmd := exec.Command("timeout", "15", c.n.program, "exec", t.id(), "--", "echo", "hello")
	cmd.Env = append(os.Environ(), "PURSER_HOST=unix://"+c.n.path("p.sock"))
	if out, err := cmd.Output(); err == nil && string(out) != "hello\n" {
		c.n.blame(fmt.Errorf("exec in %s printed %q", t.name, out))
	}
}

func (c *chaos) logs(t *thing) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	stream, err := c.n.api.Workloads.Logs(ctx, connect.NewRequest(&purserv1.LogsRequest{Environment: environment, Id: t.id(), Tail: proto.Uint32(10)}))
	for err == nil && stream.Receive() {
	}
	if err == nil {
		_ = stream.Close()
	}
}

// pull pulls an image that nothing uses, anew.
func (c *chaos) pull() {
	ref := c.n.registry.Addr + "/pulled:1"
	_, _ = ask(c.n.api.Images.Remove, &purserv1.RemoveImageRequest{Ref: ref})
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	stream, err := c.n.api.Images.Pull(ctx, connect.NewRequest(&purserv1.PullRequest{Ref: ref}))
	for err == nil && stream.Receive() {
	}
	if err == nil {
		_ = stream.Close()
	}
}

func (c *chaos) killHelper() {
	for _, pid := range rig.Processes(c.n.daemon.Dir, "log-helper") {
		c.count("log helper")
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
}

// doomed notes that processes are about to be killed; the caller holds mu.
func (c *chaos) doomed(p process, blind bool) {
	c.m.excuse()
	c.m.killed[p.instance] = true
	c.m.blind[p.instance] = c.m.blind[p.instance] || blind
	if t := c.m.things[strings.TrimPrefix(p.workload, "c/")]; t != nil {
		t.kills++
	}
}

func (c *chaos) killPayload(t *thing) {
	for _, p := range c.n.byWorkload()[t.id()] {
		c.count("payload")
		c.mu.Lock()
		c.doomed(p, false)
		c.mu.Unlock()
		_ = syscall.Kill(p.pid, syscall.SIGKILL)
	}
}

// killShim kills the shim of a payload, which is its parent, and so all that it serves.
func (c *chaos) killShim(t *thing) {
	all := c.n.running()
	at := slices.IndexFunc(all, func(p process) bool { return p.workload == t.id() && p.parent > 1 })
	if at < 0 {
		return
	}
	shim := all[at].parent
	c.count("shim")
	c.mu.Lock()
	for _, p := range all {
		if p.parent == shim {
			c.doomed(p, true)
		}
	}
	c.mu.Unlock()
	_ = syscall.Kill(shim, syscall.SIGKILL)
}

// restartContainerd ends containerd, and starts it again some time later. How those
// ended that are not there afterwards nobody may know.
func (c *chaos) restartContainerd(end func(), away time.Duration, meanwhile func()) {
	c.count("containerd")
	c.mu.Lock()
	c.m.away++
	c.m.excuse()
	c.mu.Unlock()
	end()
	if meanwhile != nil {
		meanwhile()
	}
	<-time.After(away)
	c.n.daemon.Start()
	alive := map[string]bool{}
	for _, p := range c.n.running() {
		alive[p.instance] = true
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for name := range c.m.things {
		for _, instance := range c.n.told(name).starts {
			if !alive[instance] {
				c.m.blind[instance] = true
			}
		}
	}
}

// sweep has a process die at each of some steps, and makes all calls that lead by.
// The steps at which nothing died are returned.
func (c *chaos) sweep(points []string, action string) (missed []string) {
	c.say("sweep: %s at %v", action, points)
	for _, point := range points {
		c.n.arm(point, action, 1)
		if point == "create.undo" {
			c.n.arm("create.streams", "error", 1)
		}
	}
	tour := []func(){
		func() { c.launch(c.m.things["bad1"]) },
		func() { c.launch(c.m.things["spare1"]) },
		func() { c.putSecret(plain, true) },
		func() { c.putSecret(turning, true) },
		func() { c.restart(c.m.things["roll1"], true) },
		func() { c.launch(c.m.things["roll1"]) },
		func() { c.restart(c.m.things["files1"], true) },
		func() { c.restart(c.m.things["deaf1"], false) },
		func() { c.stop(c.m.things["tick1"]) },
		func() { c.start(c.m.things["tick1"]) },
		func() { c.putSecret(turning, false) },
		c.pull,
		func() { c.count("agent"); c.n.killAgent() },
		func() { c.remove(c.m.things["spare1"]) },
	}
	for _, call := range tour {
		call()
		c.n.awaitAgent(30 * time.Second)
	}
	follows := 2 * time.Second // deletions follow the calls
	if slices.Contains(points, "rotation.withdrawn") || slices.Contains(points, "rollout.stepped") {
		follows = 15 * time.Second // a bad version is tried twice, and a new spec has to run for a while
	}
	rig.ComesTrue(follows, func() bool { return !c.n.armed(points) })
	before := maps.Clone(c.hits)
	c.check("the sweep")
	for _, point := range points {
		if c.hits[point] == before[point] {
			missed = append(missed, point)
		}
	}
	return missed
}
