package supervise

import "time"

// Drained is the reason of a Pause that lasts until the node is drained no longer.
const Drained = "the node is drained"

// paused settles a workload without a container while none is wanted. What waited to
// be tried again is tried at once when the pause ends; one that ends with the node
// goes on waiting under the next agent.
func paused(d Desired, s Status, now time.Time) Status {
	if d.Paused == "" {
		return s
	}
	return enter(s, Pending, d.Paused, now)
}

// finished says whether a workload has done all that was wanted of it, which a pause
// does not change.
func finished(d Desired, s Status) bool { return s.State.Ended() && s.Run == d.Run }

// wantedAgain says whether an instance is wanted again that has been told to stop, as its
// pause is over: its exit is not its own doing. That of a job counts, as in a pause.
func wantedAgain(d Desired, s Status) bool {
	return wanted(d, s) && !d.Policy.Job && !s.Instance.StopSince.IsZero() && s.Instance.Ending == nil
}

// earliest is the earlier of two times, each of which may be zero for never.
func earliest(due, limit time.Time) time.Time {
	if due.IsZero() || !limit.IsZero() && limit.Before(due) {
		return limit
	}
	return due
}

// because says of an exit in a pause what made the container end.
func because(d Desired, s Status, reason string) string {
	if d.Goal != Pause || d.Paused == "" || s.Instance.StopSince.IsZero() {
		return reason
	}
	return "stopped as " + d.Paused + ": " + reason
}
