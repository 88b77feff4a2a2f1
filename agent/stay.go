package agent

import (
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/purserd/purser/agent/rotate"
	statev1 "github.com/purserd/purser/api/purser/state/v1"
	purserv1 "github.com/purserd/purser/api/purser/v1"
)

// stay keeps the functions of an app that is rolled back on the versions of secrets that
// they go back to: without it they would move to the latest at once, which is what they may
// have been rolled back from. It returns the book that says so, to be persisted with the
// plans; nil when there is nothing to say. The caller holds writing.
func (a *Agent) stay(r rollout, plans []plan) *rotate.Book {
	var stays []*statev1.Stay
	for _, p := range plans {
		for _, s := range a.behind(p.record) {
			s.Reason, s.At = "its app was rolled back from it ("+r.cause+")", timestamppb.New(time.Now())
			stays = append(stays, s)
		}
	}
	if len(stays) == 0 {
		return nil
	}
	book := a.book().Prune(a.exists)
	for _, s := range stays {
		book = book.WithStay(s)
	}
	return &book
}

// behind are the secrets of a record of which there are newer versions than its pins, be
// they given out now or not.
func (a *Agent) behind(r *statev1.Workload) []*statev1.Stay {
	var all []*statev1.Stay
	for _, ref := range r.GetSpec().GetSecrets() {
		on, live := versionOf(r.GetPins(), ref.GetName()), a.secrets.Live(r.GetEnvironment(), ref.GetName())
		if ref.GetVersion() == 0 && len(live) > 0 && live[0] > on {
			all = append(all, &statev1.Stay{Environment: r.GetEnvironment(), Workload: r.GetId(), Secret: ref.GetName(), Version: live[0], On: on})
		}
	}
	return all
}

// versionOf is the version that pins have of a secret; 0 for none.
func versionOf(pins []*purserv1.Pin, secret string) uint32 {
	for _, p := range pins {
		if p.GetSecret() == secret {
			return p.GetVersion()
		}
	}
	return 0
}
