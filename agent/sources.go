package agent

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/purserd/purser/inject"
	"github.com/purserd/purser/inject/audit"
	"github.com/purserd/purser/inject/dir"
	"github.com/purserd/purser/inject/mirror"
	"github.com/purserd/purser/inject/source"
	"github.com/purserd/purser/inject/store"
	"github.com/purserd/purser/metrics"
)

// identityCredential is the name of the file in which systemd hands over the node's
// identity: the one file that must never become a secret.
const identityCredential = "purser-identity"

// origin is a source of secrets that is configured; what it has is kept in the store. It
// is the target of its mirror.
type origin struct {
	agent *Agent
	name  string
	// place in words is where its secrets are changed.
	place  string
	mirror *mirror.Mirror

	mu sync.Mutex
	// up: it can be read. looked is when all of it was read the last time.
	up     bool
	looked time.Time
	// failed: that it is down was told, and not yet that it is up again.
	failed bool
	// troubles are why secrets are not as the source has them.
	troubles map[source.Name]error
}

var _ mirror.Target = (*origin)(nil)

// openSources makes the configured sources, and looks at none.
func (a *Agent) openSources() {
	a.origins = map[string]*origin{}
	for name, c := range a.cfg.Sources {
		o := &origin{agent: a, name: name, place: c.Path, troubles: map[source.Name]error{}}
		from := dir.New(dir.Options{
			Path: c.Path, Environment: c.Environment, Secret: c.Secret, Prefix: c.Prefix,
			Rename: c.Rename, Ignore: []string{identityCredential}, Polling: o.polling,
		})
		o.mirror = mirror.New(mirror.Options{Source: from, Target: o, Poll: time.Duration(c.Poll), Watching: o.watchEnded})
		a.origins[name] = o
	}
}

// sourcePaths are where sources have secrets, which no spec may mount: its environment may
// be another.
func (a *Agent) sourcePaths() []string {
	var paths []string
	for _, c := range a.cfg.Sources {
		paths = append(paths, c.Path)
	}
	return paths
}

// runSources mirrors the sources until ctx ends.
func (a *Agent) runSources(ctx context.Context) {
	var running sync.WaitGroup
	for _, o := range a.origins {
		running.Go(func() { o.mirror.Run(ctx) })
	}
	running.Wait()
}

// unowned says whether a source that secrets came from is not configured any more.
func (a *Agent) unowned(source string) bool { return source != "" && a.origins[source] == nil }

// Known implements [mirror.Target].
func (o *origin) Known() []source.Name {
	var names []source.Name
	for _, info := range o.agent.secrets.List("") {
		if info.Source == o.name && !info.Deleted {
			names = append(names, source.Name{Environment: info.Environment, Secret: info.Name})
		}
	}
	return names
}

// Put implements [mirror.Target].
func (o *origin) Put(ctx context.Context, name source.Name, data map[string]inject.Value) error {
	a := o.agent
	options := store.PutOptions{Data: data, Replace: true, Source: o.name, TakeFrom: a.unowned}
	preview, err := a.secrets.PreviewPut(ctx, name.Environment, name.Secret, options)
	if err == nil && !preview.Changed {
		a.secrets.Settle(name.Environment, name.Secret, o.name)
		return nil
	}
	if err != nil {
		return o.refused(name, err)
	}
	changing, err := a.audit.begin(ctx, audit.Record{
		Action: audit.Set, Environment: AuditName(name.Environment), Why: "from source " + o.name,
		Secrets: []audit.Secret{named(name.Secret, slices.Sorted(maps.Keys(data)), nil)},
	})
	if err != nil {
		return err
	}
	a.writing.Lock()
	defer a.writing.Unlock()
	result, err := a.put(ctx, name.Environment, name.Secret, options)
	changing.end(err, audit.Secret{Name: AuditName(name.Secret), Version: result.Version, Keys: result.Keys})
	if err != nil {
		return o.refused(name, err)
	}
	return nil
}

// refused notes a conflict, and returns the error in words.
func (o *origin) refused(name source.Name, err error) error {
	var owned *store.OwnerError
	if errors.As(err, &owned) {
		o.agent.secrets.Contest(name.Environment, name.Secret, o.name)
		return &store.ConflictError{Environment: name.Environment, Name: name.Secret, Owner: owned.Owner, Others: []string{o.name}}
	}
	var invalid *store.InvalidError
	if errors.As(err, &invalid) {
		return fmt.Errorf("%s: %w", name, err)
	}
	return err
}

// Gone implements [mirror.Target].
func (o *origin) Gone(ctx context.Context, name source.Name) error {
	a := o.agent
	a.secrets.Settle(name.Environment, name.Secret, o.name)
	if !slices.Contains(o.Known(), name) {
		return nil
	}
	changing, err := a.audit.begin(ctx, audit.Record{
		Action: audit.Delete, Environment: AuditName(name.Environment), Why: "gone from source " + o.name,
		Secrets: []audit.Secret{{Name: AuditName(name.Secret)}},
	})
	if err != nil {
		return err
	}
	a.writing.Lock()
	defer a.writing.Unlock()
	deleted, err := a.deleteSecret(name.Environment, name.Secret, "gone from source "+o.name, false)
	changing.end(err, audit.Secret{Name: AuditName(name.Secret), Versions: deleted.GetKept()})
	o.handOn(name)
	return err
}

// handOn has the other sources look at a secret that this one has no more.
func (o *origin) handOn(name source.Name) {
	for _, other := range o.agent.origins {
		if other != o {
			other.mirror.Look(name)
		}
	}
}

// Up implements [mirror.Target]. That a source is there when the agent starts goes without
// saying.
func (o *origin) Up() {
	o.mu.Lock()
	again := o.failed
	o.up, o.failed = true, false
	o.mu.Unlock()
	if again {
		o.agent.emit(normal, "SecretSourceUp", "", o.name, "can be read again")
	}
}

// Down implements [mirror.Target].
func (o *origin) Down(why error) {
	o.mu.Lock()
	o.up, o.failed = false, true
	looked := o.looked
	o.mu.Unlock()
	text := "its secrets stay as they were last read"
	if !looked.IsZero() {
		text += ", at " + looked.UTC().Format(time.RFC3339)
	}
	o.agent.emit(warning, "SecretSourceDown", "", o.name, "%s; %s", why, text)
}

// Looked implements [mirror.Target].
func (o *origin) Looked(at time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.looked = at
}

// Trouble implements [mirror.Target].
func (o *origin) Trouble(name source.Name, why error) {
	o.mu.Lock()
	o.troubles[name] = why
	if why == nil {
		delete(o.troubles, name)
	}
	o.mu.Unlock()
	severity, kind, text := warning, "SecretNotTaken", fmt.Sprintf("source %s: %v", o.name, why)
	switch {
	case errors.As(why, new(*store.ConflictError)):
		kind, text = "SecretConflict", why.Error()+"; what runs goes on, and nothing else gets it"
	case why == nil:
		severity, kind, text = normal, "SecretTaken", fmt.Sprintf("source %s: what was wrong is mended", o.name)
	}
	o.agent.emit(severity, kind, AuditName(name.Environment), AuditName(name.Secret), "%s", text)
}

// notTaken says why sources have a secret that is not taken from them; empty when none does.
// A conflict is told in another place.
func (a *Agent) notTaken(environment, secret string) string {
	var all []string
	for _, name := range slices.Sorted(maps.Keys(a.origins)) {
		o := a.origins[name]
		o.mu.Lock()
		why := o.troubles[source.Name{Environment: environment, Secret: secret}]
		o.mu.Unlock()
		if why != nil && !errors.As(why, new(*store.ConflictError)) {
			all = append(all, fmt.Sprintf("source %s: %v", name, why))
		}
	}
	return strings.Join(all, "; ")
}

// polling tells that a source's changes are found late.
func (o *origin) polling(why error) {
	o.agent.emit(warning, "SecretSourcePolled", "", o.name, "changes are looked for every few seconds, as nothing tells of them: %s", why)
}

func (o *origin) watchEnded(why error) {
	o.agent.log.Warn("a source of secrets is not watched for a moment", "source", o.name, "error", why)
}

// lookAgain has the sources look at a secret, which one of them may now have for itself.
func (a *Agent) lookAgain(environment, name string) {
	for _, o := range a.origins {
		o.mirror.Look(source.Name{Environment: environment, Secret: name})
	}
}

// mayDelete refuses to delete what its source has: it would come again.
func (a *Agent) mayDelete(info store.Info) error {
	o := a.origins[info.Source]
	if o == nil || info.Deleted || !o.measure().Up {
		return nil
	}
	return refuse(Precondition, "secret %s in environment %s comes from source %s: remove it there, in %s, and it is deleted here", info.Name, info.Environment, o.name, o.place)
}

// ownerError says where a secret is to be changed instead.
func (a *Agent) ownerError(e *store.OwnerError) error {
	o := a.origins[e.Owner]
	if o == nil {
		return refuse(Precondition, "%w; that is not configured any more: set the secret anew to take it over", e)
	}
	return refuse(Precondition, "secret %s in environment %s comes from source %s: change it there, in %s", e.Name, e.Environment, o.name, o.place)
}

// measureSources are the sources in the order of their names.
func (a *Agent) measureSources() []metrics.SecretSource {
	var all []metrics.SecretSource
	for _, name := range slices.Sorted(maps.Keys(a.origins)) {
		all = append(all, a.origins[name].measure())
	}
	return all
}

func (o *origin) measure() metrics.SecretSource {
	o.mu.Lock()
	defer o.mu.Unlock()
	return metrics.SecretSource{Name: o.name, Up: o.up, LastSuccess: o.looked, Troubles: len(o.troubles)}
}

// fromSource says in an event where a version comes from.
func fromSource(name string) string {
	if name == "" {
		return ""
	}
	return ", from source " + name
}
