package rotate

import (
	"fmt"
	"slices"

	statev1 "github.com/purserd/purser/api/purser/state/v1"
)

// A stay is no verdict: nothing has failed, and so a retry does not end it. What does is a
// newer version than there was, or whatever else takes the workload from the version that it
// was rolled back to.

// WithStay keeps a workload on a version of a secret, in the place of an earlier stay of it
// there.
func (b Book) WithStay(s *statev1.Stay) Book {
	return b.change(func(r *statev1.Rotation) {
		r.Stays = slices.DeleteFunc(r.Stays, func(o *statev1.Stay) bool {
			return o.GetEnvironment() == s.GetEnvironment() && o.GetWorkload() == s.GetWorkload() && o.GetSecret() == s.GetSecret()
		})
		r.Stays = append(r.Stays, s)
	})
}

// stay is what keeps a workload from its move as its app was rolled back; nil when nothing
// does.
func (b Book) stay(w *Workload) *statev1.Stay {
	for _, s := range b.record.GetStays() {
		to := versionIn(w.Move.Set, s.GetSecret())
		if s.GetEnvironment() == w.Environment && s.GetWorkload() == w.Who.Workload && to != 0 && to <= s.GetVersion() &&
			(s.GetOn() == 0 || s.GetOn() == versionIn(w.Pins, s.GetSecret())) {
			return s
		}
	}
	return nil
}

func stayText(s *statev1.Stay, to uint32) string {
	return fmt.Sprintf("%s version %d: %s; it stays where it is until there is a newer version, or purser restart --secrets -E %s %s",
		s.GetSecret(), to, s.GetReason(), s.GetEnvironment(), s.GetWorkload())
}

// withStays takes verdicts for stays that are some: a book of before there were any has them
// as verdicts of nobody.
func (b Book) withStays() Book {
	stays := func(v *statev1.Verdict) bool { return v.GetTriedBy() == "" && v.GetWorkload() != "" }
	if !slices.ContainsFunc(b.record.GetVerdicts(), stays) {
		return b
	}
	next := b.change(func(r *statev1.Rotation) { r.Verdicts = slices.DeleteFunc(r.Verdicts, stays) })
	for _, v := range b.record.GetVerdicts() {
		if !stays(v) {
			continue
		}
		for _, p := range v.GetSet() {
			next = next.WithStay(&statev1.Stay{
				Environment: v.GetEnvironment(), Workload: v.GetWorkload(), Secret: p.GetSecret(), Version: p.GetVersion(), Reason: v.GetReason(), At: v.GetAt(),
			})
		}
	}
	return next
}
