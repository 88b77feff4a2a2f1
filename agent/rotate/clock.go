package rotate

import "time"

// Times on record are by a clock that may have been set since, in either direction. What is
// waited for is counted from when it is seen first: an agent that comes anew waits anew.

// sighting is when a trial was seen first; began tells it from others of the workload.
type sighting struct{ began, at time.Time }

// see notes that a workload has a trial.
func (p *Planner) see(w *Workload, now time.Time) {
	began := w.Trial.GetBeganAt().AsTime()
	if s, ok := p.sightings[w.Key]; !ok || !s.began.Equal(began) {
		p.sightings[w.Key] = sighting{began, now}
	}
}

// waitsUntil is when a trial that is deferred has been waited for long enough: at once where
// waiting is of no use.
func (p *Planner) waitsUntil(w *Workload) time.Time {
	if !w.Trial.Patient {
		return time.Time{}
	}
	return p.sightings[w.Key].at.Add(patience)
}
