package cli

import (
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	purserv1 "github.com/purserd/purser/api/purser/v1"
)

// ended are the states of workloads that do nothing more by themselves.
var ended = []string{"stopped", "completed", "failed"}

// onTheWay are the states in which a workload waits for something; one that runs and
// says why it is not ready, too.
var onTheWay = []string{"creating", "pulling", "backing_off", "starting", "running"}

// runs are the states of workloads that do what they are for, or are about to.
var runs = []string{"starting", "running", "ready"}

// isReady says whether a workload does what it is for, as far as its state tells.
func isReady(w *purserv1.Workload) bool {
	switch w.GetState() {
	case "ready", "completed":
		return true
	case "starting":
		return w.GetSpec().GetKind() == "job"
	case "running":
		return w.GetSpec().GetProbes().GetReady() == nil
	default:
		return false
	}
}

// sentence says what a workload is: "a/f is backing_off: why; next try in 3s".
func sentence(w *purserv1.Workload, now time.Time) string {
	return w.GetId() + " is " + stateText(w, now)
}

// stateText is a workload's state and why it is in it.
func stateText(w *purserv1.Workload, now time.Time) string {
	reason := printable(reasonText(w, now))
	switch {
	case reason == "":
		return w.GetState()
	case w.GetState() == "pulling":
		return "pulling " + reason // which is what is pulled
	default:
		return w.GetState() + ": " + reason
	}
}

// reasonText is why a workload is in its state, and when it is tried again.
func reasonText(w *purserv1.Workload, now time.Time) string {
	return withNextTry(w.GetReason(), w, now)
}

// longestReason is how much of a reason a table has on a terminal: it may have all that a
// probe was answered in it, while most are shorter than this. It is cut in the middle, as
// what to do stands at its end.
const longestReason = 240

// reasonCell is reasonText as a table has it: all of it where no screen is to be kept clear.
func reasonCell(w *purserv1.Workload, now time.Time, on screen) string {
	text := strings.Join(strings.Fields(withRotation(w)), " ")
	if on.width > 0 {
		text = elide(text, longestReason)
	}
	return withNextTry(text, w, now)
}

func withNextTry(reason string, w *purserv1.Workload, now time.Time) string {
	if w.GetNextTryAt() == nil {
		return reason
	}
	return strings.TrimPrefix(reason+"; next try "+until(w.GetNextTryAt(), now), "; ")
}

// until is when at comes: in 3s, or now.
func until(at *timestamppb.Timestamp, now time.Time) string {
	left := at.AsTime().Sub(now)
	if left < time.Second {
		return "now"
	}
	return "in " + shortDuration(left)
}

// waitsFor tells one thing that a workload waits for from another, whenever it is
// tried again; empty when it waits for nothing that is known.
func waitsFor(w *purserv1.Workload) string {
	if w.GetReason() == "" || !slices.Contains(onTheWay, w.GetState()) {
		return ""
	}
	return w.GetState() + ": " + w.GetReason()
}
