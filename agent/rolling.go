package agent

import "github.com/purserd/purser/agent/supervise"

// rolled tells of a rolling change: that it has begun, that the new instance has taken
// over, and that the kept one has ended before; or that the kept one stays after all.
func (w *workload) rolled(old, now supervise.Status) {
	switch {
	case old.Kept != nil && now.Instance != nil && now.Instance.ID == old.Kept.Instance.ID:
		w.emit(normal, "Stays", "container %s stays, as what was to take its place is not wanted any more", now.Instance.ID)
	case old.Kept == nil && now.Kept != nil:
		i := now.Kept.Instance
		w.emit(normal, "Rolling", "container %s of generation %d serves until the one that takes its place is healthy", i.ID, i.Revision.Generation)
	case now.Kept == nil || old.Kept == nil || now.Kept.Instance.ID != old.Kept.Instance.ID:
	case !promoted(old) && promoted(now):
		w.emit(normal, "Promoted", "container %s is healthy and takes the place of container %s", now.Instance.ID, now.Kept.Instance.ID)
	case !old.Kept.Instance.Ended && now.Kept.Instance.Ended && old.Kept.Instance.StopSince.IsZero():
		w.emit(warning, "KeptEnded", "container %s, which served until the one that takes its place is healthy, has ended: %s", now.Kept.Instance.ID, now.Kept.Reason)
	}
}

func promoted(s supervise.Status) bool { return s.Instance != nil && s.Instance.Promoted }
