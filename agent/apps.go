package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sync/errgroup"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/purserd/purser/agent/rotate"
	"github.com/purserd/purser/agent/supervise"
	"github.com/purserd/purser/api/launchspec"
	statev1 "github.com/purserd/purser/api/purser/state/v1"
	purserv1 "github.com/purserd/purser/api/purser/v1"
)

// revisionsKept is how many revisions of an app can be returned to.
const revisionsKept = 25

// Deploy launches the functions of an app, all or none. With prune, those of
// the app's functions that are not among specs are removed; with dryRun
// nothing is changed.
func (a *Agent) Deploy(ctx context.Context, environment, app string, specs []*purserv1.LaunchSpec, prune, dryRun, force bool) ([]*purserv1.Change, uint32, error) {
	environment = orDev(environment)
	for i, spec := range specs {
		if spec.GetApp() != app || launchspec.Environment(spec) != environment {
			return nil, 0, refuse(Invalid, "specs[%d] is of app %s in environment %s, not of %s in %s", i, spec.GetApp(), launchspec.Environment(spec), app, environment)
		}
	}
	if err := distinct(specs); err != nil {
		return nil, 0, err
	}
	if err := a.refuseDrained(); err != nil {
		return nil, 0, err
	}
	var functions []*purserv1.AppFunction
	for _, spec := range specs {
		functions = append(functions, &purserv1.AppFunction{Spec: spec})
	}
	return a.rollOut(ctx, rollout{environment: environment, app: app, cause: "deploy", functions: functions, prune: prune, dryRun: dryRun, force: force})
}

// rollout is what is to become of an app.
type rollout struct {
	environment, app, cause string
	functions               []*purserv1.AppFunction
	// prune removes the app's other functions; dryRun changes nothing; force takes versions
	// of secrets that are quarantined.
	prune, dryRun, force bool
	// back: it is an earlier revision, and its functions stay on the versions of it.
	back bool
}

// rollOut puts functions in force, all or none, as a new revision of the app.
func (a *Agent) rollOut(ctx context.Context, r rollout) ([]*purserv1.Change, uint32, error) {
	var specs []*purserv1.LaunchSpec
	for _, f := range r.functions {
		specs = append(specs, f.GetSpec())
	}
	if err := a.awaitRemoval(ctx, specs...); err != nil {
		return nil, 0, err
	}
	if !r.dryRun {
		if err := a.pullAhead(ctx, specs...); err != nil {
			return nil, 0, err
		}
	}
	seen := a.lookAhead(ctx, specs...)
	a.writing.Lock()
	defer a.writing.Unlock()
	plans, err := a.planAll(ctx, r, seen)
	if err != nil {
		return nil, 0, err
	}
	if r.prune {
		plans = append(plans, a.leftOut(r.environment, r.app, plans)...)
	}
	if err := a.admit(plans...); err != nil {
		return nil, 0, err
	}
	if r.dryRun {
		return changes(plans), 0, nil
	}
	var book *rotate.Book
	if r.back {
		book = a.stay(r, plans)
	}
	return a.revise(ctx, r, plans, book)
}

// distinct refuses specs that are of one workload.
func distinct(specs []*purserv1.LaunchSpec) error {
	seen := map[string]int{}
	for i, spec := range specs {
		id := launchspec.ID(spec)
		if first, twice := seen[id]; twice {
			return refuse(Invalid, "specs[%d] and specs[%d] have the same ID %s; give one of them an id or another function", first, i, id)
		}
		seen[id] = i
	}
	return nil
}

// planAll plans a launch of each function and reports every refusal at once.
func (a *Agent) planAll(ctx context.Context, r rollout, seen images) ([]plan, error) {
	var plans []plan
	var refused []error
	reason := Invalid
	for _, f := range r.functions {
		p, err := a.plan(ctx, request{spec: f.GetSpec(), pins: f.GetPins(), images: seen, force: r.force})
		if err == nil {
			plans = append(plans, p)
			continue
		}
		refused = append(refused, fmt.Errorf("%s: %w", launchspec.ID(f.GetSpec()), err))
		var refusal *Refusal
		if !errors.As(err, &refusal) {
			return nil, err
		}
		reason = max(reason, refusal.Reason)
	}
	if len(refused) > 0 {
		return nil, &Refusal{Reason: reason, Err: errors.Join(refused...)}
	}
	return plans, nil
}

// leftOut plans the removal of an app's functions that no plan names.
func (a *Agent) leftOut(environment, app string, plans []plan) []plan {
	named := map[string]bool{}
	for _, p := range plans {
		named[p.record.GetId()] = true
	}
	var removals []plan
	for _, w := range a.functionsOf(environment, app) {
		r := proto.CloneOf(w.record())
		if named[r.GetId()] || r.GetGoal() == string(supervise.Remove) {
			continue
		}
		r.Goal = string(supervise.Remove)
		giveUpTrial(r)
		removals = append(removals, plan{action: actionRemove, record: r, workload: w})
	}
	return removals
}

func changes(plans []plan) []*purserv1.Change {
	var all []*purserv1.Change
	for _, p := range plans {
		all = append(all, p.change())
	}
	return all
}

// revise commits plans as a new revision of the app, unless they change
// nothing.
func (a *Agent) revise(ctx context.Context, r rollout, plans []plan, book *rotate.Book) ([]*purserv1.Change, uint32, error) {
	history, err := a.db.App(r.environment, r.app)
	if err != nil {
		return nil, 0, err
	}
	if history == nil {
		history = &statev1.App{Environment: r.environment, Name: r.app}
	}
	number := newest(history).GetRevision()
	if !changed(plans) && number != 0 {
		return changes(plans), number, a.commit(ctx, plans, nil, book)
	}
	number++
	history.Revisions = append(history.Revisions, a.revision(r.environment, r.app, number, r.cause, plans))
	if extra := len(history.Revisions) - revisionsKept; extra > 0 {
		history.Revisions = history.Revisions[extra:]
	}
	if err := a.commit(ctx, plans, history, book); err != nil {
		return nil, 0, err
	}
	return changes(plans), number, nil
}

func changed(plans []plan) bool {
	for _, p := range plans {
		if p.action != actionUnchanged {
			return true
		}
	}
	return false
}

// revision is what the app consists of once the plans are carried out.
func (a *Agent) revision(environment, app string, number uint32, cause string, plans []plan) *purserv1.AppRevision {
	r := &purserv1.AppRevision{Revision: number, DeployedAt: timestamppb.Now(), Cause: cause}
	planned := map[string]bool{}
	add := func(w *statev1.Workload) {
		r.Functions = append(r.Functions, &purserv1.AppFunction{Spec: w.GetSpec(), Pins: w.GetPins()})
	}
	for _, p := range plans {
		planned[p.record.GetId()] = true
		if p.action != actionRemove {
			add(p.record)
		}
	}
	for _, w := range a.functionsOf(environment, app) {
		if got := w.record(); !planned[got.GetId()] && got.GetGoal() != string(supervise.Remove) {
			add(got)
		}
	}
	return r
}

// newest is an app's last revision; nil, which has number 0, when there is none.
func newest(app *statev1.App) *purserv1.AppRevision {
	if n := len(app.GetRevisions()); n > 0 {
		return app.GetRevisions()[n-1]
	}
	return nil
}

// Apps lists the apps of an environment; of all when it is empty.
func (a *Agent) Apps(environment string) ([]*purserv1.App, error) {
	histories, err := a.db.Apps()
	if err != nil {
		return nil, err
	}
	var apps []*purserv1.App
	for _, h := range histories {
		if environment != "" && environment != h.GetEnvironment() {
			continue
		}
		app := &purserv1.App{
			Environment: h.GetEnvironment(), Name: h.GetName(),
			Revision: newest(h).GetRevision(), DeployedAt: newest(h).GetDeployedAt(),
		}
		for _, w := range a.functionsOf(h.GetEnvironment(), h.GetName()) {
			app.Functions++
			if v, _ := w.supervisor.View(); v.Ready() || v.Status.State == supervise.Completed {
				app.Healthy++
			}
		}
		apps = append(apps, app)
	}
	return apps, nil
}

// History returns an app's revisions, newest first.
func (a *Agent) History(environment, app string) ([]*purserv1.AppRevision, error) {
	h, err := a.history(environment, app)
	if err != nil {
		return nil, err
	}
	var all []*purserv1.AppRevision
	for i := len(h.GetRevisions()) - 1; i >= 0; i-- {
		all = append(all, h.GetRevisions()[i])
	}
	return all, nil
}

func (a *Agent) history(environment, app string) (*statev1.App, error) {
	environment = orDev(environment)
	h, err := a.db.App(environment, app)
	if err != nil {
		return nil, err
	}
	if h == nil {
		return nil, refuse(NotFound, "no app %s has been deployed in environment %s; see purser app list -A", app, environment)
	}
	return h, nil
}

// Rollback puts the specs and the pins of an earlier revision in force, as a
// new one.
func (a *Agent) Rollback(ctx context.Context, environment, app string, number uint32) ([]*purserv1.Change, uint32, error) {
	environment = orDev(environment)
	if err := a.refuseDrained(); err != nil {
		return nil, 0, err
	}
	target, err := a.revisionOf(environment, app, number)
	if err != nil {
		return nil, 0, err
	}
	return a.rollOut(ctx, rollout{
		environment: environment, app: app, cause: fmt.Sprintf("rollback to %d", target.GetRevision()),
		functions: target.GetFunctions(), prune: true, back: true,
	})
}

// revisionOf returns a kept revision of an app; see findRevision.
func (a *Agent) revisionOf(environment, app string, number uint32) (*purserv1.AppRevision, error) {
	h, err := a.history(environment, app)
	if err != nil {
		return nil, err
	}
	return findRevision(h, number)
}

// findRevision returns a revision by its number; the one before the newest for 0.
func findRevision(h *statev1.App, number uint32) (*purserv1.AppRevision, error) {
	all := h.GetRevisions()
	if number == 0 {
		if len(all) < 2 {
			return nil, refuse(Precondition, "app %s in environment %s has no earlier revision", h.GetName(), h.GetEnvironment())
		}
		return all[len(all)-2], nil
	}
	for _, r := range all {
		if r.GetRevision() == number {
			return r, nil
		}
	}
	return nil, refuse(NotFound, "app %s in environment %s has no revision %d; see purser app history", h.GetName(), h.GetEnvironment(), number)
}

// StopApp stops every function of an app.
func (a *Agent) StopApp(ctx context.Context, environment, app string) ([]*purserv1.Workload, error) {
	environment = orDev(environment)
	all := a.functionsOf(environment, app)
	if len(all) == 0 {
		return nil, refuse(NotFound, "no function of app %s in environment %s", app, environment)
	}
	stopped := make([]*purserv1.Workload, len(all))
	group, ctx := errgroup.WithContext(ctx)
	for i, w := range all {
		group.Go(func() (err error) {
			stopped[i], err = a.Stop(ctx, environment, w.id(), nil)
			return err
		})
	}
	return stopped, group.Wait()
}

// functionsOf are the functions of an app, as they are there for users.
func (a *Agent) functionsOf(environment, app string) []*workload {
	return slices.DeleteFunc(a.list(environment, app), func(w *workload) bool { return oneOff(w.record()) })
}

// oneOff says whether a workload was made by `purser run`. It carries the name
// of the app whose function it runs, and is none of the app's functions.
func oneOff(r *statev1.Workload) bool {
	return launchspec.OneOff(r.GetSpec())
}
