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
	statev1 "github.com/purserd/purser/api/purser/state/v1"
)

// rotator moves workloads to new versions of their secrets: it has a plan made of what
// there is (package rotate), carries it out, and has another made when anything changes.
type rotator struct {
	agent *Agent
	// due, of capacity 1, asks for a plan.
	due chan struct{}
	// working are the deliveries of files under way.
	working sync.WaitGroup

	// planner and checked are the goroutine's that runs it.
	planner *rotate.Planner
	checked map[string]verdictOf

	mu sync.Mutex
	// noticed are changes that the planner has not heard of yet.
	noticed []noticed
	// forgive: what was deferred is to be tried at once.
	forgive bool
	// standings are how the workloads stand by the last plan.
	standings map[string]rotate.Standing
	// By workload: busy with files, when its files had all been replaced, and why they
	// could not be.
	busy      map[string]bool
	delivered map[string]time.Time
	failed    map[string]string
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
		agent: a, due: make(chan struct{}, 1),
		planner: rotate.NewPlanner(rotate.Config{
			Quiet: time.Duration(a.cfg.Rotation.Quiet), MaxDelay: time.Duration(a.cfg.Rotation.MaxDelay), MaxParallel: a.cfg.Rotation.MaxParallel,
		}, mathrand.Float64),
		checked: map[string]verdictOf{}, standings: map[string]rotate.Standing{},
		busy: map[string]bool{}, delivered: map[string]time.Time{}, failed: map[string]string{},
	}
}

// poke asks for a plan.
func (r *rotator) poke() {
	select {
	case r.due <- struct{}{}:
	default:
	}
}

// notice notes that a secret has changed.
func (r *rotator) notice(environment, secret string) {
	r.mu.Lock()
	r.noticed = append(r.noticed, noticed{environment, secret, time.Now()})
	r.mu.Unlock()
	r.poke()
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

// retryPause is how long it is waited after a plan that could not be carried out.
const retryPause = time.Second

// run carries out plans until ctx ends.
func (r *rotator) run(ctx context.Context) {
	defer r.working.Wait()
	// Until then it is not known what runs.
	if r.agent.gate.pass(ctx, nil) != nil {
		return
	}
	for ctx.Err() == nil {
		next, err := r.round(ctx)
		if err != nil && ctx.Err() == nil {
			r.agent.log.Error("cannot carry out a rotation; trying again", "error", err)
			next = time.Now().Add(retryPause)
		}
		r.wait(ctx, next)
	}
}

// wait waits until a plan is asked for, or due.
func (r *rotator) wait(ctx context.Context, next time.Time) {
	var timer <-chan time.Time
	if !next.IsZero() {
		timer = time.After(max(0, time.Until(next)))
	}
	select {
	case <-r.due:
	case <-timer:
	case <-ctx.Done():
	}
}

// round makes a plan and carries it out, again and again until there is nothing to do.
func (r *rotator) round(ctx context.Context) (time.Time, error) {
	for ctx.Err() == nil && !r.agent.ending.Load() {
		s, plan := r.plan(ctx)
		r.settle(s, plan)
		done, err := r.perform(ctx, s, plan.Actions)
		if err != nil || done == 0 {
			return plan.Next, errors.Join(append(s.errs, err)...)
		}
	}
	return time.Time{}, nil
}

// plan looks at all there is and has a plan made of it.
func (r *rotator) plan(ctx context.Context) (*survey, rotate.Plan) {
	now := time.Now()
	r.listen()
	s := &survey{rotator: r, ctx: ctx, now: now, subjects: map[string]subject{}, live: map[[2]string][]uint32{}}
	r.mu.Lock()
	s.busy, s.delivered, s.failed = maps.Clone(r.busy), maps.Clone(r.delivered), maps.Clone(r.failed)
	r.mu.Unlock()
	return s, r.planner.Plan(s.facts(), r.agent.learnt.get(), now)
}

// listen has the planner hear of what has changed.
func (r *rotator) listen() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, n := range r.noticed {
		r.planner.Notice(n.environment, n.secret, n.at)
	}
	if len(r.noticed) > 0 {
		r.agent.secretChanges.Forget(r.agent.exists)
	}
	if r.noticed = nil; r.forgive {
		r.planner.Forgive()
		r.forgive = false
	}
}

// settle takes in how workloads stand by a plan, and tells who follows them.
func (r *rotator) settle(s *survey, plan rotate.Plan) {
	r.mu.Lock()
	old := r.standings
	r.standings = plan.Standings
	r.mu.Unlock()
	for key, now := range plan.Standings {
		sub := s.subjects[key]
		if old[key] == now || old[key].State == "" && now.State == rotate.Current {
			continue
		}
		r.agent.changes.Append(func(uint64) Change { return Change{"updated", sub.message()} })
		if now.State == rotate.Stale && old[key].State != rotate.Stale {
			sub.emit(normal, "RotationStale", "there are newer versions of its secrets: %s", now.Reason)
		}
	}
}

// perform carries out actions up to the first that fails, and says how many it has.
func (r *rotator) perform(ctx context.Context, s *survey, actions []rotate.Action) (done int, err error) {
	for _, action := range actions {
		switch err := r.do(ctx, s, action); {
		case errors.Is(err, errStale):
			return done + 1, nil // the next plan is made of what there is now
		case err != nil:
			return done, err
		}
		done++
	}
	return done, nil
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
		return r.withdraw(ctx, sub, action)
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
	_, old, err := r.agent.rewriteWith(sub.environment(), sub.id(), func(w *workload, record *statev1.Workload) error {
		if w != sub.workload || w.record() != sub.record {
			return errStale
		}
		return change(record)
	}, func(tx *state.Tx) error { return r.putBook(tx, action) }, func() { r.learn(action) })
	var refusal *Refusal
	if errors.As(err, &refusal) && refusal.Reason == NotFound {
		return errStale
	}
	if err == nil {
		r.agent.releasePins(sub.environment(), old.GetPins())
	}
	return err
}

// putBook persists what an action leads to.
func (r *rotator) putBook(tx *state.Tx, action rotate.Action) error {
	if action.Verdict == nil && action.Proof == nil {
		return nil
	}
	return tx.PutRotation(action.Learn(r.agent.learnt.get().Prune(r.agent.exists)).Record())
}

// learn takes in what an action has led to, once it is persisted. The caller holds writing.
func (r *rotator) learn(action rotate.Action) {
	r.agent.learnt.change(func(b *rotate.Book) { *b = action.Learn(*b) })
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
