package agent

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/purserd/purser/agent/rotate"
	"github.com/purserd/purser/agent/supervise"
	"github.com/purserd/purser/api/launchspec"
	statev1 "github.com/purserd/purser/api/purser/state/v1"
	purserv1 "github.com/purserd/purser/api/purser/v1"
	"github.com/purserd/purser/inject"
)

// subject is a workload whose secrets may move, as it was when it was looked at.
type subject struct {
	*workload
	record *statev1.Workload
	view   supervise.View
}

// survey collects what there is to know for a plan.
type survey struct {
	*rotator
	ctx      context.Context
	now      time.Time
	subjects map[string]subject
	// live are the versions of secrets, looked up once for all.
	live map[[2]string][]uint32
	book rotate.Book
	// What the rotator knows of deliveries of files.
	deliveries map[string]delivery
	errs       []error
}

// facts are what a plan is made of, in order of environment and ID.
func (s *survey) facts() []*rotate.Workload {
	maps.DeleteFunc(s.returning, func(_ string, until time.Time) bool { return !until.After(s.now) })
	var all []*rotate.Workload
	for _, w := range s.agent.list("", "") {
		r := w.record()
		if len(r.GetSpec().GetSecrets()) == 0 {
			continue
		}
		v, _ := w.supervisor.View()
		sub := subject{w, r, v}
		s.subjects[w.key] = sub
		all = append(all, s.factsOf(sub))
	}
	return all
}

func (s *survey) factsOf(sub subject) *rotate.Workload {
	r, spec := sub.record, sub.record.GetSpec()
	f := &rotate.Workload{
		Key: sub.key, Who: rotate.Who{Environment: r.GetEnvironment(), App: spec.GetApp(), Workload: r.GetId()}, Pins: r.GetPins(),
		Manual: launchspec.Manual(spec), Splay: launchspec.Splay(spec), Unproven: spec.GetProbes().GetReady() == nil,
		Moves: sub.moves() && s.agent.drain.get() == nil, Retries: sub.retries(),
	}
	if r.GetFallback() != nil {
		f.Moves, f.Busy = false, rolloutText(r)
	}
	if window, limited := launchspec.RotationWindow(spec); limited {
		opens := s.now
		if !window.Open(s.now) {
			opens = window.Next(s.now)
		}
		f.Opens = &opens
	}
	f.Health, f.Settles = sub.health(s.now)
	var err error
	if f.Move, err = s.moveOf(sub); err == nil && f.Move == nil {
		f.Withheld, err = s.withheld(sub)
	}
	if err != nil {
		s.errs = append(s.errs, fmt.Errorf("%s: %w", r.GetId(), err))
		f.Move, f.Withheld, f.Unknown = nil, "", err.Error()
	}
	f.Returning = s.returns(sub)
	if r.GetTrial() != nil {
		f.Trial = s.trialOf(sub)
	}
	return f
}

// returns is until when a workload that was made to go back counts as one that moves: until
// it serves, or is found not to, and for its health_timeout at most.
func (s *survey) returns(sub subject) time.Time {
	v := sub.view
	arrived := v.Status.Run == v.Desired.Run && (v.Serving() != nil || v.Status.Failures > 0)
	if arrived || !sub.moves() || sub.record.GetTrial() != nil {
		delete(s.returning, sub.key)
	}
	return s.returning[sub.key]
}

// moves says whether it is a service that is to run.
func (s subject) moves() bool {
	return s.record.GetGoal() == string(supervise.Run) && !launchspec.IsJob(s.record.GetSpec()) &&
		(s.record.GetTrial() != nil || !s.view.Status.State.Ended() || s.view.Status.Run != s.view.Desired.Run)
}

// retries says whether it is a job between two attempts.
func (s subject) retries() bool {
	st := s.view.Status
	return launchspec.IsJob(s.record.GetSpec()) && st.State == supervise.BackingOff && (st.Instance == nil || st.Instance.Ended)
}

// health says how a workload does, and when one will have run for long enough of which it
// cannot be said yet.
func (s subject) health(now time.Time) (rotate.Health, time.Time) {
	st := s.view.Status
	well, serves := s.view.HealthyAt()
	switch {
	case serves && !well.After(now):
		return rotate.Healthy, time.Time{}
	case st.Failures > 0 || st.State == supervise.BackingOff:
		return rotate.Unhealthy, time.Time{}
	case serves:
		return rotate.Unsettled, well
	case !s.view.Runs() || st.State == supervise.Starting:
		return rotate.Unsettled, time.Time{}
	}
	// It runs, and its ready probe does not pass.
	if due := st.Instance.StartedAt.Add(launchspec.HealthTimeout(s.record.GetSpec())); due.After(now) {
		return rotate.Unsettled, due
	}
	return rotate.Unhealthy, time.Time{}
}

// versions are those of a secret that a workload may move to, newest first.
func (s *survey) versions(environment, name string) []uint32 {
	at := [2]string{environment, name}
	got, ok := s.live[at]
	if !ok {
		got = s.agent.secrets.Live(environment, name)
		s.live[at] = got
	}
	return got
}

// gone says whether any version of a set is there no more: writers may have been waited for.
// That there are newer ones is for the next plan, or those who write all the time would keep
// everybody from moving.
func (s *survey) gone(environment string, set []*purserv1.Pin) bool {
	return slices.ContainsFunc(set, func(p *purserv1.Pin) bool {
		return !slices.Contains(s.agent.secrets.Live(environment, p.GetSecret()), p.GetVersion())
	})
}

// moveOf is what a workload is to move to; nil when it has all that it uses.
func (s *survey) moveOf(sub subject) (*rotate.Move, error) {
	r := sub.record
	refs := r.GetSpec().GetSecrets()
	pinned := map[string]uint32{}
	versions := map[string][]uint32{}
	newer := false
	for _, p := range r.GetPins() {
		pinned[p.GetSecret()] = p.GetVersion()
	}
	for _, ref := range refs {
		all := s.versions(r.GetEnvironment(), ref.GetName())
		addVersions(versions, ref, all)
		newer = newer || ref.GetVersion() == 0 && len(all) > 0 && all[0] > pinned[ref.GetName()]
	}
	if !newer {
		return nil, nil
	}
	m := &mover{survey: s, environment: r.GetEnvironment(), pinned: pinned, latest: s.book.Choose(r.GetEnvironment(), versions)}
	for _, ref := range refs {
		if err := m.compare(ref); err != nil {
			return nil, err
		}
	}
	if len(m.move.Set) == 0 {
		return nil, nil
	}
	if i := sub.view.Serving(); i == nil || i != sub.view.Status.Instance {
		m.mode = rotate.ModeRestart // there is nothing to replace files in
	}
	m.move.Hurried = m.hurried()
	m.settle(r)
	broken, err := s.broken(sub, m.move)
	m.move.Broken = broken
	return &m.move, err
}

// withheld says what there is that a workload uses and may not have.
func (s *survey) withheld(sub subject) (string, error) {
	r := sub.record
	for _, ref := range r.GetSpec().GetSecrets() {
		from := versionOf(r.GetPins(), ref.GetName())
		all := s.versions(r.GetEnvironment(), ref.GetName())
		if ref.GetVersion() != 0 || len(all) == 0 || all[0] <= from || launchspec.OnChange(ref) == launchspec.OnChangeIgnore {
			continue
		}
		why := s.book.Withheld(r.GetEnvironment(), ref.GetName(), all[0])
		if why == "" {
			continue
		}
		if keys, err := s.agent.secretChanges.Keys(s.ctx, r.GetEnvironment(), ref, from, all[0]); err != nil || len(keys) > 0 {
			return why, err
		}
	}
	return "", nil
}

// mover makes up a move.
type mover struct {
	*survey
	environment    string
	pinned, latest map[string]uint32
	mode           string
	move           rotate.Move
}

// compare adds what a reference to a secret contributes. A workload never moves back by
// itself: what is older than what it runs on well is no remedy.
func (m *mover) compare(ref *purserv1.SecretRef) error {
	name := ref.GetName()
	from, to := m.pinned[name], m.latest[name]
	if ref.GetVersion() != 0 || to <= from || launchspec.OnChange(ref) == launchspec.OnChangeIgnore {
		return nil
	}
	keys, err := m.agent.secretChanges.Keys(m.ctx, m.environment, ref, from, to)
	if err != nil || len(keys) == 0 {
		return err
	}
	for _, key := range keys {
		m.move.Keys = append(m.move.Keys, name+"/"+key)
	}
	if !slices.ContainsFunc(m.move.Set, func(p *purserv1.Pin) bool { return p.GetSecret() == name }) {
		m.move.Set = append(m.move.Set, &purserv1.Pin{Secret: name, Version: to})
	}
	m.mode = stronger(m.mode, launchspec.OnChange(ref))
	if from == 0 {
		m.mode = rotate.ModeRestart // there is no place yet for its files
	}
	return nil
}

// hurried says whether any secret moves to, or past, a version that is in a hurry.
func (m *mover) hurried() bool {
	return slices.ContainsFunc(m.move.Set, func(p *purserv1.Pin) bool {
		return m.book.Hurried(m.environment, p.GetSecret(), m.pinned[p.GetSecret()], p.GetVersion())
	})
}

// stronger is the one of two modes that does what the other does, and more.
func stronger(a, b string) string {
	for _, mode := range []string{rotate.ModeRestart, rotate.ModeSignal} {
		if a == mode || b == mode {
			return mode
		}
	}
	return rotate.ModeRefresh
}

// settle makes the pins. Another instance is made of all that is latest; in one that goes
// on nothing changes but the files.
func (m *mover) settle(r *statev1.Workload) {
	slices.Sort(m.move.Keys)
	m.move.Keys = slices.Compact(m.move.Keys)
	m.move.Mode = m.mode
	for _, p := range r.GetPins() {
		p = proto.CloneOf(p)
		if to := m.latest[p.GetSecret()]; to > p.GetVersion() && m.takes(r, p.GetSecret()) {
			p.Version = to
		}
		m.move.Pins = append(m.move.Pins, p)
	}
}

// takes says whether a secret of a workload is taken in its latest version. One whose changes
// are ignored is not: should its version be the bad one, others would be blamed for it.
func (m *mover) takes(r *statev1.Workload, name string) bool {
	fixed := slices.ContainsFunc(r.GetSpec().GetSecrets(), func(ref *purserv1.SecretRef) bool {
		return ref.GetName() == name && (ref.GetVersion() != 0 || launchspec.OnChange(ref) == launchspec.OnChangeIgnore)
	})
	moved := slices.ContainsFunc(m.move.Set, func(p *purserv1.Pin) bool { return p.GetSecret() == name })
	return !fixed && (moved || m.mode == rotate.ModeRestart)
}

// checked is what was found of pins that a workload is to move to.
type checked struct {
	// of is the record's time of creation, which tells it from an earlier one of its ID.
	of         *timestamppb.Timestamp
	generation uint64
	pins       []*purserv1.Pin
	broken     string
}

// broken says what no instance can be made of a move for: a secret that moves lacks a key
// that is required, or a value cannot be delivered. It is found out once.
func (s *survey) broken(sub subject, move rotate.Move) (string, error) {
	spec := sub.record.GetSpec()
	known, ok := s.checked[sub.key]
	if ok && proto.Equal(known.of, sub.record.GetCreatedAt()) && known.generation == sub.record.GetGeneration() && slices.EqualFunc(known.pins, move.Pins, samePin) {
		return known.broken, nil
	}
	_, err := sub.resolution(s.ctx, spec, move.Pins)
	found := checked{of: sub.record.GetCreatedAt(), generation: sub.record.GetGeneration(), pins: move.Pins}
	if err != nil {
		if found.broken = fault(err, move.Set); found.broken == "" {
			return "", err
		}
	}
	s.checked[sub.key] = found
	return found.broken, nil
}

func samePin(a, b *purserv1.Pin) bool {
	return a.GetSecret() == b.GetSecret() && a.GetVersion() == b.GetVersion()
}

// fault is what an error says against the members of a set; empty when it is about nothing
// that could be held against them.
func fault(err error, set []*purserv1.Pin) string {
	member := func(secret string) bool {
		return slices.ContainsFunc(set, func(p *purserv1.Pin) bool { return p.GetSecret() == secret })
	}
	var missing *inject.MissingError
	if errors.As(err, &missing) && slices.ContainsFunc(missing.Missing, func(m inject.Missing) bool { return m.Reason == inject.ReasonKeys && member(m.Secret) }) {
		return err.Error()
	}
	var undeliverable *inject.UndeliverableError
	if errors.As(err, &undeliverable) && slices.ContainsFunc(undeliverable.Problems, func(p inject.Undeliverable) bool { return member(p.Secret) }) {
		return err.Error()
	}
	return ""
}
