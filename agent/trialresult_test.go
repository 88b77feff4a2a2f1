package agent

import (
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/purserd/purser/agent/rotate"
	"github.com/purserd/purser/agent/supervise"
	statev1 "github.com/purserd/purser/api/purser/state/v1"
	purserv1 "github.com/purserd/purser/api/purser/v1"
)

// refreshed is a survey of a workload whose files were replaced, the instance of which
// became ready before that.
func refreshed(now time.Time, change ...func(*survey, *subject)) (*survey, subject) {
	r := made(1, 1, 1)
	r.Spec.Probes = &purserv1.Probes{Ready: &purserv1.Probe{
		Exec: &purserv1.ExecProbe{Command: []string{"true"}}, Period: proto.String("1s"), Timeout: proto.String("1s"), Failures: proto.Uint32(3),
	}}
	r.Trial = &statev1.Trial{Mode: rotate.ModeRefresh, Instance: "i", BeganAt: timestamppb.New(now)}
	i := &supervise.Instance{ID: "i", Revision: supervise.NewRevision(1, r.GetSpec(), nil), StartedAt: now.Add(-time.Hour), UpAt: now.Add(-time.Hour)}
	sub := subject{workload: &workload{key: "k"}, record: r}
	sub.view = supervise.View{Desired: desired(r), Status: supervise.Status{State: supervise.Ready, Run: 1, Since: now.Add(-time.Hour), Instance: i}}
	s := &survey{now: now, deliveries: map[string]delivery{}}
	for _, f := range change {
		f(s, &sub)
	}
	return s, sub
}

// deliveredBefore has the files be there for a while, as this agent knows.
func deliveredBefore(d time.Duration) func(*survey, *subject) {
	return func(s *survey, sub *subject) {
		s.deliveries["k"] = delivery{at: s.now.Add(-d)}
		sub.record.Trial.DeliveredAt = timestamppb.New(s.now)
	}
}

// adoptedBefore has the files be replaced at a time by an earlier agent, and this one look
// for a while.
func adoptedBefore(d time.Duration, delivered time.Duration) func(*survey, *subject) {
	return func(s *survey, sub *subject) {
		sub.record.Trial.DeliveredAt = timestamppb.New(s.now.Add(-delivered))
		sub.view.Status.Instance.AdoptedAt = s.now.Add(-d)
	}
}

func endedBefore(_ *survey, sub *subject) { sub.view.Status.Instance.Ended = true }

func notReady(_ *survey, sub *subject) { sub.view.Status.State = supervise.Running }

// Of an instance that goes on with other files it counts how it does from then on, as far
// as its probe has had the time to tell and this agent has seen it, whatever the clock was
// when the files came.
func TestJudgingReplacedFiles(t *testing.T) {
	const day = 24 * time.Hour
	for name, tc := range map[string]struct {
		change []func(*survey, *subject)
		want   rotate.Result
		next   time.Duration
	}{
		"its instance has ended before":           {so(endedBefore), rotate.Lost, 0},
		"just delivered":                          {so(deliveredBefore(0)), rotate.UnderWay, 4 * time.Second},
		"the probe may not have noticed":          {so(deliveredBefore(3 * time.Second)), rotate.UnderWay, time.Second},
		"the probe has noticed nothing":           {so(deliveredBefore(4 * time.Second)), rotate.Well, 0},
		"not ready":                               {so(deliveredBefore(4*time.Second), notReady), rotate.UnderWay, 56 * time.Second},
		"not ready in time":                       {so(deliveredBefore(60*time.Second), notReady), rotate.Failed, 0},
		"an agent looks that has just come":       {so(adoptedBefore(0, time.Hour)), rotate.UnderWay, 4 * time.Second},
		"it finds it not ready":                   {so(adoptedBefore(0, time.Hour), notReady), rotate.UnderWay, time.Minute},
		"the clock was put back":                  {so(adoptedBefore(4*time.Second, -day)), rotate.Well, 0},
		"the clock was put back, it is not ready": {so(adoptedBefore(time.Minute, -day), notReady), rotate.Failed, 0},
		"the clock was put forward":               {so(adoptedBefore(time.Second, day)), rotate.UnderWay, 3 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			now := time.Now()
			s, sub := refreshed(now, tc.change...)
			got := &rotate.Trial{Trial: sub.record.GetTrial()}
			s.judgeFiles(sub, got)
			if got.Result != tc.want || tc.want == rotate.UnderWay && !got.Next.Equal(now.Add(tc.next)) {
				t.Errorf("got %v, again in %v: %s; want %v, again in %v", got.Result, got.Next.Sub(now), got.Reason, tc.want, tc.next)
			}
		})
	}
}

func so(f ...func(*survey, *subject)) []func(*survey, *subject) { return f }
