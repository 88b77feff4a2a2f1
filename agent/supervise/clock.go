package supervise

import "time"

// present brings what an earlier agent has left into this one's time. The clock may have
// been put back since: what lay ahead then would be waited for until it has caught up.
func present(s Status, now time.Time) Status {
	if ahead := s.Since.Sub(now); ahead > 0 {
		s.Since = now
		if !s.NextTry.IsZero() {
			s.NextTry = s.NextTry.Add(-ahead)
		}
	}
	if s.Instance != nil {
		i := *s.Instance
		i.CreatedAt, i.StartedAt, i.UpAt = before(i.CreatedAt, now), before(i.StartedAt, now), before(i.UpAt, now)
		s.Instance = &i
	}
	if s.Kept != nil {
		k := present(*s.Kept, now)
		s.Kept = &k
	}
	return s
}

// before is the earlier of two times.
func before(t, now time.Time) time.Time {
	if t.After(now) {
		return now
	}
	return t
}
