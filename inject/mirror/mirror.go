// Package mirror keeps what a source of secrets has in the embedded store, so that its
// versions are numbered, and are there when the source is not.
//
//	m := mirror.New(mirror.Options{Source: secrets, Target: target, Poll: time.Minute})
//	m.Run(ctx) // until ctx ends
//
// It looks at all of the source when it begins, when it is told that anything may have
// changed, and every Poll; in between at those secrets that it is told of. What fails is
// tried again, after pauses that grow.
//
// A secret is taken away from the target only when the source says that it is not there,
// and says so again a moment later ([Options].Grace). Any other error leaves what there
// is. A source that has nothing at all when it is first looked at, where the target
// has secrets of it, counts as one that cannot be read: what holds it may not be mounted
// yet.
package mirror

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/purserd/purser/inject"
	"github.com/purserd/purser/inject/source"
)

// Target is where what a source has is kept.
type Target interface {
	// Known are the secrets of the source that are kept.
	Known() []source.Name
	// Put keeps the content, unless it is what is kept already.
	Put(ctx context.Context, name source.Name, data map[string]inject.Value) error
	// Gone says that the source does not have a secret any more, whether it was kept or
	// could not be.
	Gone(ctx context.Context, name source.Name) error

	// Up says that the source can be read: at first, and when it could not be before.
	Up()
	// Down says why it cannot.
	Down(why error)
	// Looked says that all of the source has been looked at.
	Looked(at time.Time)
	// Trouble says why a secret is not as the source has it, each time that this
	// changes; nil that it is now.
	Trouble(name source.Name, why error)
}

// Options say what to mirror, and where to.
type Options struct {
	Source source.Source
	Target Target
	// Poll is how often all is looked at; a minute when zero.
	Poll time.Duration
	// Grace is how long a secret must have been gone; a second when zero.
	Grace time.Duration
	// Watching, unless nil, is told why the source's watch has ended, before it is begun
	// anew.
	Watching func(why error)
}

func (o Options) poll() time.Duration {
	if o.Poll == 0 {
		return time.Minute
	}
	return o.Poll
}

func (o Options) grace() time.Duration {
	if o.Grace == 0 {
		return time.Second
	}
	return o.Grace
}

// The pauses before something is tried again.
const (
	leastPause = time.Second
	mostPause  = 30 * time.Second
)

// Mirror mirrors one source.
type Mirror struct {
	Options
	wake chan struct{} // of capacity 1

	mu     sync.Mutex // of what is due
	dueAll bool
	due    map[source.Name]bool
	// What follows is Run's alone.
	state
}

// state is what is known of the source.
type state struct {
	secrets map[source.Name]*secret
	// seen: the source has had a secret.
	seen     bool
	standing standing
	failures int
	nextAll  time.Time
}

// standing is whether a source can be read.
type standing int

const (
	unknown standing = iota // it was not looked at yet
	up
	down
)

// secret is what is known of one.
type secret struct {
	revision source.Revision
	// absent is since when the source does not have it; zero when it has.
	absent   time.Time
	trouble  string
	failures int
	// next is when to look again; zero when nothing is due.
	next time.Time
}

// New returns a mirror that has not begun.
func New(options Options) *Mirror {
	return &Mirror{Options: options, wake: make(chan struct{}, 1), dueAll: true, due: map[source.Name]bool{},
		state: state{secrets: map[source.Name]*secret{}}}
}

// Look has secrets looked at soon; all when none is named.
func (m *Mirror) Look(names ...source.Name) {
	m.mu.Lock()
	m.dueAll = m.dueAll || len(names) == 0
	for _, name := range names {
		m.due[name] = true
	}
	m.mu.Unlock()
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

// take returns what is to be looked at.
func (m *Mirror) take() (all bool, names map[source.Name]bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	all, names = m.dueAll, m.due
	m.dueAll, m.due = false, map[source.Name]bool{}
	return all, names
}

// Run mirrors until ctx ends.
func (m *Mirror) Run(ctx context.Context) {
	var watching sync.WaitGroup
	defer watching.Wait()
	watching.Go(func() { m.watch(ctx) })
	for ctx.Err() == nil {
		all, names := m.take()
		m.pass(ctx, all, names)
		m.wait(ctx)
	}
}

// watch has the source watched, again and again.
func (m *Mirror) watch(ctx context.Context) {
	for failures := 0; ctx.Err() == nil; failures++ {
		began := time.Now()
		err := m.Source.Watch(ctx, m.Look)
		if ctx.Err() != nil {
			return
		}
		if m.Watching != nil {
			m.Watching(err)
		}
		if time.Since(began) > mostPause {
			failures = 0
		}
		pause(ctx, backoff(failures))
		m.Look()
	}
}

// wait waits until something is due.
func (m *Mirror) wait(ctx context.Context) {
	next := m.nextAll
	for _, s := range m.secrets {
		if !s.next.IsZero() && s.next.Before(next) {
			next = s.next
		}
	}
	timer := time.NewTimer(time.Until(next))
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-m.wake:
	case <-timer.C:
	}
}

// pass looks at what is due.
func (m *Mirror) pass(ctx context.Context, all bool, names map[source.Name]bool) {
	now := time.Now()
	if all || !now.Before(m.nextAll) || m.standing == down {
		m.passAll(ctx)
		return
	}
	for name, s := range m.secrets {
		if !s.next.IsZero() && !now.Before(s.next) {
			names[name] = true
		}
	}
	m.each(ctx, names)
}

// passAll looks at all that the source has, had, or should have.
func (m *Mirror) passAll(ctx context.Context) {
	names, err := m.Source.List(ctx)
	if ctx.Err() != nil {
		return
	}
	known := m.Target.Known()
	if err == nil && len(names) == 0 && len(known) > 0 && !m.seen {
		err = fmt.Errorf("%w: it has nothing, where %d secrets are known of it, such as %s", source.ErrUnavailable, len(known), known[0])
	}
	if err != nil {
		m.isDown(err)
		return
	}
	m.seen = m.seen || len(names) > 0
	look := map[source.Name]bool{}
	for _, name := range append(names, known...) {
		look[name] = true
	}
	for name := range m.secrets {
		look[name] = true
	}
	if m.each(ctx, look) {
		m.isUp()
	}
}

// each looks at secrets, unless the source turns out to be down.
func (m *Mirror) each(ctx context.Context, names map[source.Name]bool) bool {
	for _, name := range slices.SortedFunc(maps.Keys(names), source.Name.Compare) {
		err := m.sync(ctx, name)
		if ctx.Err() != nil {
			return false
		}
		if errors.Is(err, source.ErrUnavailable) {
			m.isDown(err)
			return false
		}
		m.settle(name, err)
	}
	return true
}

func (m *Mirror) isUp() {
	now := time.Now()
	m.failures, m.nextAll = 0, now.Add(jittered(m.poll()))
	if m.standing != up {
		m.Target.Up()
	}
	m.standing = up
	m.Target.Looked(now)
}

func (m *Mirror) isDown(why error) {
	m.nextAll = time.Now().Add(min(backoff(m.failures), m.poll()))
	m.failures++
	if m.standing != down {
		m.Target.Down(why)
	}
	m.standing = down
}

// sync makes the target have a secret as the source has it.
func (m *Mirror) sync(ctx context.Context, name source.Name) error {
	s := m.secrets[name]
	if s == nil {
		s = &secret{}
		m.secrets[name] = s
	}
	content, err := m.Source.Get(ctx, name, s.revision)
	if err == nil || !errors.Is(err, inject.ErrNotFound) {
		s.absent = time.Time{}
	}
	switch {
	case errors.Is(err, source.ErrUnchanged):
		return nil
	case errors.Is(err, inject.ErrNotFound):
		return m.gone(ctx, name, s)
	case err != nil:
		return err
	}
	s.revision = ""
	if err := m.Target.Put(ctx, name, content.Data); err != nil {
		return err
	}
	s.revision = content.Revision
	return nil
}

// errAbsent: it is waited whether a secret comes back.
var errAbsent = errors.New("the source does not have it any more")

// gone takes a secret away that has been gone for long enough.
func (m *Mirror) gone(ctx context.Context, name source.Name, s *secret) error {
	now := time.Now()
	if s.absent.IsZero() {
		s.absent = now
	}
	if now.Sub(s.absent) < m.grace() {
		s.next = s.absent.Add(m.grace())
		return errAbsent
	}
	if err := m.Target.Gone(ctx, name); err != nil {
		return err
	}
	m.tell(name, s, nil)
	delete(m.secrets, name)
	return nil
}

// settle notes what became of a secret.
func (m *Mirror) settle(name source.Name, err error) {
	s := m.secrets[name]
	if s == nil || errors.Is(err, errAbsent) {
		return
	}
	m.tell(name, s, err)
	if err == nil {
		s.failures, s.next = 0, time.Time{}
		return
	}
	s.next = time.Now().Add(backoff(s.failures))
	s.failures++
}

func (m *Mirror) tell(name source.Name, s *secret, err error) {
	text := ""
	if err != nil {
		text = err.Error()
	}
	if text != s.trouble {
		s.trouble = text
		m.Target.Trouble(name, err)
	}
}

func backoff(failures int) time.Duration {
	return jittered(min(leastPause<<min(failures, 10), mostPause))
}

// jittered is up to a tenth more or less than d.
func jittered(d time.Duration) time.Duration {
	return d - d/10 + rand.N(d/5+1)
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}
