package agent

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/purserd/purser/api/launchspec"
	purserv1 "github.com/purserd/purser/api/purser/v1"
	"github.com/purserd/purser/inject"
	"github.com/purserd/purser/inject/audit"
	"github.com/purserd/purser/inject/store"
)

// PutSecret writes a new version of a secret. It overwrites the request's values.
func (a *Agent) PutSecret(ctx context.Context, request *purserv1.PutRequest) (*purserv1.PutResponse, error) {
	environment := orDev(request.GetEnvironment())
	options := store.PutOptions{Data: map[string]inject.Value{}, Remove: request.GetRemove(), Replace: request.GetReplace(), TakeFrom: a.unowned}
	for key, value := range request.GetData() {
		options.Data[key] = inject.NewValue(value)
		clear(value)
	}
	if err := a.refusal(a.secrets.CheckPut(ctx, environment, request.GetName(), options)); err != nil {
		return nil, err
	}
	changing, err := a.audit.begin(ctx, audit.Record{
		Action: audit.Set, Environment: AuditName(environment),
		Secrets: []audit.Secret{named(request.GetName(), slices.Sorted(maps.Keys(options.Data)), request.GetRemove())},
	})
	if err != nil {
		return nil, err
	}
	a.writing.Lock()
	defer a.writing.Unlock()
	note, fresh := a.noteOn(environment, request.GetName(), request.GetReplace()), a.newEnvironment(environment, request.GetName())
	result, err := a.put(ctx, environment, request.GetName(), options)
	if err == nil && request.GetNow() {
		err = a.hurry(environment, request.GetName(), result.Version)
	}
	secret := audit.Secret{Name: AuditName(request.GetName()), Version: result.Version, Keys: result.Keys}
	if err == nil && !result.Changed {
		changing.unchanged(secret)
	} else {
		changing.end(err, secret)
	}
	if err != nil {
		return nil, err
	}
	return &purserv1.PutResponse{Version: result.Version, Changed: result.Changed, Keys: result.Keys, Note: note, NewEnvironment: fresh}, nil
}

// put writes a version and tells of it. The caller holds writing.
func (a *Agent) put(ctx context.Context, environment, name string, options store.PutOptions) (store.PutResult, error) {
	result, err := a.secrets.Put(ctx, environment, name, options)
	if err != nil {
		return result, a.storeError(err)
	}
	if result.Changed {
		a.emit(normal, "SecretSet", environment, name, "version %d, keys %s%s", result.Version, strings.Join(result.Keys, ", "), fromSource(options.Source))
		a.newVersion(environment, name)
	}
	return result, nil
}

// DeleteSecret ends a secret. Versions that workloads are pinned to are kept
// unless destroy is set. It returns these versions, and the workloads.
func (a *Agent) DeleteSecret(ctx context.Context, environment, name string, destroy bool) (*purserv1.DeleteResponse, error) {
	environment = orDev(environment)
	info, err := a.secrets.Describe(environment, name)
	if err != nil {
		return nil, a.storeError(err)
	}
	if err := a.mayDelete(info); err != nil {
		return nil, err
	}
	r := audit.Record{Action: audit.Delete, Environment: AuditName(environment), Secrets: []audit.Secret{{Name: AuditName(name)}}}
	if destroy {
		r.Why = "with the versions in use"
	}
	changing, err := a.audit.begin(ctx, r)
	if err != nil {
		return nil, err
	}
	a.writing.Lock()
	defer a.writing.Unlock()
	deleted, err := a.deleteSecret(environment, name, "deleted", destroy)
	changing.end(err, audit.Secret{Name: AuditName(name), Versions: deleted.GetKept()})
	a.lookAgain(environment, name)
	return deleted, err
}

// deleteSecret deletes a secret and tells of it, and how. The caller holds writing.
func (a *Agent) deleteSecret(environment, name, how string, destroy bool) (*purserv1.DeleteResponse, error) {
	kept, err := a.secrets.Delete(environment, name, a.spared(environment, name), destroy)
	if err != nil {
		return nil, a.storeError(err)
	}
	if err := a.noteSequence(); err != nil {
		return nil, err
	}
	severity, text, users := normal, how, a.users(environment, name, 0)
	switch {
	case len(users) > 0 && destroy:
		severity, text = warning, "destroyed; cannot be started again: "+strings.Join(users, ", ")
	case len(users) > 0:
		severity, text = warning, how+" while in use by "+strings.Join(users, ", ")
	}
	a.emit(severity, "SecretDeleted", environment, name, "%s", text)
	return &purserv1.DeleteResponse{Kept: kept, Users: users}, nil
}

// spared are the versions that outlast a secret's deletion: those that workloads run
// on, and all of them as long as a container may be there that is not known yet. The
// caller holds writing.
func (a *Agent) spared(environment, name string) []uint32 {
	if a.gate.isOpen() {
		return a.pinned(environment, name)
	}
	a.toPrune(environment, name)
	var all []uint32
	if info, err := a.secrets.Describe(environment, name); err == nil {
		for _, v := range info.Versions {
			all = append(all, v.Version)
		}
	}
	return all
}

// Secrets lists the secrets of an environment; of all when it is empty.
func (a *Agent) Secrets(environment string) []*purserv1.Secret {
	var all []*purserv1.Secret
	for _, info := range a.secrets.List(environment) {
		all = append(all, a.secretMessage(info))
	}
	return all
}

// DescribeSecret tells all about a secret but its values.
func (a *Agent) DescribeSecret(environment, name string) (*purserv1.DescribeResponse, error) {
	info, err := a.secrets.Describe(orDev(environment), name)
	if why := a.notTaken(orDev(environment), name); err != nil && why != "" {
		return nil, refuse(NotFound, "%w: what there is of it is not taken: %s", err, why)
	}
	if err != nil {
		return nil, a.storeError(err)
	}
	response := &purserv1.DescribeResponse{Secret: a.secretMessage(info)}
	for _, v := range info.Versions {
		users := a.users(info.Environment, info.Name, v.Version)
		response.Versions = append(response.Versions, &purserv1.SecretVersion{
			Version:   v.Version,
			CreatedAt: timestamppb.New(v.Created),
			Keys:      v.Keys,
			Users:     users,
			CopyOf:    v.CopyOf,
		})
		last := response.Versions[len(response.Versions)-1]
		last.State, last.Reason = a.versionState(info, v, users)
	}
	response.Users = a.secretUsers(info.Environment, info.Name)
	return response, nil
}

func (a *Agent) secretMessage(info store.Info) *purserv1.Secret {
	m := &purserv1.Secret{
		Environment: info.Environment,
		Name:        info.Name,
		Version:     a.latestOf(info.Environment, info.Name),
		CreatedAt:   timestamppb.New(info.Created),
		UpdatedAt:   timestamppb.New(info.Updated),
		Users:       a.users(info.Environment, info.Name, 0),
		Deleted:     info.Deleted,
		Withheld:    a.withheld(info),
		Source:      info.Source,
		NotTaken:    a.notTaken(info.Environment, info.Name),
	}
	if info.Contested != nil {
		m.AlsoIn = info.Contested.Others
	}
	for _, v := range info.Versions {
		if v.Version == m.Version {
			m.Keys, m.UpdatedAt = v.Keys, timestamppb.New(v.Created)
		}
	}
	return m
}

// users are the workloads that are pinned to a version of a secret, or have a container on
// it; to any when version is 0.
func (a *Agent) users(environment, name string, version uint32) []string {
	var ids []string
	for _, w := range a.list(environment, "") {
		used := w.versions(name)
		if len(used) > 0 && (version == 0 || slices.Contains(used, version)) {
			ids = append(ids, w.id())
		}
	}
	return ids
}

// versions are those of a secret that a workload is pinned to, tries, goes back to, or has a container of.
func (w *workload) versions(name string) []uint32 {
	r := w.record()
	pins := allPins(r)
	v, _ := w.supervisor.View()
	for _, i := range v.Status.Containers() {
		pins = append(pins, i.Revision.Pins...)
	}
	var versions []uint32
	for _, p := range pins {
		if p.GetSecret() == name && p.GetVersion() != 0 {
			versions = append(versions, p.GetVersion())
		}
	}
	slices.Sort(versions)
	return slices.Compact(versions)
}

// pinned are the versions of a secret that workloads run on, or may say as they have.
func (a *Agent) pinned(environment, name string) []uint32 {
	var versions []uint32
	for _, w := range a.list(environment, "") {
		versions = append(slices.Concat(versions, w.versions(name)), w.givenVersions(name)...)
	}
	slices.Sort(versions)
	return slices.Compact(versions)
}

// needed are the versions of a secret that workloads run on or, unless the secret
// was deleted, that an app can be rolled back to.
func (a *Agent) needed(environment, name string) ([]uint32, error) {
	versions := a.pinned(environment, name)
	if info, err := a.secrets.Describe(environment, name); err != nil || info.Deleted {
		return versions, err
	}
	apps, err := a.db.Apps()
	if err != nil {
		return nil, fmt.Errorf("reading the histories of apps: %w", err)
	}
	for _, app := range apps {
		if app.GetEnvironment() != environment {
			continue
		}
		for _, r := range app.GetRevisions() {
			versions = append(versions, pinnedIn(r, name)...)
		}
	}
	if latest := a.latestOf(environment, name); latest != 0 {
		versions = append(versions, latest) // what is newer may be held
	}
	slices.Sort(versions)
	return slices.Compact(versions), nil
}

func pinnedIn(r *purserv1.AppRevision, name string) []uint32 {
	var versions []uint32
	for _, f := range r.GetFunctions() {
		for _, p := range f.GetPins() {
			if p.GetSecret() == name && p.GetVersion() != 0 {
				versions = append(versions, p.GetVersion())
			}
		}
	}
	return versions
}

// pruneSecrets drops versions that nobody needs once pins were given up. The
// caller holds writing, so that no launch is choosing one of them.
func (a *Agent) pruneSecrets(environment string, pins []*purserv1.Pin) {
	for _, p := range pins {
		if p.GetVersion() != 0 {
			a.prune(environment, p.GetSecret())
		}
	}
}

// releasePins is pruneSecrets for who does not hold writing.
func (a *Agent) releasePins(environment string, pins []*purserv1.Pin) {
	a.writing.Lock()
	defer a.writing.Unlock()
	a.pruneSecrets(environment, pins)
}

func (a *Agent) prune(environment, name string) {
	if !a.gate.isOpen() {
		// A container that is not known yet may be on any version.
		a.toPrune(environment, name)
		return
	}
	delete(a.unpruned, [2]string{environment, name})
	needed, err := a.needed(environment, name)
	if err == nil {
		err = a.pruneBut(environment, name, needed)
	}
	if err != nil && !errors.Is(err, inject.ErrNotFound) {
		a.log.Error("cannot drop old versions of a secret", "environment", environment, "secret", name, "error", err)
	}
}

// pruneHeld prunes what is still to be pruned, as there are new versions or the containers
// were not known. The caller holds writing.
func (a *Agent) pruneHeld() {
	held := a.unpruned
	a.unpruned = nil
	for at := range held {
		a.prune(at[0], at[1])
	}
}

func (a *Agent) pruneBut(environment, name string, needed []uint32) error {
	removed, err := a.secrets.Prune(environment, name, a.cfg.Secrets.KeepVersions, needed)
	if err != nil || len(removed) == 0 {
		return err
	}
	a.audit.note(context.Background(), audit.Record{
		Action: audit.Prune, Outcome: audit.Done, Environment: environment, Secrets: []audit.Secret{{Name: name, Versions: removed}},
	})
	return a.noteSequence()
}

// refusal returns the store's error with its code if it is a refusal. It is asked for
// before there is a record of the change, as refused calls are recorded, and counted
// when they are many, in another place. Any other error comes again with the change.
func (a *Agent) refusal(err error) error {
	var refused *Refusal
	if err = a.storeError(err); errors.As(err, &refused) {
		return err
	}
	return nil
}

// storeError gives the store's refusals their codes, and says where to change what is
// not changed here.
func (a *Agent) storeError(err error) error {
	var refused *store.InvalidError
	var owned *store.OwnerError
	switch {
	case errors.As(err, &owned):
		return a.ownerError(owned)
	case errors.Is(err, inject.ErrNotFound):
		return &Refusal{Reason: NotFound, Err: err}
	case errors.As(err, &refused):
		return &Refusal{Reason: Invalid, Err: problems(refused)}
	}
	return err
}

// problems are a store's objections as those of the API are given.
func problems(refused *store.InvalidError) launchspec.Problems {
	var all launchspec.Problems
	for _, p := range refused.Problems {
		all = append(all, launchspec.Problem{Field: p.Field, Rule: "secret.limits", Message: p.Message})
	}
	return all
}

// Environments lists the environments that have workloads, secrets or volumes.
func (a *Agent) Environments() ([]*purserv1.Environment, error) {
	byName := map[string]*purserv1.Environment{}
	at := func(name string) *purserv1.Environment {
		if byName[name] == nil {
			byName[name] = &purserv1.Environment{Name: name}
		}
		return byName[name]
	}
	for _, w := range a.list("", "") {
		at(w.environment()).Workloads++
	}
	for _, info := range a.secrets.List("") {
		if !info.Deleted {
			at(info.Environment).Secrets++
		}
	}
	kept, err := a.volumes.List("")
	if err != nil {
		return nil, err
	}
	for _, info := range kept {
		at(info.Environment).Volumes++
	}
	var all []*purserv1.Environment
	for _, e := range byName {
		all = append(all, e)
	}
	slices.SortFunc(all, func(x, y *purserv1.Environment) int { return strings.Compare(x.GetName(), y.GetName()) })
	return all, nil
}
