package rotate

import (
	"fmt"
	"maps"
	"time"

	statev1 "github.com/purserd/purser/api/purser/state/v1"
)

// tries is how often a set of versions is tried before it is given up.
const tries = 2

// A trial that is deferred is given up after patience, and tried again after a pause that
// doubles from minPause to maxPause.
const (
	patience = 30 * time.Second
	minPause = 15 * time.Second
	maxPause = 5 * time.Minute
)

// Config of a [Planner].
type Config struct {
	// Quiet is how long a secret has to be left alone before a change of it is carried out,
	// and MaxDelay how long that is waited for at most.
	Quiet, MaxDelay time.Duration
	// MaxParallel is how many workloads move at a time.
	MaxParallel int
}

// Planner plans. What it remembers of its own is lost with the agent, and may be: it is
// for how long something waits.
type Planner struct {
	config  Config
	notices notices
	// splays is when a follower's part of its splay is over, deferrals are those of workloads.
	splays    map[string]splay
	deferrals map[string]deferral
	// waits is since when workloads wait for their secrets to come to rest.
	waits     map[string]time.Time
	sightings map[string]sighting
	// random is a number in [0,1).
	random func() float64
}

type deferral struct {
	until  time.Time
	pause  time.Duration
	reason string
	// by is the workload that waits for something under way, which ends the deferral; empty
	// for a pause.
	by string
}

// NewPlanner makes a planner; random returns numbers in [0,1).
func NewPlanner(c Config, random func() float64) *Planner {
	return &Planner{config: c, notices: notices{}, splays: map[string]splay{}, deferrals: map[string]deferral{}, waits: map[string]time.Time{}, sightings: map[string]sighting{}, random: random}
}

// Notice notes that a secret has changed.
func (p *Planner) Notice(environment, name string, now time.Time) {
	p.notices.add(secret{environment, name}, p.config, now)
}

// Forgive has what was deferred be tried at once.
func (p *Planner) Forgive() { clear(p.deferrals) }

// Defer puts a trial of a workload off: one that would go first for all of its group, as the
// next one to go would lack the same.
func (p *Planner) Defer(w *Workload, t *statev1.Trial, reason string, now time.Time) {
	for _, key := range deferred(w, t) {
		p.defers(key, reason, now)
	}
}

func deferred(w *Workload, t *statev1.Trial) []string {
	if t.GetCanary() {
		return []string{w.Key, group(w.Who, t.GetSet(), t.GetKeys())}
	}
	return []string{w.Key}
}

func (p *Planner) defers(key, reason string, now time.Time) {
	pause := min(max(2*p.deferrals[key].pause, minPause), maxPause)
	p.deferrals[key] = deferral{until: now.Add(pause), pause: pause, reason: reason}
}

// Await puts a trial off, as Defer does, until something that is under way for it has come
// to its end, which [Planner.Resume] tells. It makes no later pause longer.
func (p *Planner) Await(w *Workload, t *statev1.Trial, reason string, now time.Time) {
	for _, key := range deferred(w, t) {
		p.deferrals[key] = deferral{until: now.Add(maxPause), pause: p.deferrals[key].pause, reason: reason, by: w.Key}
	}
}

// Resume has what a workload waited for be over.
func (p *Planner) Resume(workload string) {
	for key, d := range p.deferrals {
		if d.by == workload {
			d.until, d.by = time.Time{}, ""
			p.deferrals[key] = d
		}
	}
}

// Kind is what an action does.
type Kind string

// The actions.
const (
	Begin    Kind = "begin"    // try Trial
	Commit   Kind = "commit"   // what was tried is what it runs on from now on
	Withdraw Kind = "withdraw" // go back to what it ran on
	Repin    Kind = "repin"    // take the move without a trial
	Condemn  Kind = "condemn"  // note Verdict, and no more
)

// Action is something to do for a workload.
type Action struct {
	Kind
	Workload *Workload
	Trial    *statev1.Trial // of Begin
	// Verdict and Proof are what it leads to, and are persisted with it; nil for none.
	Verdict *statev1.Verdict
	Proof   *statev1.Proof
	Reason  string // of Withdraw and Condemn
	// Again, of Withdraw of files: once they are back it is tried once more.
	Again  bool
	Result string // of Withdraw and Commit, one of Results
}

// Learn is a book with what the action leads to.
func (a Action) Learn(b Book) Book {
	if a.Verdict != nil {
		b = b.WithVerdict(a.Verdict)
	}
	if a.Proof != nil {
		b = b.WithProof(a.Proof)
	}
	return b
}

// How a move ends.
const (
	ResultMoved      = "moved"
	ResultUnverified = "unverified"
	ResultBackedOut  = "backed_out"
	ResultSuperseded = "superseded"
	ResultDeferred   = "deferred"
)

// Results are all of them, for what has to enumerate them.
var Results = []string{ResultMoved, ResultUnverified, ResultBackedOut, ResultSuperseded, ResultDeferred}

// Standing is how a workload stands to the latest versions.
type Standing struct{ State, Reason string }

// States are those of a standing, for what has to enumerate them.
var States = []string{Current, Waiting, Rotating, Held, Stale}

// The states of a standing.
const (
	Current  = "current"
	Waiting  = "waiting"
	Rotating = "rotating"
	Held     = "held"
	Stale    = "stale"
)

// Plan is what is to be done, in this order, how each workload stands by its key, and when
// to plan again if nothing happens before; zero for never.
type Plan struct {
	Actions   []Action
	Standings map[string]Standing
	Next      time.Time
}

// Plan plans. The workloads are in a fixed order, which decides who goes first of those that
// may.
func (p *Planner) Plan(workloads []*Workload, book Book, now time.Time) Plan {
	d := &draft{Planner: p, now: now, book: book, plan: Plan{Standings: map[string]Standing{}}, leads: map[string]bool{}, canaries: map[string]string{}}
	p.forget(workloads)
	for _, w := range workloads {
		d.retry(w)
		if t := w.Trial; t != nil && t.GetCanary() {
			d.leads[group(w.Who, t.GetSet(), t.GetKeys())] = true
		}
	}
	for _, w := range workloads {
		if w.Trial != nil {
			d.see(w, now)
			d.judge(w)
		} else if w.Returning.After(now) {
			d.moving++
			d.wake(w.Returning)
		}
	}
	for _, members := range d.groups(workloads) {
		d.advance(members)
	}
	return d.plan
}

// forget drops what is remembered of workloads that have nothing to wait for.
func (p *Planner) forget(workloads []*Workload) {
	waits, tries := map[string]bool{}, map[string]bool{}
	for _, w := range workloads {
		if waits[w.Key], tries[w.Key] = w.Move != nil, w.Trial != nil; w.Move != nil {
			waits[w.group()] = true
		}
	}
	maps.DeleteFunc(p.splays, func(key string, _ splay) bool { return !waits[key] })
	maps.DeleteFunc(p.deferrals, func(key string, _ deferral) bool { return !waits[key] })
	maps.DeleteFunc(p.waits, func(key string, _ time.Time) bool { return !waits[key] })
	maps.DeleteFunc(p.sightings, func(key string, _ sighting) bool { return !tries[key] })
}

// draft is a plan in the making.
type draft struct {
	*Planner
	now  time.Time
	book Book
	plan Plan
	// moving is how many trials there will be or are on their way back, and canaries who goes
	// first of a group now.
	// leads are the groups of which somebody went first when the plan was begun.
	moving   int
	leads    map[string]bool
	canaries map[string]string
}

func (d *draft) add(a Action) {
	d.book = a.Learn(d.book)
	d.plan.Actions = append(d.plan.Actions, a)
}

// wake has the plan be made again by a time.
func (d *draft) wake(at time.Time) {
	if !at.IsZero() && (d.plan.Next.IsZero() || at.Before(d.plan.Next)) {
		d.plan.Next = at
	}
}

func (d *draft) stand(w *Workload, state, format string, args ...any) {
	d.plan.Standings[w.Key] = Standing{state, fmt.Sprintf(format, args...)}
}

// retry has the next attempt of a job take the latest versions.
func (d *draft) retry(w *Workload) {
	switch {
	case w.Unknown != "":
		d.stand(w, Waiting, "its secrets cannot be read: %s", w.Unknown)
		return
	case w.Move == nil && w.Withheld != "":
		d.stand(w, Held, "%s", w.Withheld)
		return
	case w.Move == nil:
		d.stand(w, Current, "")
		return
	}
	if w.Retries && w.Move.Broken == "" && d.against(w) == "" {
		d.add(Action{Kind: Repin, Workload: w})
	}
	switch {
	case w.Busy != "":
		d.stand(w, Waiting, "%s", w.Busy)
	case !w.Moves:
		d.stand(w, Current, "")
	}
}
