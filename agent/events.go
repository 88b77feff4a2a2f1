package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/purserd/purser/agent/feed"
	"github.com/purserd/purser/agent/supervise"
	purserv1 "github.com/purserd/purser/api/purser/v1"
	"github.com/purserd/purser/metrics"
)

// Severities of events.
const (
	normal  = "normal"
	warning = "warning"
)

// emit tells of something that happened, to who follows the events and in the
// agent's own log.
func (a *Agent) emit(severity, kind, environment, subject, format string, args ...any) {
	// A name of a file may be anything, and what is no text cannot be sent.
	text := strings.ToValidUTF8(fmt.Sprintf(format, args...), "\uFFFD")
	a.events.Append(func(n uint64) *purserv1.Event {
		return &purserv1.Event{
			Sequence: n, Time: timestamppb.Now(), Severity: severity, Type: kind,
			Environment: environment, Subject: subject, Message: text,
		}
	})
	log := a.log.Info
	if severity == warning {
		log = a.log.Warn
	}
	log(text, "event", kind, "environment", environment, "subject", subject)
}

// emit tells of something that happened to a workload.
func (w *workload) emit(severity, kind, format string, args ...any) {
	w.agent.emit(severity, kind, w.environment(), w.id(), format, args...)
}

// Change is a workload that is now different, or gone.
type Change struct {
	Type     string // updated or removed
	Workload *purserv1.Workload
}

// changed tells of every change of a workload's view; see supervise.New for
// what it may do.
func (w *workload) changed(old, now supervise.View) {
	if now.Gone {
		return
	}
	w.publish(now)
	before, after := w.messageOf(old), w.messageOf(now)
	if !proto.Equal(before, after) || old.Desired != now.Desired {
		w.agent.changes.Append(func(uint64) Change { return Change{"updated", after} })
	}
	if e := now.Status.LastExit; e != nil && old.Status.LastExit != e {
		w.ended(e)
	}
	if old.Status.State != now.Status.State {
		w.transition(old.Status, now.Status)
	}
	w.rolled(old.Status, now.Status)
	w.agent.rotator.hear(w.record())
	w.outdate(old.Status, now.Status)
}

// introduce tells of a workload that is new, in the state in which it begins.
func (w *workload) introduce() {
	v, _ := w.supervisor.View()
	w.agent.changes.Append(func(uint64) Change { return Change{"updated", w.messageOf(v)} })
	w.transition(supervise.Status{}, v.Status)
}

// farewell tells of a workload whose record has been deleted.
func (w *workload) farewell() {
	last := w.message()
	w.agent.changes.Append(func(uint64) Change { return Change{"removed", last} })
	w.emit(normal, "Removed", "removed")
}

// adopted tells of a container that was found running.
func (w *workload) adopted(pid uint32) {
	w.agent.metrics.Adopted(metrics.Adopted)
	w.emit(normal, "Adopted", "found running as process %d, as an earlier agent had left it", pid)
}

// transition tells of a change of state.
func (w *workload) transition(old, now supervise.Status) {
	severity, kind, text := transitionText(old.State, now)
	// A pull is part of a start, which tells itself that it is done.
	if kind == "" || old.State == supervise.Pulling && now.State == supervise.Creating {
		return
	}
	w.emit(severity, kind, "%s", text)
	if now.State == supervise.Creating && (now.LastExit != nil || now.Kept != nil && old.State != supervise.BackingOff) {
		w.agent.metrics.Restarted(restartReason(old))
	}
}

// ended tells of an exit that is no affair of the workload's alone.
func (w *workload) ended(e *supervise.Exit) {
	switch e.Cause {
	case supervise.OOMKilled:
		w.emit(warning, "OOMKilled", "container %s: %s", e.Instance, e.Reason)
	case supervise.Lost:
		w.emit(warning, "ContainerLost", "container %s: %s", e.Instance, e.Reason)
	}
}

func transitionText(old supervise.State, s supervise.Status) (severity, kind, text string) {
	switch s.State {
	case supervise.Pending:
		return normal, "Pending", s.Reason
	case supervise.Creating:
		return normal, "Creating", "creating container " + s.Instance.ID
	case supervise.Pulling:
		return normal, "Pulling", s.Reason
	case supervise.Starting:
		return normal, "Started", runsAs(s) + "; its startup probe has not passed yet"
	case supervise.Running:
		return runningText(old, s)
	case supervise.Ready:
		return normal, "Ready", "its ready probe passes"
	case supervise.Stopping:
		return normal, "Stopping", s.Reason
	case supervise.BackingOff:
		pause := time.Until(s.NextTry).Round(100 * time.Millisecond)
		return warning, "BackingOff", fmt.Sprintf("%s; trying again in %s", s.Reason, pause)
	case supervise.Stopped:
		return normal, "Stopped", s.Reason
	case supervise.Completed:
		return normal, "Completed", s.Reason
	case supervise.Failed:
		return warning, "Failed", s.Reason
	}
	return "", "", ""
}

// runningText tells of a workload that has come to run, from another state.
func runningText(old supervise.State, s supervise.Status) (severity, kind, text string) {
	switch old {
	case supervise.Starting:
		return normal, "StartedUp", "its startup probe has passed"
	case supervise.Ready:
		return warning, "NotReady", s.Reason
	default:
		return normal, "Started", runsAs(s)
	}
}

func runsAs(s supervise.Status) string {
	return fmt.Sprintf("container %s runs as process %d", s.Instance.ID, s.Instance.PID)
}

// Events sends the events after a sequence number (0: all that are kept) that a request is
// for. With follow it goes on until ctx ends.
func (a *Agent) Events(ctx context.Context, r *purserv1.EventsRequest, send func(*purserv1.Event) error) error {
	after := r.GetAfter()
	if after == 0 {
		after = a.events.Oldest()
	}
	return stream(ctx, a.events, after, r.GetFollow(), func(_ uint64, e *purserv1.Event) error {
		if !asked(r, e) {
			return nil
		}
		return send(e)
	})
}

// asked says whether a request is for an event: of its environment (empty: all, and those of
// none), its subject or app, and its severity.
func asked(r *purserv1.EventsRequest, e *purserv1.Event) bool {
	return slices.Contains([]string{"", e.GetEnvironment()}, r.GetEnvironment()) &&
		slices.Contains([]string{"", e.GetSeverity()}, r.GetSeverity()) &&
		(slices.Contains([]string{"", e.GetSubject()}, r.GetSubject()) || strings.HasPrefix(e.GetSubject(), r.GetSubject()+"/"))
}

// Watch sends the present state of each workload and then every change, or
// only the changes after a sequence number.
func (a *Agent) Watch(ctx context.Context, environment string, after uint64, send func(*purserv1.WatchResponse) error) error {
	if after == 0 {
		after = a.changes.Last()
		for _, w := range a.List(environment, "") {
			if err := send(&purserv1.WatchResponse{Sequence: after, Type: "updated", Workload: w}); err != nil {
				return err
			}
		}
		if err := send(&purserv1.WatchResponse{Sequence: after, Type: "synced"}); err != nil {
			return err
		}
	}
	return stream(ctx, a.changes, after, true, func(n uint64, c Change) error {
		if environment != "" && environment != c.Workload.GetEnvironment() {
			return nil
		}
		return send(&purserv1.WatchResponse{Sequence: n, Type: c.Type, Workload: c.Workload})
	})
}

// stream sends what is in a log, and what comes.
func stream[T any](ctx context.Context, log *feed.Log[T], after uint64, follow bool, send func(uint64, T) error) error {
	for {
		entries, more, err := log.After(after)
		if errors.Is(err, feed.ErrTooOld) {
			return &Refusal{Reason: TooOld, Err: fmt.Errorf("sequence %d is not kept any more: list again, and go on from there", after)}
		}
		for _, e := range entries {
			if err := send(e.Sequence, e.Value); err != nil {
				return err
			}
			after = e.Sequence
		}
		if !follow {
			return nil
		}
		select {
		case <-more:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
