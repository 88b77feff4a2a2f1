package agent

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/purserd/purser/agent/rotate"
	statev1 "github.com/purserd/purser/api/purser/state/v1"
	purserv1 "github.com/purserd/purser/api/purser/v1"
	"github.com/purserd/purser/inject/audit"
)

// HoldSecret keeps workloads and new launches off the versions of a secret from one on, the
// one after the newest for 0. It never releases any: what is held stays held.
func (a *Agent) HoldSecret(ctx context.Context, r *purserv1.HoldRequest) (*purserv1.HoldResponse, error) {
	environment, name, from := orDev(r.GetEnvironment()), r.GetName(), r.GetFrom()
	a.writing.Lock()
	defer a.writing.Unlock()
	info, err := a.secrets.Describe(environment, name)
	if err != nil {
		return nil, a.storeError(err)
	}
	if from == 0 {
		from = info.Versions[0].Version + 1
	}
	was := a.book().Hold(environment, name).GetFrom()
	if a.book().Held(environment, name, from) {
		a.recordSecret(ctx, audit.Hold, audit.Unchanged, environment, name, was)
		return &purserv1.HoldResponse{From: was, WasFrom: was}, nil
	}
	hold := &statev1.Hold{Environment: environment, Secret: name, From: from, At: timestamppb.New(time.Now()), By: callerText(ctx)}
	if err := a.rotator.rewriteBook(func(b rotate.Book) rotate.Book { return b.WithHold(hold) }); err != nil {
		return nil, err
	}
	a.recordSecret(ctx, audit.Hold, audit.Done, environment, name, from)
	a.emit(normal, "SecretHeld", environment, name, "nobody moves to version %d and later before it is released", from)
	return &purserv1.HoldResponse{From: from, WasFrom: was}, nil
}

// callerText names who made the call that a context is of; empty when that is not known.
func callerText(ctx context.Context) string {
	if c := CallOf(ctx); c != nil && c.Caller != nil {
		return fmt.Sprintf("uid %d", c.Caller.UID)
	}
	return ""
}

// ReleaseSecret ends a hold.
func (a *Agent) ReleaseSecret(ctx context.Context, r *purserv1.ReleaseRequest) (*purserv1.ReleaseResponse, error) {
	environment, name := orDev(r.GetEnvironment()), r.GetName()
	a.writing.Lock()
	defer a.writing.Unlock()
	info, err := a.secrets.Describe(environment, name)
	if err != nil {
		return nil, a.storeError(err)
	}
	was := a.book().Hold(environment, name)
	if was == nil {
		return &purserv1.ReleaseResponse{Version: a.latestOf(environment, name), Withheld: a.withheld(info)}, nil
	}
	if err := a.rotator.rewriteBook(func(b rotate.Book) rotate.Book { return b.WithoutHold(environment, name) }); err != nil {
		return nil, err
	}
	now := a.latestOf(environment, name)
	a.recordSecret(ctx, audit.Release, audit.Done, environment, name, now)
	a.emit(normal, "SecretReleased", environment, name, "the latest version is %d", now)
	return &purserv1.ReleaseResponse{Version: now, WasFrom: was.GetFrom(), Withheld: a.withheld(info)}, nil
}

// RetrySecret has the versions of a secret be tried again that have failed.
func (a *Agent) RetrySecret(ctx context.Context, r *purserv1.RetryRequest) (*purserv1.RetryResponse, error) {
	environment, name := orDev(r.GetEnvironment()), r.GetName()
	a.writing.Lock()
	defer a.writing.Unlock()
	if _, err := a.secrets.Describe(environment, name); err != nil {
		return nil, a.storeError(err)
	}
	a.rotator.forgiveAll()
	_, freed := a.book().Acquit(environment, name)
	if len(freed) == 0 {
		return &purserv1.RetryResponse{Version: a.latestOf(environment, name)}, nil
	}
	err := a.rotator.rewriteBook(func(b rotate.Book) rotate.Book {
		b, _ = b.Acquit(environment, name)
		return b
	})
	if err != nil {
		return nil, err
	}
	latest := a.latestOf(environment, name)
	a.recordSecret(ctx, audit.Retry, audit.Done, environment, name, freed...)
	a.emit(normal, "SecretRetried", environment, name, "quarantined no more: version %s; the latest version is %d", numbers(freed), latest)
	return &purserv1.RetryResponse{Versions: a.triedAgain(environment, name, latest, freed), Freed: freed, Version: latest}, nil
}

// triedAgain is the latest version where it was freed just now and somebody is to move to
// it: an earlier one is not tried.
func (a *Agent) triedAgain(environment, name string, latest uint32, freed []uint32) []uint32 {
	behind := slices.ContainsFunc(a.list(environment, ""), func(w *workload) bool {
		on := versionOf(w.record().GetPins(), name)
		return on != 0 && on < latest
	})
	if !behind || !slices.Contains(freed, latest) {
		return nil
	}
	return []uint32{latest}
}

// latestOf is the latest version of a secret; 0 for none.
func (a *Agent) latestOf(environment, name string) uint32 {
	return a.book().Choose(environment, map[string][]uint32{name: a.secrets.Live(environment, name)})[name]
}

// recordSecret records what was done to a secret's versions.
func (a *Agent) recordSecret(ctx context.Context, action audit.Action, outcome audit.Outcome, environment, name string, versions ...uint32) {
	a.audit.note(ctx, audit.Record{
		Action: action, Outcome: outcome, Environment: AuditName(environment),
		Secrets: []audit.Secret{{Name: AuditName(name), Versions: versions}},
	})
}

// numbers are versions in words.
func numbers(versions []uint32) string {
	var parts []string
	for _, v := range versions {
		parts = append(parts, strconv.FormatUint(uint64(v), 10))
	}
	return strings.Join(parts, ", ")
}
