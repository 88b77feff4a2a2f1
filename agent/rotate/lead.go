package rotate

import (
	"cmp"
	"slices"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	statev1 "github.com/purserd/purser/api/purser/state/v1"
)

type splay struct {
	group string
	over  time.Time
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
