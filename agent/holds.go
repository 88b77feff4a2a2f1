package agent

import (
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/purserd/purser/agent/rotate"
	"github.com/purserd/purser/inject/audit"
)

// HoldSecret keeps workloads and new launches off the versions of a secret from one on, the
// one after the newest for 0, and returns its number.
func (a *Agent) HoldSecret(ctx context.Context, environment, name string, from uint32) (uint32, error) {
	environment = orDev(environment)
	a.writing.Lock()
	defer a.writing.Unlock()
	info, err := a.secrets.Describe(environment, name)
	if err != nil {
		return 0, a.storeError(err)
	}
	if from == 0 {
		from = info.Versions[0].Version + 1
	}
	now := time.Now()
	if err := a.rotator.rewriteBook(func(b rotate.Book) rotate.Book { return b.WithHold(environment, name, from, now) }); err != nil {
		return 0, err
	}
	a.recordSecret(ctx, audit.Hold, environment, name, from)
	a.emit(normal, "SecretHeld", environment, name, "nobody moves to version %d and later before it is released", from)
	return from, nil
}

// ReleaseSecret ends a hold, and returns the version that a new launch gets from then on.
func (a *Agent) ReleaseSecret(ctx context.Context, environment, name string) (uint32, error) {
	environment = orDev(environment)
	a.writing.Lock()
	defer a.writing.Unlock()
	if _, err := a.secrets.Describe(environment, name); err != nil {
		return 0, a.storeError(err)
	}
	if a.book().Hold(environment, name) == nil {
		return a.latestOf(environment, name), nil
	}
	if err := a.rotator.rewriteBook(func(b rotate.Book) rotate.Book { return b.WithoutHold(environment, name) }); err != nil {
		return 0, err
	}
	now := a.latestOf(environment, name)
	a.recordSecret(ctx, audit.Release, environment, name, now)
	a.emit(normal, "SecretReleased", environment, name, "the latest version is %d", now)
	return now, nil
}

// RetrySecret has the versions of a secret be tried again that have failed, and returns them.
func (a *Agent) RetrySecret(ctx context.Context, environment, name string) ([]uint32, error) {
	environment = orDev(environment)
	a.writing.Lock()
	defer a.writing.Unlock()
	if _, err := a.secrets.Describe(environment, name); err != nil {
		return nil, a.storeError(err)
	}
	a.rotator.forgiveAll()
	_, versions := a.book().Acquit(environment, name)
	if len(versions) == 0 {
		return nil, nil
	}
	err := a.rotator.rewriteBook(func(b rotate.Book) rotate.Book {
		b, _ = b.Acquit(environment, name)
		return b
	})
	if err != nil {
		return nil, err
	}
	a.recordSecret(ctx, audit.Retry, environment, name, versions...)
	a.emit(normal, "SecretRetried", environment, name, "tried again: version %s", numbers(versions))
	return versions, nil
}

// latestOf is the latest version of a secret; 0 for none.
func (a *Agent) latestOf(environment, name string) uint32 {
	return a.book().Choose(environment, map[string][]uint32{name: a.secrets.Live(environment, name)})[name]
}

// recordSecret records what was done to a secret's versions.
func (a *Agent) recordSecret(ctx context.Context, action audit.Action, environment, name string, versions ...uint32) {
	a.audit.note(ctx, audit.Record{
		Action: action, Outcome: audit.Done, Environment: AuditName(environment),
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
