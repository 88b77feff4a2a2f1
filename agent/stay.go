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
// have been rolled back from. Any later version ends it. The caller holds writing.
func (a *Agent) stay(r rollout, plans []plan) error {
	var verdicts []*statev1.Verdict
	for _, p := range plans {
		for _, pin := range a.behind(p.record) {
			verdicts = append(verdicts, &statev1.Verdict{
				Environment: r.environment, App: r.app, Workload: p.record.GetId(), Set: []*purserv1.Pin{pin},
				Reason: "its app was rolled back from it (" + r.cause + ")", At: timestamppb.New(time.Now()),
			})
		}
	}
	if len(verdicts) == 0 {
		return nil
	}
	return a.rotator.rewriteBook(func(b rotate.Book) rotate.Book {
		b = b.Prune(a.exists)
		for _, v := range verdicts {
			b = b.WithVerdict(v)
		}
		return b
	})
}

// behind are the latest versions that a record's pins are earlier than.
func (a *Agent) behind(r *statev1.Workload) []*purserv1.Pin {
	chosen := a.latestFor(r.GetEnvironment(), r.GetSpec().GetSecrets()).chosen
	var later []*purserv1.Pin
	for _, ref := range r.GetSpec().GetSecrets() {
		to := chosen[ref.GetName()]
		if ref.GetVersion() == 0 && to > versionOf(r.GetPins(), ref.GetName()) {
			later = append(later, &purserv1.Pin{Secret: ref.GetName(), Version: to})
		}
	}
	return later
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
