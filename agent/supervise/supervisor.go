package supervise

import (
	"context"
	"crypto/rand"
	"encoding/base32"
	"errors"
	"log/slog"
	mathrand "math/rand/v2"
	"strings"
	"sync"
	"time"
)

// Containers is what a supervisor needs of the container runtime. Errors are
// steered by [ErrGone] and [*ExitError]; any other error of Start is taken for
// one that lies outside the workload, and the start is tried again.
type Containers interface {
	// Start creates and starts an instance of a revision. Everything it had
	// made is gone again when it fails. It calls enter when it comes to pull the
	// image (Pulling), and when that is there (Creating).
	Start(ctx context.Context, instance string, r *Revision, enter func(State, string)) (Started, error)
	// Wait returns once the instance's process has ended.
	Wait(ctx context.Context, instance string) (Exit, error)
	// Probe watches over an instance that runs with its revision's probes, until ctx
	// ends or it is to be ended; startedUp: its startup probe has passed already. It
	// reports each change.
	Probe(ctx context.Context, instance string, r *Revision, startedUp bool, report func(Probed))
	// Promote has an instance take over from the one that is kept beside it: once it
	// returns, nothing new comes to that one. From the call on, View.Serving tells of the
	// instance, unless it is called off. It is called again until it succeeds.
	Promote(ctx context.Context, instance string) error
	// PreStop runs the revision's pre_stop command in the instance.
	PreStop(ctx context.Context, instance string, r *Revision) error
	// Stop sends the stop signal of the instance's revision, Kill sends SIGKILL.
	Stop(ctx context.Context, instance string, r *Revision) error
	Kill(ctx context.Context, instance string) error
	// Delete removes whatever exists of the instance, killing it if need be.
	Delete(ctx context.Context, instance string) error
	// Inspect compares a recorded instance with what is there, and makes it
	// usable by this agent.
	Inspect(ctx context.Context, instance string) (Found, error)
}

// Started tells of an instance that runs.
type Started struct {
	PID         uint32
	ImageDigest string
	// Boot is the boot of the node.
	Boot string
	// Addresses are its own on the node's container network.
	Addresses []string
}

// Found is what Inspect found.
type Found struct {
	// Running: its process is there.
	Running bool
	PID     uint32
	// Exit is how it ended; nil when it was never started.
	Exit *Exit
	// Boot is the present boot of the node, given beside ErrGone, too.
	Boot string
	// Addresses are its own on the node's container network.
	Addresses []string
}

var (
	// ErrGone: there is no such container.
	ErrGone = errors.New("no such container")
	// ErrOverridden is the cause of the end of the context of an action that another one
	// does not wait for: a start is called off, the time for a stop is over.
	ErrOverridden = errors.New("it is not waited for any more")
	// ErrSuperseded: what was to be forgotten is wanted again.
	ErrSuperseded = errors.New("superseded")
)

// ExitError is a start that failed because of what was asked for: the command
// cannot be executed, or the spec cannot be carried out. It counts as an exit.
type ExitError struct {
	Code    uint32
	Message string
}

func (e *ExitError) Error() string { return e.Message }

// Journal persists what must survive the agent. Its errors are the disk's.
type Journal interface {
	SaveStatus(s Status) error
	// Forget deletes the record, unless other things are wanted by now than d:
	// then it is ErrSuperseded.
	Forget(d Desired) error
}

// View is a moment's truth about one workload.
type View struct {
	Desired Desired
	Status  Status
	// Gone: the record has been deleted; nothing follows.
	Gone bool
}

// Supervisor drives one workload. [Supervisor.Run] is its one goroutine;
// the other methods may be called from anywhere.
type Supervisor struct {
	containers Containers
	journal    Journal
	changed    func(old, now View)
	log        *slog.Logger

	mu     sync.Mutex
	view   View
	notice chan struct{} // closed and replaced when view changes

	wake     chan struct{} // capacity 1: the desired state changed
	outcomes chan outcome
	done     chan struct{} // closed when Run ends
	waiting  sync.WaitGroup
	main     *lane  // of the instance that is wanted
	kept     *lane  // of the one that is kept beside it
	saved    Status // what the journal holds
}

// lane is what is under way for one instance, and for the one after it.
type lane struct {
	inflight inflight
	watched  string // instance whose exit is being waited for
	probing  probing
}

// inflight is the action under way in a lane; at most one is.
type inflight struct {
	action Action
	cancel context.CancelCauseFunc
}

// outcome folds a result into the status on the supervisor's goroutine.
type outcome struct {
	lane     *lane  // where it comes from
	action   Action // the action it ends; Wait for an exit that was watched
	instance string // the one that it is about; empty when about none
	apply    func(d Desired, s Status, now time.Time) Status
	gone     bool
	within   bool // tells of an action that goes on
}

// stale says whether an outcome is about an instance that is no more.
func (o outcome) stale(s Status) bool {
	i := s.Instance
	return o.instance != "" && (i == nil || i.ID != o.instance || i.Ended && o.action != Delete)
}

// into folds an outcome into the status of the instance that it is about, the kept one
// or the other, unless it comes too late.
func (o outcome) into(d Desired, s Status, now time.Time) (_ Status, late bool) {
	if o.instance == "" || s.Kept == nil || s.Kept.Instance.ID != o.instance {
		if o.stale(s) {
			return s, true
		}
		return o.apply(d, s, now), false
	}
	if o.stale(*s.Kept) {
		return s, true
	}
	return withKept(s, o.apply(keptDesired(d, s), *s.Kept, now)), false
}

// New makes a supervisor for a workload whose status has been persisted.
// changed is called after every change, in order and before it is persisted;
// it must not block, nor call the supervisor.
func New(d Desired, s Status, c Containers, j Journal, changed func(old, now View), log *slog.Logger) *Supervisor {
	return &Supervisor{
		containers: c,
		journal:    j,
		changed:    changed,
		log:        log,
		view:       View{Desired: d, Status: present(s, time.Now())},
		notice:     make(chan struct{}),
		wake:       make(chan struct{}, 1),
		outcomes:   make(chan outcome),
		done:       make(chan struct{}),
		main:       &lane{},
		kept:       &lane{},
		saved:      s,
	}
}

// View returns the present state, and a channel that is closed when it is no
// longer that.
func (s *Supervisor) View() (View, <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.view, s.notice
}

// Look calls a function with the present state, and has no change of it be told before it
// returns. It must not block, nor call the supervisor.
func (s *Supervisor) Look(f func(View)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f(s.view)
}

// Want changes what is wanted. The newest call wins over any that has not been
// seen yet.
func (s *Supervisor) Want(d Desired) {
	s.update(func(v *View) { v.Desired = d })
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// WaitFor returns the first view for which ok holds.
func (s *Supervisor) WaitFor(ctx context.Context, ok func(View) bool) (View, error) {
	for {
		v, changed := s.View()
		if ok(v) || v.Gone {
			return v, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return v, ctx.Err()
		}
	}
}

// Run drives the workload until it is forgotten or ctx ends. When it returns,
// nothing of it runs any more; its container may.
func (s *Supervisor) Run(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	defer s.waiting.Wait()
	defer close(s.done)
	defer cancel()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.wake:
		case <-timer.C:
		case o := <-s.outcomes:
			if ctx.Err() != nil {
				return // it tells of our own end, not of the workload
			}
			if s.fold(o); o.gone {
				return
			}
		}
		next := s.step(ctx)
		timer.Stop()
		if !next.IsZero() {
			timer.Reset(max(0, time.Until(next)))
		}
	}
}

// step asks the pure functions what to do for each instance, and sees that it is done.
func (s *Supervisor) step(ctx context.Context) time.Time {
	v, _ := s.View()
	now := time.Now()
	status, action, next := Step(v.Desired, v.Status, now, Chance{ID: newID(), Jitter: mathrand.Float64()})
	status, keptAction, keptNext := keptStep(v.Desired, status, now)
	s.setStatus(status)
	next = s.drive(ctx, s.main, v.Desired, status, action, next)
	return earliest(next, s.drive(ctx, s.kept, v.Desired, status.ofKept(), keptAction, keptNext))
}

// keeps says whether it is this instance that is kept.
func (s Status) keeps(i *Instance) bool {
	return i != nil && s.Kept != nil && s.Kept.Instance.ID == i.ID
}

// ofKept is the status of the kept instance; one without an instance if there is none.
func (s Status) ofKept() Status {
	if s.Kept == nil {
		return Status{}
	}
	return *s.Kept
}

// drive sees that what was decided for an instance is done, and returns when to look again.
func (s *Supervisor) drive(ctx context.Context, l *lane, d Desired, status Status, action Action, next time.Time) time.Time {
	s.watch(ctx, l, status)
	s.probe(ctx, l, status)
	if l.inflight.action != Wait {
		if overrides(action, l.inflight.action) {
			l.inflight.cancel(ErrOverridden) // its outcome leads to the next step
		}
		return next
	}
	if action == Wait {
		return next
	}
	if action == Start {
		// Recorded before it exists, so that no container is unexplained.
		if err := s.save(); err != nil {
			s.log.Error("cannot record an instance; trying again", "error", err)
			return time.Now().Add(actionPause)
		}
	}
	s.begin(ctx, l, action, d, status.Instance)
	return next
}

// overrides says whether an action does not wait for the one under way.
func overrides(action, inflight Action) bool {
	switch inflight {
	case Start:
		return action == Abort
	case Promote:
		return action != Promote && action != Wait
	case Signal, PreStop:
		return action == Kill
	}
	return false
}

// setStatus publishes a status, and persists it unless only the deciding
// moments of an instance changed that an agent can work out again.
func (s *Supervisor) setStatus(status Status) {
	switch v, _ := s.View(); { // what is under way for an instance goes on
	case v.Status.keeps(status.Instance):
		s.main, s.kept = s.kept, s.main
	case status.keeps(v.Status.Instance):
		s.main, s.kept = &lane{}, s.main
	}
	s.update(func(v *View) { v.Status = status })
	if status.Instance != nil && status.State == Creating && !status.Instance.Ended && sameKept(s.saved, status) {
		return // step saves it before it starts
	}
	if err := s.save(); err != nil {
		s.log.Error("cannot persist a workload's state; it goes on in memory", "error", err)
	}
}

// save persists the status if what is persisted differs.
func (s *Supervisor) save() error {
	v, _ := s.View()
	if same(s.saved, v.Status) {
		return nil
	}
	if err := s.journal.SaveStatus(v.Status); err != nil {
		return err
	}
	s.saved = v.Status
	return nil
}

// update changes the view and tells who waits for that.
func (s *Supervisor) update(change func(*View)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	old := s.view
	change(&s.view)
	s.changed(old, s.view)
	close(s.notice)
	s.notice = make(chan struct{})
}

// fold takes in the outcome of an action.
func (s *Supervisor) fold(o outcome) {
	switch {
	case o.within:
	case o.action != Wait:
		o.lane.inflight.cancel(nil)
		o.lane.inflight = inflight{}
	default:
		o.lane.watched = ""
	}
	if o.gone {
		s.update(func(v *View) { v.Gone = true })
		return
	}
	v, _ := s.View()
	status, late := o.into(v.Desired, v.Status, time.Now())
	if late {
		s.log.Debug("the outcome of an action came too late", "action", o.action, "instance", o.instance)
		return
	}
	s.setStatus(status)
}

// Begin is the status of a workload that has just been accepted: its first
// instance is planned. Persisted together with what is wanted, it saves the
// supervisor a write before it starts.
func Begin(d Desired) Status {
	now := time.Now()
	return plan(d, fresh(d, Status{State: Pending, Since: now}), now, Chance{ID: newID()})
}

// newID makes a short random name for a container.
func newID() string {
	var b [8]byte
	rand.Read(b[:])
	return strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(b[:]))
}
