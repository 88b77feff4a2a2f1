package rotate

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

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

type splay struct {
	group string
	over  time.Time
}

type deferral struct {
	until  time.Time
	pause  time.Duration
	reason string
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
	p.defers(w.Key, reason, now)
	if t.GetCanary() {
		p.defers(group(w.Who, t.GetSet(), t.GetKeys()), reason, now)
	}
}

func (p *Planner) defers(key, reason string, now time.Time) {
	pause := min(max(2*p.deferrals[key].pause, minPause), maxPause)
	p.deferrals[key] = deferral{until: now.Add(pause), pause: pause, reason: reason}
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
	// moving is how many trials there will be, and canaries who goes first of a group now.
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

// judge decides what follows a trial's result.
func (d *draft) judge(w *Workload) {
	t := w.Trial
	late := d.deferrals[w.Key].until.After(d.now)
	condemned := d.book.against(Who{Environment: w.Environment}, t.GetPins(), t.GetSet())
	switch {
	case t.Result == Ending:
		d.moves(w, t.Trial)
		d.stand(w, Waiting, "what it had before is put back")
	case !w.Moves:
		d.withdraw(w, ResultSuperseded, "it is not to run now")
	case condemned != nil:
		d.withdraw(w, ResultBackedOut, verdictText(condemned))
	case d.book.holds(w.Environment, t.GetSet()):
		d.withdraw(w, ResultSuperseded, "it is held now")
	case t.Result == Well:
		d.commit(w)
	case late && (t.Result == Failed || t.Result == Lost || w.outdated()):
		d.withdraw(w, ResultDeferred, d.deferrals[w.Key].reason)
	case t.Alone && t.GetJudges() && d.deferrals[w.Key].pause == 0:
		d.comeBack(w)
	case w.outdated() && d.supersede(w):
	case t.Result == Failed && t.GetTry() < tries && t.GetMode() != ModeRestart:
		d.putBack(w)
	case t.Result == Failed && t.GetTry() < tries:
		d.again(w, t.GetTry()+1)
	case t.Result == Failed:
		d.giveUp(w)
	case t.Result == Lost:
		d.again(w, t.GetTry())
	case t.Result == Deferred && !d.waitsUntil(w).After(d.now):
		d.defers(w.Key, t.Reason, d.now)
		d.withdraw(w, ResultDeferred, t.Reason)
	default:
		d.goesOn(w)
	}
}

// comeBack has what a workload is known to be well with be started again, as what served has
// ended and nobody knows yet whether what is tried will serve. Once: should it end again it
// is what is tried that is waited for.
func (d *draft) comeBack(w *Workload) {
	reason := "the instance that served has ended, and is started again first"
	d.defers(w.Key, reason, d.now)
	d.withdraw(w, ResultDeferred, reason)
}

// putBack has the files of before be put back, and what has failed be tried once more then:
// in the same instance, or in another one if it has ended by its files.
func (d *draft) putBack(w *Workload) {
	d.moves(w, w.Trial.Trial)
	d.add(Action{Kind: Withdraw, Workload: w, Again: true, Reason: w.Trial.Reason, Result: ResultBackedOut})
}

// goesOn leaves a trial under way.
func (d *draft) goesOn(w *Workload) {
	t := w.Trial
	d.moves(w, t.Trial)
	d.wake(t.Next)
	if t.Result == Deferred {
		d.wake(d.waitsUntil(w))
	}
	if t.Reason != "" {
		d.stand(w, Rotating, "%s: %s", course(t.Trial), t.Reason)
	}
}

// moves counts a trial, and notes who goes first.
func (d *draft) moves(w *Workload, t *statev1.Trial) {
	d.moving++
	if t.GetCanary() {
		d.canaries[group(w.Who, t.GetSet(), t.GetKeys())] = w.Who.Workload
	}
	d.stand(w, Rotating, "%s", course(t))
}

// course is how far a trial is, in words.
func course(t *statev1.Trial) string {
	text := "it follows the first of its app"
	switch {
	case t.GetAsked():
		text = "as was asked for"
	case t.GetCanary():
		text = "it goes first of its app"
	}
	if t.GetTry() > 1 {
		text += fmt.Sprintf(", try %d of %d", t.GetTry(), tries)
	}
	return text
}

func (d *draft) withdraw(w *Workload, result, reason string) {
	d.stand(w, Waiting, "%s", reason)
	d.add(Action{Kind: Withdraw, Workload: w, Result: result, Reason: reason})
}

// commit has what was tried be what the workload runs on, and lets others follow.
func (d *draft) commit(w *Workload) {
	t := w.Trial
	a := Action{Kind: Commit, Workload: w, Result: ResultMoved}
	if t.GetCanary() {
		a.Proof = &statev1.Proof{Environment: w.Environment, App: w.App, Set: t.GetSet(), Keys: t.GetKeys(), At: timestamppb.New(d.now)}
	}
	if w.Unproven {
		a.Result = ResultUnverified
	}
	delete(d.deferrals, w.Key)
	d.stand(w, Current, "")
	d.add(a)
}

// again tries the same versions once more.
func (d *draft) again(w *Workload, try uint32) {
	d.begin(w, &statev1.Trial{
		Pins: w.Trial.GetPins(), Set: w.Trial.GetSet(), Keys: w.Trial.GetKeys(), Mode: d.modeOf(w), Try: try,
		Canary: w.Trial.GetCanary(), Judges: w.Trial.GetJudges(), Asked: w.Trial.GetAsked(), BeganAt: timestamppb.New(d.now), NoticedAt: w.Trial.GetNoticedAt(),
	})
}

// modeOf is how the versions that a workload tries are tried once more. Files may have lost
// the instance that they were for.
func (d *draft) modeOf(w *Workload) string {
	if w.Trial.GetMode() != ModeRestart && w.Move != nil {
		return w.Move.Mode
	}
	return ModeRestart
}

// supersede gives up a trial of what is not wanted any more, once it is known what is
// instead, and has who went first go first again.
func (d *draft) supersede(w *Workload) bool {
	if w.Unknown != "" {
		return false
	}
	if w.Move == nil || w.Move.Broken != "" || d.against(w) != "" {
		d.withdraw(w, ResultSuperseded, "what it tried is not the latest any more")
		return true
	}
	if due := d.due(w); due.After(d.now) {
		if again := w.Trial.Result == Failed && w.Trial.GetTry() < tries || w.Trial.Result == Lost; again {
			d.withdraw(w, ResultSuperseded, "there is a newer version")
			return true
		}
		d.wake(due)
		return false
	}
	// Files are put back before others come, and an instance is not one of two trials.
	files := w.Trial.GetMode() != ModeRestart || w.Move.Mode != ModeRestart
	if !w.Trial.GetCanary() || d.leads[w.group()] || d.canaries[w.group()] != "" || files {
		d.withdraw(w, ResultSuperseded, "there is a newer version")
		return true
	}
	d.begin(w, d.trial(w, true, w.Trial.GetJudges()))
	return true
}

// giveUp goes back to what the workload ran on, and notes for whom the versions are bad.
func (d *draft) giveUp(w *Workload) {
	t := w.Trial
	v := &statev1.Verdict{Environment: w.Environment, Set: t.GetSet(), Reason: t.Reason, At: timestamppb.New(d.now), TriedBy: w.Who.Workload}
	switch {
	case !t.GetJudges():
		v.App, v.Workload = w.App, w.Who.Workload
	case !t.GetCanary():
		v.App = w.App
	}
	d.stand(w, Held, "%s", verdictText(v))
	d.add(Action{Kind: Withdraw, Workload: w, Verdict: v, Reason: t.Reason, Result: ResultBackedOut})
}

// against is what keeps a workload from its move, in words; empty when nothing does.
func (d *draft) against(w *Workload) string {
	if v := d.book.against(w.Who, w.Move.Pins, w.Move.Set); v != nil {
		return verdictText(v)
	}
	if s := d.book.stay(w); s != nil {
		return stayText(s, versionIn(w.Move.Set, s.GetSecret()))
	}
	return ""
}

// Withheld says why nobody of an environment gets a version, alone or with others; empty
// when nothing is known of it.
func (b Book) Withheld(environment, secret string, version uint32) string {
	for _, v := range b.On(environment, secret, version) {
		if v.GetApp() == "" {
			return verdictText(v)
		}
	}
	if b.Held(environment, secret, version) {
		return fmt.Sprintf("%s version %d is %s; to end that: purser secret release -E %s %s", secret, version, HoldText(b.Hold(environment, secret)), environment, secret)
	}
	return ""
}

// verdictText says what keeps somebody from a set of versions.
func verdictText(v *statev1.Verdict) string {
	var members []string
	for _, p := range v.GetSet() {
		members = append(members, fmt.Sprintf("%s version %d", p.GetSecret(), p.GetVersion()))
	}
	set := strings.Join(members, " with ")
	switch {
	case v.GetApp() == "":
		return fmt.Sprintf("%s is quarantined, as %s failed with it: %s", set, v.GetTriedBy(), v.GetReason())
	case v.GetWorkload() == "":
		return fmt.Sprintf("nobody else of the app moves to %s, as %s failed with it: %s", set, v.GetTriedBy(), v.GetReason())
	}
	return fmt.Sprintf("it failed with %s: %s", set, v.GetReason())
}

// trial is one of what a workload is to move to.
func (d *draft) trial(w *Workload, canary, judges bool) *statev1.Trial {
	_, noticed := d.notices.due(w.Environment, w.Move.Set, d.config)
	t := &statev1.Trial{
		Pins: w.Move.Pins, Set: w.Move.Set, Keys: w.Move.Keys, Mode: w.Move.Mode, Try: 1,
		Canary: canary, Judges: judges, BeganAt: timestamppb.New(d.now),
	}
	if !noticed.IsZero() {
		t.NoticedAt = timestamppb.New(noticed)
	}
	return t
}

func (d *draft) begin(w *Workload, t *statev1.Trial) {
	d.moves(w, t)
	d.add(Action{Kind: Begin, Workload: w, Trial: t})
}

// groups are the workloads that may begin to move, by their groups, in order of their due
// times.
func (d *draft) groups(workloads []*Workload) [][]*Workload {
	byName := map[string][]*Workload{}
	var names []string
	for _, w := range workloads {
		if !d.pending(w) {
			continue
		}
		name := w.group()
		if byName[name] == nil {
			names = append(names, name)
		}
		byName[name] = append(byName[name], w)
	}
	first := func(name string) time.Time {
		due, _ := d.notices.due(byName[name][0].Environment, byName[name][0].Move.Set, d.config)
		return due
	}
	slices.SortStableFunc(names, func(a, b string) int { return first(a).Compare(first(b)) })
	var all [][]*Workload
	for _, name := range names {
		all = append(all, byName[name])
	}
	return all
}

// pending says whether a workload is to move, and nothing but its turn is in the way.
func (d *draft) pending(w *Workload) bool {
	if w.Move == nil || w.Trial != nil || !w.Moves {
		return false
	}
	due := d.due(w)
	late := d.late(w)
	against := d.against(w)
	switch {
	case against != "":
		d.stand(w, Held, "%s", against)
	case w.Manual:
		d.stand(w, Stale, "rotation.strategy is manual: purser restart --secrets -E %s %s", w.Environment, w.Who.Workload)
	case due.After(d.now):
		d.wake(due)
		d.stand(w, Waiting, "until the secret is left alone for %s", d.config.Quiet)
	case w.Move.Broken != "":
		d.condemn(w)
	case late.until.After(d.now):
		d.wake(late.until)
		d.stand(w, Waiting, "it is tried again in a while: %s", late.reason)
	default:
		return true
	}
	return false
}

// late is for how long a workload, or who would go first of its group, is put off.
func (d *draft) late(w *Workload) deferral {
	own, all := d.deferrals[w.Key], d.deferrals[w.group()]
	if all.until.After(own.until) {
		return all
	}
	return own
}

// due is when a workload has waited for long enough for its secrets to come to rest: at
// most for MaxDelay, whichever of them changes meanwhile. What it waits for after that is
// something else, and lets it wait for rest anew.
func (d *draft) due(w *Workload) time.Time {
	due, _ := d.notices.due(w.Environment, w.Move.Set, d.config)
	if !due.After(d.now) {
		delete(d.waits, w.Key)
		return due
	}
	if _, ok := d.waits[w.Key]; !ok {
		d.waits[w.Key] = d.now
	}
	if latest := d.waits[w.Key].Add(d.config.MaxDelay); latest.Before(due) {
		due = latest
	}
	if !due.After(d.now) {
		delete(d.waits, w.Key)
	}
	return due
}

// condemn quarantines versions that a workload cannot be made with. One that is not well
// can tell of itself alone.
func (d *draft) condemn(w *Workload) {
	v := &statev1.Verdict{Environment: w.Environment, Set: w.Move.Set, Reason: w.Move.Broken, At: timestamppb.New(d.now), TriedBy: w.Who.Workload}
	if w.Health != Healthy {
		v.App, v.Workload = w.App, w.Who.Workload
	}
	d.stand(w, Held, "%s", verdictText(v))
	d.add(Action{Kind: Condemn, Workload: w, Verdict: v, Reason: w.Move.Broken})
}

// advance moves the members of a group on.
func (d *draft) advance(members []*Workload) {
	// A verdict may have come since they were found pending.
	members = slices.DeleteFunc(members, func(w *Workload) bool {
		against := d.against(w)
		if against != "" {
			d.stand(w, Held, "%s", against)
		}
		return against != ""
	})
	if len(members) == 0 {
		return
	}
	w := members[0]
	if proof := d.book.Proof(w.Environment, w.App, w.Move.Set, w.Move.Keys); proof != nil {
		d.follow(members)
		return
	}
	d.lead(members)
}

// lead has one of a group go first.
func (d *draft) lead(members []*Workload) {
	w, judges := d.canary(members)
	name := members[0].group()
	for _, m := range members {
		switch first := d.canaries[name]; {
		case first != "":
			d.stand(m, Waiting, "until %s has turned out well, which goes first", first)
		case m != w:
			d.waitToLead(m)
		case d.full(m):
		default:
			d.begin(m, d.trial(m, true, judges))
		}
	}
}

// waitToLead says what a workload waits for while nobody goes first.
func (d *draft) waitToLead(m *Workload) {
	switch {
	case !d.open(m):
		d.stand(m, Waiting, "its window opens at %s", m.Opens.Format(time.RFC3339))
	case m.Health == Unsettled:
		d.wake(m.Settles)
		d.stand(m, Waiting, "until it has run for long enough to be called healthy")
	default:
		d.stand(m, Waiting, "until another one of its app has gone first")
	}
}

// canary picks who goes first of a group, and says whether its failure tells of the
// versions; nil when nobody may yet. Nobody who is not well goes before one who is, unless
// those have to wait for their windows.
func (d *draft) canary(members []*Workload) (_ *Workload, judges bool) {
	var sick *Workload
	wait := false
	for _, m := range members {
		switch {
		case m.Health == Healthy && d.open(m):
			return m, true
		case m.Health == Unsettled && d.open(m):
			wait = true
		case m.Health == Unhealthy && sick == nil:
			sick = m
		}
	}
	if wait {
		return nil, false
	}
	return sick, false
}

// open says whether a workload may move now: at any time if it is not well or the versions
// are in a hurry.
func (d *draft) open(w *Workload) bool {
	if w.Opens == nil || !w.Opens.After(d.now) || w.Health == Unhealthy || w.Move.Hurried {
		return true
	}
	d.wake(*w.Opens)
	return false
}

// full says whether as many move as may.
func (d *draft) full(w *Workload) bool {
	if d.moving < d.config.MaxParallel {
		return false
	}
	d.stand(w, Waiting, "for its turn: %d move already ([rotation] max_parallel)", d.moving)
	return true
}

// follow has those of a group move whose time has come, now that one has shown them the way.
func (d *draft) follow(members []*Workload) {
	over := map[*Workload]time.Time{}
	for _, m := range members {
		if d.open(m) {
			over[m] = d.splayOver(m)
		}
	}
	members = slices.SortedStableFunc(slices.Values(members), func(a, b *Workload) int {
		// Those who are not well have something to gain.
		return cmp.Or(cmp.Compare(b.Health, a.Health), over[a].Compare(over[b]))
	})
	for _, m := range members {
		switch {
		case !d.open(m):
			d.stand(m, Waiting, "its window opens at %s", m.Opens.Format(time.RFC3339))
		case over[m].After(d.now):
			d.wake(over[m])
			d.stand(m, Waiting, "its part of the splay ends at %s", over[m].Format(time.RFC3339))
		case d.full(m):
		default:
			d.begin(m, d.trial(m, false, m.Health == Healthy))
		}
	}
}

// splayOver is when a follower's part of its splay is over, which begins when it could move.
func (d *draft) splayOver(w *Workload) time.Time {
	if w.Splay <= 0 || w.Health == Unhealthy || w.Move.Hurried {
		return d.now
	}
	name := w.group()
	if s, ok := d.splays[w.Key]; ok && s.group == name {
		return s.over
	}
	over := d.now.Add(time.Duration(d.random() * float64(w.Splay)))
	d.splays[w.Key] = splay{name, over}
	return over
}
