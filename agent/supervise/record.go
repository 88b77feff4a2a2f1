package supervise

import (
	"cmp"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	statev1 "github.com/purserd/purser/api/purser/state/v1"
	purserv1 "github.com/purserd/purser/api/purser/v1"
)

// Record is the part of a status that survives the agent.
func (s Status) Record() *statev1.Status {
	return &statev1.Status{
		State:              string(s.State),
		Reason:             s.Reason,
		Since:              stamp(s.Since),
		Instances:          s.Instance.records(),
		Run:                s.Run,
		Attempts:           s.Attempts,
		Failures:           s.Failures,
		Restarts:           s.Restarts,
		NextTryAt:          stamp(s.NextTry),
		LastExit:           s.LastExit.Message(),
		ObservedGeneration: s.ObservedGeneration,
		PreviousInstance:   s.Previous,
		Kept:               s.Kept.record(),
	}
}

// record is the kept instance's part of it; nil for none.
func (s *Status) record() *statev1.Status {
	if s == nil {
		return nil
	}
	return s.Record()
}

// FromRecord is the status that an agent starts from. An instance that may
// still run is marked as unverified.
func FromRecord(r *statev1.Status) Status {
	s := Status{
		State:              State(r.GetState()),
		Reason:             r.GetReason(),
		Since:              moment(r.GetSince()),
		Previous:           r.GetPreviousInstance(),
		Run:                r.GetRun(),
		Attempts:           r.GetAttempts(),
		Failures:           r.GetFailures(),
		Restarts:           r.GetRestarts(),
		NextTry:            moment(r.GetNextTryAt()),
		LastExit:           exitFrom(r.GetLastExit()),
		ObservedGeneration: r.GetObservedGeneration(),
	}
	if s.State == "" {
		s.State = Pending
	}
	if all := r.GetInstances(); len(all) > 0 {
		s.Instance = instanceFrom(all[0])
		s.Instance.Ended = s.ended()
		s.Instance.Unverified = !s.Instance.Ended
	}
	if kept := r.GetKept(); len(kept.GetInstances()) > 0 {
		k := FromRecord(kept)
		s.Kept = &k
	}
	return s
}

func instanceFrom(r *statev1.Instance) *Instance {
	i := &Instance{
		ID:          r.GetId(),
		Revision:    NewRevision(r.GetGeneration(), r.GetSpec(), r.GetPins()),
		CreatedAt:   moment(r.GetCreatedAt()),
		StartedAt:   moment(r.GetStartedAt()),
		PID:         r.GetPid(),
		ImageDigest: r.GetImageDigest(),
		Boot:        r.GetBoot(),
		Addresses:   r.GetAddresses(),
		Promoted:    r.GetPromoted(),
		UpAt:        moment(r.GetUpAt()),
		Healthy:     r.GetHealthy(),
	}
	if e := r.GetEnding(); e != nil {
		i.Ending = &Ending{Cause: e.GetCause(), Reason: e.GetReason()}
	}
	return i
}

// ended works out what the record does not say: in every state but these, an
// instance is only there to be deleted.
func (s Status) ended() bool {
	switch s.State {
	case Pulling, Creating, Starting, Running, Ready, Stopping:
		return s.LastExit != nil && s.LastExit.Instance == s.Instance.ID
	}
	return true
}

// same says whether a record of a would tell a later agent all that b says. A
// deleted instance need not be recorded: deleting it again does nothing.
func same(a, b Status) bool {
	if b.Instance == nil && a.Instance != nil && a.Instance.Ended {
		a.Instance = nil
	}
	if b.Kept == nil && a.Kept != nil && a.Kept.Instance.Ended {
		a.Kept = nil
	}
	return proto.Equal(a.Record(), b.Record())
}

// sameKept says so of the kept instance.
func sameKept(a, b Status) bool { return proto.Equal(a.Kept.record(), b.Kept.record()) }

// records are the instance as the record has it, which has room for more than one.
func (i *Instance) records() []*statev1.Instance {
	if i == nil {
		return nil
	}
	r := &statev1.Instance{
		Id:          i.ID,
		Generation:  i.Revision.Generation,
		Spec:        i.Revision.Spec,
		Pins:        i.Revision.Pins,
		CreatedAt:   stamp(i.CreatedAt),
		StartedAt:   stamp(i.StartedAt),
		Pid:         i.PID,
		ImageDigest: i.ImageDigest,
		Boot:        i.Boot,
		Addresses:   i.Addresses,
		Promoted:    i.Promoted,
		UpAt:        stamp(i.UpAt),
		Healthy:     i.Healthy,
	}
	if e := i.Ending; e != nil {
		r.Ending = &statev1.Ending{Cause: e.Cause, Reason: e.Reason}
	}
	return []*statev1.Instance{r}
}

// Message is the exit as the API shows it; nil for none.
func (e *Exit) Message() *purserv1.Exit {
	if e == nil {
		return nil
	}
	return &purserv1.Exit{
		Code:       e.Code,
		Reason:     e.Reason,
		Cause:      e.Cause,
		StartedAt:  stamp(e.StartedAt),
		FinishedAt: stamp(e.FinishedAt),
		Instance:   e.Instance,
	}
}

func exitFrom(m *purserv1.Exit) *Exit {
	if m == nil {
		return nil
	}
	return &Exit{
		Code:       m.GetCode(),
		Reason:     m.GetReason(),
		Cause:      cmp.Or(m.GetCause(), Exited), // an earlier purser noted none
		StartedAt:  moment(m.GetStartedAt()),
		FinishedAt: moment(m.GetFinishedAt()),
		Instance:   m.GetInstance(),
	}
}

// stamp and moment map Go's zero time to an absent timestamp and back.
func stamp(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}

func moment(t *timestamppb.Timestamp) time.Time {
	if t == nil {
		return time.Time{}
	}
	return t.AsTime()
}
