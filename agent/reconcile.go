package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/purserd/purser/agent/state"
	"github.com/purserd/purser/agent/supervise"
	"github.com/purserd/purser/api/launchspec"
	statev1 "github.com/purserd/purser/api/purser/state/v1"
	"github.com/purserd/purser/metrics"
	"github.com/purserd/purser/runtime"
)

// An agent that starts compares what it has on record with the containers of this
// node before it starts any. Those on record are their supervisors' to look at. Of
// the others, which a lost database or an old copy of one does not explain, each
// carries the record that it was made from, and the later word counts:
//
//   - of a workload that is not on record, a record is made;
//   - where the container was made by a later wish than the one on record, its spec,
//     pins and goal (to run) take that one's place: a database that was put back must
//     not undo what runs;
//   - otherwise what is on record stands, be it to run, to stop or to be removed, and
//     the container becomes the instance to which that is done.
//
// Two that run may be the halves of a rolling change: then the earlier one is kept
// beside the other, and the change goes on.
//
// Nothing that runs is killed for want of a record.

const (
	// listPause is the time between two tries to list containers.
	listPause = 500 * time.Millisecond
	// listTime is how long containerd has to answer, and listPatience how long before
	// those who wait are told.
	listTime     = 30 * time.Second
	listPatience = time.Second
)

// waitingFor is how the reason begins of a start before the containers are known.
const waitingFor = "waiting for containerd: "

// reconcile takes over the containers that no record explains, and opens the gate.
func (a *Agent) reconcile(ctx context.Context) {
	apps := map[appName]bool{}
	for ctx.Err() == nil {
		before := a.instances()
		found, err := a.listContainers(ctx)
		if err != nil {
			return // the agent ends
		}
		rest, err := a.takeOver(ctx, found, before, apps)
		if err == nil {
			a.settle(ctx, rest)
			return
		}
		// To go on without would be to run a workload twice.
		a.gate.shut("waiting until the containers that run can be taken over: " + err.Error())
		a.log.Error("cannot take over a container; trying again", "error", err)
		sleep(ctx, takeOverPause)
	}
}

// appName names an app.
type appName struct{ environment, name string }

// takeOverPause is the time between two tries to take over containers.
const takeOverPause = 2 * time.Second

func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

// settle sees to what was not taken over.
func (a *Agent) settle(ctx context.Context, rest lot) {
	for _, f := range rest.leave {
		why := "another container of its workload runs"
		if !legible(f) {
			why = "its record cannot be read"
		}
		a.leave(f, why)
	}
	for _, f := range rest.undo {
		a.undo(ctx, f)
	}
}

// listContainers lists the containers as soon as containerd answers.
func (a *Agent) listContainers(ctx context.Context) ([]runtime.Found, error) {
	for {
		limited, cancel := context.WithTimeout(ctx, listTime)
		slow := time.AfterFunc(listPatience, func() { a.gate.shut(waitingFor + "it does not answer") })
		found, err := a.runtime.List(limited)
		slow.Stop()
		cancel()
		if err == nil {
			return found, nil
		}
		a.gate.shut(waitingFor + err.Error())
		if !errors.Is(err, runtime.ErrUnavailable) && ctx.Err() == nil {
			a.log.Warn("cannot list containers", "error", err)
		}
		if sleep(ctx, listPause); ctx.Err() != nil {
			return nil, ctx.Err()
		}
	}
}

// takeOver takes over what is not explained, now or before the containers were
// listed, and opens the gate. It returns the containers that are not taken over.
func (a *Agent) takeOver(ctx context.Context, found []runtime.Found, before map[string]bool, apps map[appName]bool) (rest lot, err error) {
	a.writing.Lock()
	defer a.writing.Unlock()
	strays := slices.DeleteFunc(a.unexplained(found), func(f runtime.Found) bool { return before[f.ID] })
	if len(strays) > 0 && a.db.Loss().Made {
		a.reportLoss()
	}
	alive := map[string]bool{}
	for _, f := range found {
		alive[f.ID] = f.State == runtime.StateRunning
	}
	for _, group := range byWorkload(strays) {
		l, err := a.takeOverAll(ctx, group, alive, apps)
		if err != nil {
			return lot{}, err
		}
		rest.leave, rest.undo = append(rest.leave, l.leave...), append(rest.undo, l.undo...)
	}
	a.recoverApps(apps)
	a.gate.open()
	a.pruneHeld()
	return rest, nil
}

// byWorkload groups containers by the workload that they were made for, in order.
// Those whose record cannot be read are each for themselves.
func byWorkload(strays []runtime.Found) [][]runtime.Found {
	var groups [][]runtime.Found
	place := map[string]int{}
	for _, f := range strays {
		key := state.Key(f.Record.GetEnvironment(), f.Record.GetId())
		at, known := place[key]
		if !known || !legible(f) {
			place[key], at = len(groups), len(groups)
			groups = append(groups, nil)
		}
		groups[at] = append(groups[at], f)
	}
	return groups
}

// legible says whether a container's record tells of a workload.
func legible(f runtime.Found) bool {
	return f.Record.GetId() != "" && f.Record.GetEnvironment() != "" && f.Record.GetSpec() != nil
}

// takeOverAll decides on the containers of one workload, and takes over one of them
// if it is to be.
func (a *Agent) takeOverAll(ctx context.Context, group []runtime.Found, alive map[string]bool, apps map[appName]bool) (lot, error) {
	if !legible(group[0]) {
		return lot{leave: group}, nil
	}
	var known known
	w := a.lookup(group[0].Record.GetEnvironment(), group[0].Record.GetId())
	if w != nil {
		v, _ := w.supervisor.View()
		known.record, known.status = w.record(), v.Status
		known.alive = slices.ContainsFunc(v.Status.Containers(), func(i *supervise.Instance) bool { return alive[i.ID] })
	}
	l := decide(group, known)
	if l.adopt == nil {
		return l, nil
	}
	return l, a.recoverFrom(ctx, w, l, apps)
}

// known is what the agent knows of a workload. Without a record it knows of none.
type known struct {
	record *statev1.Workload
	status supervise.Status
	// alive: an instance on record runs.
	alive bool
}

// lot is what becomes of the containers of one workload.
type lot struct {
	// adopt becomes the workload's instance.
	adopt *runtime.Found
	// kept is the one that it was to replace in a rolling change; nil for none. beside: it
	// is the one on record.
	kept   *runtime.Found
	beside bool
	// undo has ended, or was not completed, and is of no use to anybody.
	undo []runtime.Found
	// leave runs, and should not: two of a workload never do.
	leave []runtime.Found
}

// decide decides on the containers that no record explains.
func decide(group []runtime.Found, k known) (l lot) {
	group = slices.SortedStableFunc(slices.Values(group), better)
	l.beside = k.alive && rolls(group[0], k)
	if l.beside || !k.alive && adoptable(group[0], k) {
		l.adopt = &group[0]
		group = group[1:]
	}
	if l.adopt != nil && !l.beside && len(group) > 0 && replaces(*l.adopt, group[0].Record) && group[0].State == runtime.StateRunning {
		l.kept = &group[0]
		group = group[1:]
	}
	for _, f := range group {
		if f.State == runtime.StateRunning {
			l.leave = append(l.leave, f)
		} else {
			l.undo = append(l.undo, f)
		}
	}
	return l
}

// rolls says whether a container is to replace the one on record, which runs.
func rolls(f runtime.Found, k known) bool {
	return k.record.GetGoal() == string(supervise.Run) && k.status.Kept == nil && replaces(f, k.record)
}

// replaces says whether a container that runs is to replace one made for an earlier wish,
// in a rolling change.
func replaces(f runtime.Found, earlier *statev1.Workload) bool {
	rolling := func(r *statev1.Workload) bool { return launchspec.Strategy(r.GetSpec()) == launchspec.StrategyRolling }
	return f.State == runtime.StateRunning && later(f.Record, earlier) && rolling(f.Record) && rolling(earlier) &&
		f.Record.GetCreatedAt().AsTime().Equal(earlier.GetCreatedAt().AsTime())
}

// better orders those first that run, then those of the latest wish.
func better(x, y runtime.Found) int {
	if x, y := x.State == runtime.StateRunning, y.State == runtime.StateRunning; x != y {
		if x {
			return -1
		}
		return 1
	}
	switch {
	case later(x.Record, y.Record):
		return -1
	case later(y.Record, x.Record):
		return 1
	}
	return y.Created.Compare(x.Created)
}

// adoptable says whether a container tells something of the workload that the record
// does not: that it runs, that it is wanted otherwise, or how it has ended.
func adoptable(f runtime.Found, k known) bool {
	if f.State == runtime.StateRunning || k.record == nil || later(f.Record, k.record) {
		return true
	}
	return ran(f) && k.record.GetGoal() == string(supervise.Run) && !k.status.State.Ended() &&
		!slices.Contains(k.status.Instances(), f.ID)
}

// ran says whether a container's command was executed. Of one without a task nobody
// can tell: a service is then started, and a job not run twice.
func ran(f runtime.Found) bool {
	switch f.State {
	case runtime.StateRunning, runtime.StateStopped:
		return true
	case runtime.StateNone:
		return launchspec.IsJob(f.Record.GetSpec())
	}
	return false
}

// later says whether a record is of a later wish than another: a workload that was
// removed and launched anew begins its counts anew.
func later(x, y *statev1.Workload) bool {
	if c := x.GetCreatedAt().AsTime().Compare(y.GetCreatedAt().AsTime()); c != 0 {
		return c > 0
	}
	_, of := accepted(x)
	_, than := accepted(y)
	return cmp.Or(cmp.Compare(of, than), cmp.Compare(lastRun(x), lastRun(y))) > 0
}

// merged is what is wanted of a workload from now on, of what is on record and on its
// container. asked: what is on record was asked for since the agent has started, and
// so after anything that a container can tell.
func merged(record, container *statev1.Workload, asked bool) *statev1.Workload {
	if !later(container, record) {
		return record
	}
	if !asked {
		return recordFrom(container)
	}
	record = proto.CloneOf(record)
	giveUpTrial(record) // an old one: what is on record of it is behind the run that follows
	if !proto.Equal(record.GetSpec(), container.GetSpec()) {
		record.Generation = max(record.Generation, container.GetGeneration()+1)
	}
	record.Generation = max(record.Generation, container.GetGeneration())
	record.Run = max(lastRun(record), lastRun(container)+1)
	return record
}

// recordFrom is the record of a workload, from its container's.
func recordFrom(container *statev1.Workload) *statev1.Workload {
	r := proto.CloneOf(container)
	r.Status, r.Goal = nil, string(supervise.Run)
	return r
}

// adoptee is a container as the instance of a workload of which something is wanted.
func adoptee(f runtime.Found, wanted *statev1.Workload) supervise.Adoptee {
	c := supervise.Adoptee{Run: runOf(f.Record), Running: f.State == runtime.StateRunning}
	generation := f.Record.GetGeneration()
	if !wanted.GetCreatedAt().AsTime().Equal(f.Record.GetCreatedAt().AsTime()) {
		// Of an earlier workload of that ID. If the new one is the same, so be it.
		c.Run = 0
		if proto.Equal(wanted.GetSpec(), f.Record.GetSpec()) && state.SamePins(pinsOf(wanted), pinsOf(f.Record)) {
			c.Run, generation = runOf(wanted), wanted.GetGeneration()
		}
	}
	c.Instance = supervise.Instance{
		ID: f.ID, Revision: supervise.NewRevision(generation, f.Record.GetSpec(), pinsOf(f.Record)),
		CreatedAt: f.Created, PID: f.PID, Addresses: f.Addresses,
	}
	if ran(f) {
		c.Instance.StartedAt = f.Created
	}
	for _, i := range f.Record.GetStatus().GetInstances() {
		c.Instance.ImageDigest = i.GetImageDigest()
	}
	return c
}

// adoptee is what a lot makes the workload's, of which something is wanted.
func (l lot) adoptee(wanted *statev1.Workload) supervise.Adoptee {
	c := adoptee(*l.adopt, wanted)
	c.Beside = l.beside
	if l.kept != nil {
		k := adoptee(*l.kept, wanted)
		c.Kept = &k
	}
	return c
}

// recoverFrom makes a container the instance of its workload, which is nil if it is
// not on record, and has it keep another.
func (a *Agent) recoverFrom(ctx context.Context, w *workload, l lot, apps map[appName]bool) error {
	f := *l.adopt
	environment, id := f.Record.GetEnvironment(), f.Record.GetId()
	if w == nil {
		if err := a.recoverWorkload(l); err != nil {
			return err
		}
		apps[appName{environment, f.Record.GetSpec().GetApp()}] = true
		a.tellKept(l)
		a.metrics.Adopted(metrics.Recovered)
		a.emit(warning, "Recovered", environment, id, "no record was left of it; it is taken from container %s, which %s, as generation %d%s",
			f.ID, doing(f), f.Record.GetGeneration(), onPins(f.Record.GetPins()))
		return nil
	}
	old := w.record()
	if err := w.takeOver(ctx, l); err != nil {
		return err
	}
	a.tellKept(l)
	a.metrics.Adopted(metrics.Recovered)
	text := "its record did not know of container %s, which %s and is taken over"
	if r := w.record(); later(r, old) && !w.asked {
		text += fmt.Sprintf("; the record was an old one, of generation %d: that of the container is in force, generation %d%s", old.GetGeneration(), r.GetGeneration(), onPins(r.GetPins()))
	}
	a.emit(warning, "Recovered", environment, id, text, f.ID, doing(f))
	return nil
}

// tellKept tells of the container that another is to replace.
func (a *Agent) tellKept(l lot) {
	if l.kept == nil {
		return
	}
	a.metrics.Adopted(metrics.Recovered)
	a.emit(warning, "Recovered", l.kept.Record.GetEnvironment(), l.kept.Record.GetId(), "its record did not know of container %s, which %s; it is kept until container %s has taken its place",
		l.kept.ID, doing(*l.kept), l.adopt.ID)
}

// doing says what a container does.
func doing(f runtime.Found) string {
	switch f.State {
	case runtime.StateRunning:
		return "runs"
	case runtime.StateStopped:
		return "has ended"
	case runtime.StateCreated:
		return "has not been started"
	}
	return "has no process"
}

// recoverWorkload makes a workload that the container was made for.
func (a *Agent) recoverWorkload(l lot) error {
	r := recordFrom(l.adopt.Record)
	status := supervise.Recovered(l.adoptee(r), time.Now())
	if err := a.persist(r, &status); err != nil {
		return err
	}
	w := newWorkload(a, r, status)
	a.changes.Append(func(uint64) Change { return Change{"updated", w.message()} })
	a.add(w)
	return nil
}

// takeOver makes a container the instance of a workload.
func (w *workload) takeOver(ctx context.Context, l lot) error {
	w.wishing.Lock()
	defer w.wishing.Unlock()
	r := merged(w.record(), l.adopt.Record, w.asked)
	if err := w.agent.persist(r, nil); err != nil {
		return err
	}
	w.mu.Lock()
	w.wanted, w.found = r, nil
	w.mu.Unlock()
	return w.supervisor.Adopt(ctx, w.agent.desired(r), l.adoptee(r))
}

func (a *Agent) persist(r *statev1.Workload, status *supervise.Status) error {
	err := a.db.Update(func(tx *state.Tx) error {
		if err := tx.PutWorkload(r); err != nil || status == nil {
			return err
		}
		return tx.PutStatus(state.Key(r.GetEnvironment(), r.GetId()), status.Record())
	})
	if err != nil {
		return fmt.Errorf("persisting the record of %s: %w", r.GetId(), err)
	}
	return nil
}

// recoverApps begins the histories anew that have been lost, with what there is.
func (a *Agent) recoverApps(apps map[appName]bool) {
	for at := range apps {
		environment, app := at.environment, at.name
		if len(a.functionsOf(environment, app)) == 0 {
			continue
		}
		history, err := a.db.App(environment, app)
		if err == nil && history == nil {
			history = &statev1.App{Environment: environment, Name: app}
			history.Revisions = append(history.Revisions, a.revision(environment, app, 1, "recovered from containers", nil))
			err = a.db.Update(func(tx *state.Tx) error { return tx.PutApp(history) })
		}
		if err != nil {
			a.log.Error("cannot begin the history of an app anew", "environment", environment, "app", app, "error", err)
		}
	}
}

// leave reports a container that is left alone.
func (a *Agent) leave(f runtime.Found, why string) {
	a.metrics.Adopted(metrics.Unexplained)
	a.emit(warning, "Unexplained", f.Record.GetEnvironment(), f.Record.GetId(), "container %s is this node's by its label, and no record explains it: %s; it is left alone", f.ID, why)
}

// undo deletes what is left of a container that does not run.
func (a *Agent) undo(ctx context.Context, f runtime.Found) {
	if err := a.runtime.Delete(ctx, f.ID); err != nil {
		a.leave(f, "it does not run, and cannot be deleted: "+err.Error())
		return
	}
	a.metrics.Adopted(metrics.Undone)
	a.emit(normal, "Undone", f.Record.GetEnvironment(), f.Record.GetId(), "container %s, which no record explains, %s; it is deleted", f.ID, doing(f))
}

// instances are the containers that workloads have on record.
func (a *Agent) instances() map[string]bool {
	known := map[string]bool{}
	for _, w := range a.all("", "") {
		v, _ := w.supervisor.View()
		for _, i := range v.Status.Containers() {
			known[i.ID] = true
		}
	}
	return known
}

// unexplained are the containers among those found that no workload has.
func (a *Agent) unexplained(found []runtime.Found) []runtime.Found {
	known := a.instances()
	return slices.DeleteFunc(slices.Clone(found), func(f runtime.Found) bool { return known[f.ID] })
}
