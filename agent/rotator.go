package agent

import (
	"context"
	"errors"
	"fmt"
	"maps"
	mathrand "math/rand/v2"
	"sync"
	"time"

	"github.com/purserd/purser/agent/rotate"
	"github.com/purserd/purser/agent/state"
	"github.com/purserd/purser/agent/supervise"
	statev1 "github.com/purserd/purser/api/purser/state/v1"
)

// rotator moves workloads to new versions of their secrets: it has a plan made of what
// there is (package rotate), carries it out, and has another made when anything changes. It
// carries out, too, what follows from how new launch specs do (rollout.go), as a workload
// tries one thing at a time.
type rotator struct {
	agent *Agent
	// due, of capacity 1, asks for a plan, and heard, too, for one that is not far off.
	due, heard chan struct{}
	// working are the deliveries of files under way.
	working sync.WaitGroup

	// planner, checked, returning and planned, which is when the last plan was made, are the
	// goroutine's that runs it.
	planner *rotate.Planner
	checked map[string]checked
	// returning is until when workloads count as those that move, as they have been made to go
	// back and may not serve.
	returning map[string]time.Time
	// troubles counts the rounds in a row that had an error.
	troubles int
	planned  time.Time

	mu sync.Mutex
	// noticed are changes that the planner has not heard of yet.
	noticed []noticed
	// forgive: what was deferred is to be tried at once.
	forgive bool
	// standings are how the workloads stand by the last plan.
	standings map[string]rotate.Standing
	// deliveries of files, by workload, and the workloads whose files are seen to.
	deliveries map[string]delivery
	attended   map[string]bool
	// fetches of images, by workload, and the workloads whose moves need not wait for theirs
	// any more.
	fetches map[string]*fetch
	resumed []string
}

// noticed is a change of a secret.
type noticed struct {
	environment, secret string
	at                  time.Time
}

// errStale: something has changed since the plan was made.
var errStale = errors.New("it is not as it was any more")

func newRotator(a *Agent) *rotator {
	return &rotator{
		agent: a, due: make(chan struct{}, 1), heard: make(chan struct{}, 1),
		planner: rotate.NewPlanner(rotate.Config{
			Quiet: time.Duration(a.cfg.Rotation.Quiet), MaxDelay: time.Duration(a.cfg.Rotation.MaxDelay), MaxParallel: a.cfg.Rotation.MaxParallel,
		}, mathrand.Float64),
		checked: map[string]checked{}, returning: map[string]time.Time{}, standings: map[string]rotate.Standing{},
		deliveries: map[string]delivery{}, attended: map[string]bool{}, fetches: map[string]*fetch{},
	}
}

// poke asks for a plan.
func (r *rotator) poke() { raise(r.due) }

// hear asks for a plan as what a workload does has changed: at once if it is on trial, and
// soon if it may have something to move to.
func (r *rotator) hear(record *statev1.Workload) {
	switch {
	case record.GetTrial() != nil || record.GetFallback() != nil:
		r.poke()
	case len(record.GetSpec().GetSecrets()) > 0:
		raise(r.heard)
	}
}

func raise(signal chan<- struct{}) {
	select {
	case signal <- struct{}{}:
	default:
	}
}

// notice notes that a secret has changed.
func (r *rotator) notice(environment, secret string) {
	r.mu.Lock()
	r.noticed = append(r.noticed, noticed{environment, secret, time.Now()})
	r.mu.Unlock()
	raise(r.heard)
}

// forgiveAll has what was deferred be tried at once.
func (r *rotator) forgiveAll() {
	r.mu.Lock()
	r.forgive = true
	r.mu.Unlock()
	r.poke()
}

// standing is how a workload stands by the last plan.
func (r *rotator) standing(key string) rotate.Standing {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.standings[key]
}

// After a round that could not be carried out as a whole another one is made: after
// retryPause, and twice as long with each in a row, up to maxRetryPause.
const (
	retryPause    = time.Second
	maxRetryPause = time.Minute
)

// run carries out plans until ctx ends.
func (r *rotator) run(ctx context.Context) {
	defer r.working.Wait()
	// Until then it is not known what runs.
	if r.agent.gate.pass(ctx, nil) != nil {
		return
	}
	for ctx.Err() == nil {
		next, err := r.round(ctx)
		r.wait(ctx, r.retryBy(next, err))
	}
}

// retryBy is when the next round is made after one with an error, if there was any.
func (r *rotator) retryBy(next time.Time, err error) time.Time {
	if err == nil {
		r.troubles = 0
		return next
	}
	log := r.agent.log.Debug
	if r.troubles == 0 {
		log = r.agent.log.Error
	}
	log("cannot carry out rotations as planned; trying again", "error", err)
	again := time.Now().Add(min(retryPause<<min(r.troubles, 10), maxRetryPause))
	if r.troubles++; !next.IsZero() && next.Before(again) {
		return next
	}
	return again
}

// pace is how long it is at least from one plan to the next that is made because a secret
// has changed, or what a workload does. Of many changes in a moment nothing follows before
// they have come to rest.
const pace = 250 * time.Millisecond

// wait waits until a plan is asked for, or due.
func (r *rotator) wait(ctx context.Context, next time.Time) {
	for {
		var timer <-chan time.Time
		if !next.IsZero() {
			timer = time.After(max(0, time.Until(next)))
		}
		select {
		case <-r.heard:
			next = earlier(next, r.planned.Add(pace))
			continue
		case <-r.due:
		case <-timer:
		case <-ctx.Done():
		}
		return
	}
}

// earlier is the earlier of two times, of which a is none when it is zero.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || b.Before(a) {
		return b
	}
	return a
}

// round makes a plan and carries it out, again and again until there is nothing to do.
func (r *rotator) round(ctx context.Context) (time.Time, error) {
	for ctx.Err() == nil && !r.agent.ending.Load() {
		stepped, failed := r.stepRollouts()
		s, plan := r.plan(ctx)
		r.settle(s, plan)
		done, err := r.perform(ctx, s, plan.Actions)
		if err = errors.Join(append(s.errs, failed, err)...); err != nil || stepped+done == 0 {
			return plan.Next, err
		}
	}
	return time.Time{}, nil
}

// plan looks at all there is and has a plan made of it.
func (r *rotator) plan(ctx context.Context) (*survey, rotate.Plan) {
	now := time.Now()
	r.planned = now
	r.listen()
	s := &survey{rotator: r, ctx: ctx, now: now, book: r.agent.learnt.get(), subjects: map[string]subject{}, live: map[[2]string][]uint32{}}
	r.mu.Lock()
	s.deliveries = maps.Clone(r.deliveries)
	r.mu.Unlock()
	return s, r.planner.Plan(s.facts(), s.book, now)
}

// listen has the planner hear of what has changed.
func (r *rotator) listen() {
	r.mu.Lock()
	heard, resumed, forgive := r.noticed, r.resumed, r.forgive
	r.noticed, r.resumed, r.forgive = nil, nil, false
	r.mu.Unlock()
	for _, key := range resumed {
		r.planner.Resume(key)
	}
	for _, n := range heard {
		r.planner.Notice(n.environment, n.secret, n.at)
	}
	if len(heard) > 0 {
		r.agent.secretChanges.Forget(r.agent.exists)
	}
	if forgive {
		r.planner.Forgive()
		clear(r.checked)
	}
}

// settle takes in how workloads stand by a plan, and tells who follows them.
func (r *rotator) settle(s *survey, plan rotate.Plan) {
	r.mu.Lock()
	old := r.standings
	r.standings = plan.Standings
	r.mu.Unlock()
	r.forget(s)
	for key, now := range plan.Standings {
		sub := s.subjects[key]
		if t := sub.record.GetTrial(); files(t) && (t.GetDeliveredAt() == nil || t.GetEnding() != "") {
			r.attend(s.ctx, sub.workload)
		}
		if old[key] == now || old[key].State == "" && now.State == rotate.Current {
			continue
		}
		sub.supervisor.Look(func(v supervise.View) {
			r.agent.changes.Append(func(uint64) Change { return Change{"updated", sub.messageOf(v)} })
		})
		if now.State == rotate.Stale && old[key].State != rotate.Stale && old[key].State != "" { // told before by an earlier agent
			sub.emit(normal, "RotationStale", "there are newer versions of its secrets: %s", now.Reason)
		}
	}
}

// perform carries out actions, and says how many it has. What fails keeps none of the
// others from being done; one that is late ends it, as the others may be, too.
func (r *rotator) perform(ctx context.Context, s *survey, actions []rotate.Action) (done int, err error) {
	for _, action := range actions {
		failed := r.do(ctx, s, action)
		if errors.Is(failed, errStale) {
			return done + 1, err
		}
		if failed != nil {
			err = errors.Join(err, fmt.Errorf("%s: %s: %w", action.Workload.Who.Workload, action.Kind, failed))
			continue
		}
		done++
	}
	return done, err
}

// do carries out one action.
func (r *rotator) do(ctx context.Context, s *survey, action rotate.Action) error {
	sub := s.subjects[action.Workload.Key]
	switch action.Kind {
	case rotate.Begin:
		return r.begin(ctx, s, sub, action)
	case rotate.Commit:
		return r.commit(ctx, s, sub, action)
	case rotate.Withdraw:
		return r.withdraw(sub, action)
	case rotate.Repin:
		return r.write(sub, action, func(record *statev1.Workload) error {
			record.Pins = action.Workload.Move.Pins
			return nil
		})
	case rotate.Condemn:
		return r.condemn(sub, action)
	}
	panic(fmt.Sprintf("agent: no such action %q", action.Kind))
}

// write persists a change of a workload's record together with what an action leads to, if
// the record is still the one that the plan was made of.
func (r *rotator) write(sub subject, action rotate.Action, change func(*statev1.Workload) error) error {
	var book *rotate.Book
	_, old, err := r.agent.rewriteWith(sub.environment(), sub.id(), func(w *workload, record *statev1.Workload) error {
		if w != sub.workload || w.record() != sub.record {
			return errStale
		}
		return change(record)
	}, func(tx *state.Tx) error {
		if book = r.learning(action); book == nil {
			return nil
		}
		return tx.PutRotation(book.Record())
	}, func() {
		if book != nil {
			r.agent.learnt.set(*book)
		}
	})
	var refusal *Refusal
	if errors.As(err, &refusal) && refusal.Reason == NotFound {
		return errStale
	}
	if err == nil {
		r.agent.releaseDropped(old, sub.workload.record())
	}
	return err
}

// learning is the book with what an action leads to; nil when it leads to nothing. The
// caller holds writing.
func (r *rotator) learning(action rotate.Action) *rotate.Book {
	if action.Verdict == nil && action.Proof == nil {
		return nil
	}
	book := action.Learn(r.agent.learnt.get().Prune(r.agent.exists))
	return &book
}

// rewriteBook persists a change of the book. The caller holds the agent's writing.
func (r *rotator) rewriteBook(change func(rotate.Book) rotate.Book) error {
	next := change(r.agent.learnt.get())
	if err := r.agent.db.Update(func(tx *state.Tx) error { return tx.PutRotation(next.Record()) }); err != nil {
		return fmt.Errorf("persisting what is known of versions of secrets: %w", err)
	}
	r.agent.learnt.set(next)
	r.poke()
	return nil
}
