package agent

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/purserd/purser/agent/state"
	"github.com/purserd/purser/agent/supervise"
	statev1 "github.com/purserd/purser/api/purser/state/v1"
	"github.com/purserd/purser/failpoint"
	"github.com/purserd/purser/runtime"
)

// workload is a launch spec that the node has accepted.
type workload struct {
	agent      *Agent
	key        string
	supervisor *supervise.Supervisor
	// matcher is for the output of commands that are run in its containers.
	matcher lastMatcher

	// wishing is held while a wish is made of the record and handed on, so that
	// none made of an older record comes after it.
	wishing sync.Mutex

	mu sync.Mutex
	// wanted is what was asked for last. It is replaced, never changed.
	wanted *statev1.Workload
	// found is what the next start need not look up, if it is of the same spec.
	found *found
	// size is that of the terminal which a client saw it on last.
	size runtime.Size
	// asked: something was asked of it since the agent has started.
	asked bool
	// heldBack is the instance that was held back at the gate last, and has not passed it.
	heldBack string
	// stale are instances whose logs nobody can ask for any more.
	stale []string
}

// newWorkload makes a workload of its record, and of its status if that is
// fresher than the record's.
func newWorkload(a *Agent, r *statev1.Workload, status supervise.Status) *workload {
	w := &workload{agent: a, key: state.Key(r.GetEnvironment(), r.GetId()), wanted: r}
	log := a.log.With("environment", r.GetEnvironment(), "workload", r.GetId())
	w.supervisor = supervise.New(a.desired(r), status, containers{w}, journal{w}, w.changed, log)
	return w
}

func (w *workload) record() *statev1.Workload {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.wanted
}

func (w *workload) setSize(size runtime.Size) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.size = size
}

func (w *workload) terminalSize() runtime.Size {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.size
}

func (w *workload) environment() string { return w.record().GetEnvironment() }
func (w *workload) id() string          { return w.record().GetId() }

// accept takes a record that has been persisted, and what was looked up for it if
// anything was.
func (w *workload) accept(r *statev1.Workload, f *found) {
	w.wishing.Lock()
	defer w.wishing.Unlock()
	w.mu.Lock()
	w.wanted, w.found, w.asked = r, f, true
	w.mu.Unlock()
	w.supervisor.Want(w.agent.desired(r))
}

// want changes what the supervisor strives for without changing the record.
func (w *workload) want(change func(*supervise.Desired)) {
	w.wishing.Lock()
	defer w.wishing.Unlock()
	d := w.agent.desired(w.record())
	change(&d)
	w.supervisor.Want(d)
}

// desired is what the supervisor needs to know of a record.
func desired(r *statev1.Workload) supervise.Desired {
	return supervise.Desired{
		Goal:      supervise.Goal(r.GetGoal()),
		Run:       runOf(r),
		Trial:     onTrial(r),
		Completes: replacing(r) == nil,
		Delivered: r.GetDeliveredTo(),
		Revision:  supervise.NewRevision(r.GetGeneration(), r.GetSpec(), pinsOf(r)),
	}
}

// journal persists a supervisor's half of the record.
type journal struct{ w *workload }

func (j journal) SaveStatus(s supervise.Status) error {
	if err := failpoint.Error("status.save"); err != nil {
		return err
	}
	err := j.w.agent.db.Update(func(tx *state.Tx) error {
		return tx.PutStatus(j.w.key, s.Record())
	})
	return errors.Join(err, failpoint.Error("status.saved"))
}

// Forget deletes the record, unless something else is wanted by now, or a container
// was taken over. Whoever looks the workload up afterwards finds none, and may make it
// anew.
func (j journal) Forget(d supervise.Desired) error {
	a := j.w.agent
	a.writing.Lock()
	defer a.writing.Unlock()
	if r := j.w.record(); r.GetGoal() != string(unpaused(d.Goal)) || runOf(r) != d.Run {
		return supervise.ErrSuperseded
	}
	if v, _ := j.w.supervisor.View(); !v.Empty() {
		return supervise.ErrSuperseded // a container was taken over meanwhile
	}
	if err := failpoint.Error("forget.record"); err != nil {
		return err
	}
	err := a.db.Update(func(tx *state.Tx) error { return tx.DeleteWorkload(j.w.key) })
	if err != nil {
		return fmt.Errorf("deleting the record of %s: %w", j.w.id(), err)
	}
	failpoint.Here("forget.recorded")
	a.drop(j.w)
	// Here, so that nobody hears of its successor first.
	j.w.farewell()
	return nil
}

// drop takes a workload out of those that are kept.
func (a *Agent) drop(w *workload) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.workloads[w.key] == w {
		delete(a.workloads, w.key)
	}
}

// get returns a workload that the node has.
func (a *Agent) get(environment, id string) (*workload, error) {
	environment = orDev(environment)
	if w := a.lookup(environment, id); w != nil && w.visible() {
		return w, nil
	}
	return nil, a.absent(environment, id)
}

// lookup returns a workload, be it visible or not; nil for none.
func (a *Agent) lookup(environment, id string) *workload {
	a.mu.RLock()
	defer a.mu.RUnlock()
	return a.workloads[state.Key(environment, id)]
}

// visible says whether a workload is there for users: one that has been
// removed and ended is not, although its container may still have to be deleted.
func (w *workload) visible() bool {
	v, _ := w.supervisor.View()
	return !removed(v)
}

// list returns the workloads that are there for users; see all.
func (a *Agent) list(environment, app string) []*workload {
	return slices.DeleteFunc(a.all(environment, app), func(w *workload) bool { return !w.visible() })
}

// all returns the workloads of an environment and app, either of which may be
// empty for all, in order of environment and ID.
func (a *Agent) all(environment, app string) []*workload {
	a.mu.RLock()
	var found []*workload
	for _, w := range a.workloads {
		r := w.record()
		if (environment == "" || environment == r.GetEnvironment()) && (app == "" || app == r.GetSpec().GetApp()) {
			found = append(found, w)
		}
	}
	a.mu.RUnlock()
	slices.SortFunc(found, func(x, y *workload) int { return cmp.Compare(x.key, y.key) })
	return found
}

// orDev is the environment that a request means.
func orDev(environment string) string {
	return cmp.Or(environment, "dev")
}
