package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/purserd/purser/agent/rotate"
	"github.com/purserd/purser/agent/state"
	"github.com/purserd/purser/agent/supervise"
	"github.com/purserd/purser/api/launchspec"
	statev1 "github.com/purserd/purser/api/purser/state/v1"
	purserv1 "github.com/purserd/purser/api/purser/v1"
	"github.com/purserd/purser/failpoint"
	"github.com/purserd/purser/inject"
	"github.com/purserd/purser/inject/audit"
	"github.com/purserd/purser/runtime"
)

// What a plan does to a workload.
const (
	actionCreate    = "create"
	actionUpdate    = "update"
	actionUnchanged = "unchanged"
	actionRemove    = "remove"
)

// plan is what a launch will do once all of the request has been checked.
type plan struct {
	action string
	// record is what is wanted from now on.
	record *statev1.Workload
	// workload is the one that is there already; nil for a new one.
	workload *workload
	// found is what the checks looked up on the way; the first start uses it.
	found *found
	// size of the terminal that a client waits at; zero for none.
	size runtime.Size
}

// hidden are the secrets' keys that the spec's env covers.
func (p plan) hidden() []inject.Hidden {
	if p.found == nil {
		return nil
	}
	return inject.Merge(inject.Layers{Secrets: p.found.resolution.Secrets, Env: p.record.GetSpec().GetEnv()}).Hidden()
}

// writes says whether a plan changes a record: one that leaves the workload alone
// may still move its generation.
func (p plan) writes() bool {
	return p.action != actionUnchanged || p.workload.record().GetGeneration() != p.record.GetGeneration()
}

// forStart is what the start that follows need not look up again. While
// containerd is away nothing starts, and no value is kept for it; nor while an image
// is pulled.
func (p plan) forStart() *found {
	if p.found == nil || p.found.image == nil || launchspec.PullPolicy(p.found.spec) == launchspec.PullAlways {
		return nil
	}
	return p.found
}

func (p plan) change() *purserv1.Change {
	return &purserv1.Change{Id: p.record.GetId(), Action: p.action, Spec: p.record.GetSpec()}
}

// Launch accepts the spec of a request; it returns once that is persisted.
// changed tells whether the spec was not in force already.
func (a *Agent) Launch(ctx context.Context, r *purserv1.LaunchRequest) (w *purserv1.Workload, changed bool, err error) {
	spec := r.GetSpec()
	if err := a.refuseDrained(); err != nil {
		return nil, false, err
	}
	if err := a.awaitRemoval(ctx, spec); err != nil {
		return nil, false, err
	}
	if err := a.pullAhead(ctx, spec); err != nil {
		return nil, false, err
	}
	images := a.lookAhead(ctx, spec)
	a.writing.Lock()
	defer a.writing.Unlock()
	p, err := a.plan(ctx, request{spec: spec, generation: r.Generation, images: images, force: r.GetForce()})
	if err != nil {
		return nil, false, err
	}
	if err := a.admit(p); err != nil {
		return nil, false, err
	}
	p.size = SizeOf(r.GetSize())
	if err := a.commit(ctx, []plan{p}, nil, nil); err != nil {
		return nil, false, err
	}
	found, err := a.get(p.record.GetEnvironment(), p.record.GetId())
	if err != nil {
		return nil, false, err
	}
	return found.message(), p.action != actionUnchanged, nil
}

// request is what is asked for of one spec.
type request struct {
	spec *purserv1.LaunchSpec
	// pins take the place of the secrets' latest versions, unless nil.
	pins       []*purserv1.Pin
	generation *uint64
	images     images
	// force takes versions that are quarantined.
	force bool
}

// plan checks a spec against the node and decides what launching it means. That
// it keeps the rules has been checked where it came in. The caller holds writing.
func (a *Agent) plan(ctx context.Context, r request) (plan, error) {
	if a.ending.Load() {
		return plan{}, refuse(Later, "the node is stopping")
	}
	// Again, now that a drain that begins has to wait.
	if err := a.refuseDrained(); err != nil {
		return plan{}, err
	}
	w := a.lookup(launchspec.Environment(r.spec), launchspec.ID(r.spec))
	spec, pins, generation := a.normalised(r.spec, w), r.pins, r.generation
	p := plan{action: actionCreate, record: newRecord(spec, generation)}
	if w != nil {
		if err := p.onto(w, generation); err != nil {
			return plan{}, err
		}
	}
	if p.action == actionUnchanged {
		if pins == nil || state.SamePins(pins, p.record.GetPins()) && p.record.GetTrial() == nil {
			return p, nil
		}
		p.ontoPins(pins)
	}
	return p, a.check(ctx, &p, r)
}

// images are what containerd said of the images that specs name, for as long as no
// image is removed.
type images struct {
	seen     map[string]sighting
	removals uint64
}

type sighting struct {
	image *runtime.Image
	err   error
}

// lookAhead looks up the images of specs that are not in force already, and what is
// in them where secret files are to be, before the lock is taken that all writers wait
// for: an image may have to be unpacked and mounted, and containerd may be slow.
func (a *Agent) lookAhead(ctx context.Context, specs ...*purserv1.LaunchSpec) images {
	seen := images{seen: map[string]sighting{}, removals: a.removals.Load()}
	for _, spec := range specs {
		w := a.lookup(launchspec.Environment(spec), launchspec.ID(spec))
		if w != nil && w.runsAlready(spec) {
			continue
		}
		if image, err := a.look(ctx, seen, spec.GetImage().GetRef()); err == nil {
			a.lookInside(ctx, image, spec)
		}
	}
	return seen
}

// lookInside has the runtime learn what the image has where the spec wants files of
// secrets. What is wrong is found again by the check, which is to report it.
func (a *Agent) lookInside(ctx context.Context, image *runtime.Image, spec *purserv1.LaunchSpec) {
	if !slices.ContainsFunc(spec.GetSecrets(), func(ref *purserv1.SecretRef) bool { return ref.GetFile() != nil }) {
		return
	}
	resolution, err := a.resolveLatest(ctx, launchspec.Environment(spec), spec.GetSecrets(), nil)
	if err == nil {
		_ = a.runtime.CheckFiles(ctx, image, spec, resolution.Directories)
	}
}

// look looks an image up, once. What is removed is removed under the writers' lock,
// so that what is found under it stays.
func (a *Agent) look(ctx context.Context, known images, ref string) (*runtime.Image, error) {
	got, ok := known.seen[ref]
	if !ok || known.removals != a.removals.Load() {
		got.image, got.err = a.runtime.Image(ctx, ref)
		known.seen[ref] = got
	}
	return got.image, got.err
}

// runsAlready says whether a spec is in force.
func (w *workload) runsAlready(spec *purserv1.LaunchSpec) bool {
	r := w.record()
	return r.GetGoal() == string(supervise.Run) && proto.Equal(r.GetSpec(), w.agent.normalised(spec, w))
}

// stopPatience is how long a launch waits for an earlier workload of the same ID
// that is being removed to stop: a little longer than the grace is that most have.
const stopPatience = 15 * time.Second

// awaitRemoval waits until nothing is left of earlier workloads of the same IDs
// that have been removed, and for a while that those end which are being removed.
func (a *Agent) awaitRemoval(ctx context.Context, specs ...*purserv1.LaunchSpec) error {
	stopping, cancel := context.WithTimeout(ctx, stopPatience)
	defer cancel()
	for _, spec := range specs {
		w := a.lookup(launchspec.Environment(spec), launchspec.ID(spec))
		if w == nil || w.record().GetGoal() != string(supervise.Remove) && w.visible() {
			continue
		}
		if _, err := w.supervisor.WaitFor(stopping, removed); err != nil && ctx.Err() == nil {
			continue // it takes longer, and is refused
		}
		if _, err := w.supervisor.WaitFor(ctx, func(supervise.View) bool { return false }); err != nil {
			return err
		}
		a.forget(w)
	}
	return nil
}

// newRecord is the record of a workload that the node does not have yet.
func newRecord(spec *purserv1.LaunchSpec, generation *uint64) *statev1.Workload {
	r := &statev1.Workload{
		Environment: spec.GetEnvironment(),
		Id:          launchspec.ID(spec),
		Spec:        spec,
		Generation:  1,
		Run:         1,
		Goal:        string(supervise.Run),
		CreatedAt:   timestamppb.Now(),
	}
	if generation != nil {
		r.Generation = *generation
	}
	return r
}

// onto turns a plan for a new workload into one for a workload that is there.
func (p *plan) onto(w *workload, generation *uint64) error {
	old, spec := w.record(), p.record.GetSpec()
	if err := refuseOnto(old, spec, generation); err != nil {
		return err
	}
	p.workload, p.record = w, proto.CloneOf(old)
	if !w.ask(p.record, spec, generation) && old.GetGoal() == string(supervise.Run) {
		p.action = actionUnchanged
		return nil
	}
	renew(p.record)
	p.record.Goal = string(supervise.Run)
	p.action = actionUpdate
	return nil
}

// ontoPins turns a plan that leaves a workload alone into one that has it run on pins, and
// on no others that it tries.
func (p *plan) ontoPins(pins []*purserv1.Pin) {
	p.action = actionUpdate
	if state.SamePins(pins, p.record.GetPins()) && replacing(p.record) != nil {
		giveUpTrial(p.record)
		return
	}
	renew(p.record)
}

// refuseOnto refuses a spec for a workload that is there which would undo what is newer.
func refuseOnto(old *statev1.Workload, spec *purserv1.LaunchSpec, generation *uint64) error {
	if old.GetGoal() == string(supervise.Remove) {
		return refuse(Later, "workload %s in environment %s is being removed; launch it again in a moment", old.GetId(), old.GetEnvironment())
	}
	last, at := accepted(old)
	switch {
	case generation == nil:
		return nil
	case *generation < at:
		return refuse(Precondition, "workload %s in environment %s is at generation %d already; %d would undo it", old.GetId(), old.GetEnvironment(), at, *generation)
	case *generation == at && !proto.Equal(last, spec):
		return refuse(Precondition, "generation %d of workload %s in environment %s is another spec already; a new spec needs a higher one", *generation, old.GetId(), old.GetEnvironment())
	}
	return nil
}

// ask has a record ask for a spec, and says whether that takes another instance than the
// workload had last.
func (w *workload) ask(record *statev1.Workload, spec *purserv1.LaunchSpec, generation *uint64) bool {
	last, at := accepted(record)
	next, same := at+1, proto.Equal(last, spec)
	if generation != nil {
		next = *generation
	}
	switch {
	case same && record.GetBackedOut() == nil:
		if generation != nil {
			record.Generation = next
		}
	case same && next == at: // it has failed, and nobody asks for another try
	case proto.Equal(record.GetSpec(), spec): // what was gone back to is what is wanted now
		record.BackedOut, record.Generation = nil, next
	default:
		w.rollOut(record, spec, next)
		return true
	}
	return false
}

// normalised is a spec, for a workload that may be there already, in the form in which it
// is kept and compared.
func (a *Agent) normalised(spec *purserv1.LaunchSpec, w *workload) *purserv1.LaunchSpec {
	spec = proto.CloneOf(spec)
	spec.Environment = proto.String(launchspec.Environment(spec))
	a.fillNetworkMode(spec, w)
	return spec
}

// check finds out whether this node can run a plan's spec, and fills in its pins.
// All that keeps it from that is in one refusal.
func (a *Agent) check(ctx context.Context, p *plan, r request) error {
	spec := p.record.GetSpec()
	// First: other refusals say what a field holds.
	if err := copied(ctx, p.record.GetEnvironment(), spec, a.copies); err != nil {
		return err
	}
	refused := a.runtime.Check(spec)
	image, err := a.look(ctx, r.images, spec.GetImage().GetRef())
	absent := errors.Is(err, runtime.ErrImageNotFound) && mayPull(spec)
	if err != nil && !absent && !errors.Is(err, runtime.ErrUnavailable) {
		refused = errors.Join(refused, a.imageError(ctx, spec.GetImage().GetRef(), err))
	}
	refused = errors.Join(refused, a.checkLogin(ctx, spec), a.checkDevices(p))
	refused = errors.Join(refused, a.refuseQuarantined(p.record.GetEnvironment(), spec.GetSecrets(), r.force))
	resolution, err := a.resolveLatest(ctx, p.record.GetEnvironment(), spec.GetSecrets(), r.pins)
	if refused = errors.Join(refused, err); refused == nil {
		refused = a.refuseQuarantinedSet(p.record.GetEnvironment(), spec.GetSecrets(), resolution.Pins, r.force)
	}
	if refused != nil {
		return &Refusal{Reason: Precondition, Err: refused}
	}
	if image != nil {
		if err := a.checkDelivery(ctx, image, spec, resolution); err != nil {
			return err
		}
	}
	p.record.Pins = resolution.Pins
	p.found = &found{spec: spec, image: image, resolution: resolution}
	return nil
}

// checkDelivery finds out whether an image can be given its secrets as the spec
// wants it. What containerd cannot tell now is found out again by the start.
func (a *Agent) checkDelivery(ctx context.Context, image *runtime.Image, spec *purserv1.LaunchSpec, resolution *inject.Resolution) error {
	err := a.runtime.CheckFiles(ctx, image, spec, resolution.Directories)
	if errors.Is(err, runtime.ErrUnavailable) {
		err = nil
	}
	if resolution.SetsVariables() {
		_, exposed := a.keepImageFromReaders(image, spec)
		err = errors.Join(err, exposed)
	}
	if err != nil {
		return &Refusal{Reason: Precondition, Err: err}
	}
	return nil
}

// commit persists plans, with the app revision that they make up and what is known of
// versions of secrets from then on, where there is such, and sets the supervisors to work.
func (a *Agent) commit(ctx context.Context, plans []plan, app *statev1.App, book *rotate.Book) error {
	begun := make([]supervise.Status, len(plans))
	if app == nil && book == nil && !slices.ContainsFunc(plans, plan.writes) {
		return nil
	}
	end, err := a.reserve(ctx, plans...)
	if err != nil {
		return err
	}
	defer end()
	if err := failpoint.Error("launch.record"); err != nil {
		return err
	}
	err = a.db.Update(func(tx *state.Tx) error {
		for i, p := range plans {
			if !p.writes() {
				continue
			}
			if err := tx.PutWorkload(p.record); err != nil {
				return err
			}
			if p.workload != nil {
				continue
			}
			begun[i] = supervise.Begin(desired(p.record))
			if err := tx.PutStatus(state.Key(p.record.GetEnvironment(), p.record.GetId()), begun[i].Record()); err != nil {
				return err
			}
		}
		if book != nil {
			if err := tx.PutRotation(book.Record()); err != nil {
				return err
			}
		}
		if app == nil {
			return nil
		}
		return tx.PutApp(app)
	})
	if err != nil {
		return fmt.Errorf("persisting the launch: %w", err)
	}
	failpoint.Here("launch.recorded")
	if book != nil {
		a.learnt.set(*book)
		a.rotator.poke()
	}
	for i, p := range plans {
		a.apply(ctx, p, begun[i])
	}
	return nil
}

// apply hands a plan that has been persisted to its supervisor.
func (a *Agent) apply(ctx context.Context, p plan, begun supervise.Status) {
	a.announce(p)
	if p.action == actionCreate || p.action == actionUpdate {
		a.recordWish(ctx, audit.Launch, p.record)
	}
	if p.workload == nil {
		w := newWorkload(a, p.record, begun)
		w.size = p.size
		w.found = p.forStart()
		w.introduce()
		a.add(w)
		return
	}
	old := p.workload.record()
	if p.size != (runtime.Size{}) {
		p.workload.setSize(p.size)
	}
	p.workload.accept(p.record, p.forStart())
	p.workload.tellGivenUp(old, "another spec is asked for")
	a.pruneSecrets(old.GetEnvironment(), dropped(old, p.record))
}

// announce tells of a plan in an event.
func (a *Agent) announce(p plan) {
	r := p.record
	switch p.action {
	case actionCreate:
		a.emit(normal, "Accepted", r.GetEnvironment(), r.GetId(), "launch spec accepted%s", onPins(r.GetPins()))
	case actionUpdate:
		a.emit(normal, "Updated", r.GetEnvironment(), r.GetId(), "launch spec accepted as generation %d%s", r.GetGeneration(), onPins(r.GetPins()))
	case actionRemove:
		a.emit(normal, "Removing", r.GetEnvironment(), r.GetId(), "no longer part of app %s", r.GetSpec().GetApp())
	}
	for _, h := range p.hidden() {
		a.emit(warning, "SecretHidden", r.GetEnvironment(), r.GetId(), "%s comes from %s, which hides key %s of secret %s", h.Variable, h.By, h.Key, h.Secret)
	}
}
