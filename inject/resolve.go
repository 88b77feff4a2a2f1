package inject

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/purserd/purser/api/launchspec"
	purserv1 "github.com/purserd/purser/api/purser/v1"
)

// Request says what to resolve.
type Request struct {
	// Environment that every secret is looked up in.
	Environment string
	// Refs as the launch spec lists them, already validated.
	Refs []*purserv1.SecretRef
	// Pins are the versions that the workload runs on. A reference without a pin
	// gets the newest version, and one that names a version gets that. A pin of
	// version 0 keeps an optional secret out that was not there at first.
	Pins []*purserv1.Pin
	// Workload is the ID of the one that runs on the pins, for errors that say what
	// to do. Empty: they are those of an earlier revision.
	Workload string
}

// Resolution is what a [Request] came to.
type Resolution struct {
	// Pins holds one pin for each reference, in the order listed. Version 0 says
	// that the secret is optional and was not there.
	Pins []*purserv1.Pin
	// Secrets holds those that are there, in the order listed.
	Secrets []Resolved
	// Directories hold the files of all secrets, the outer before those in them.
	Directories []Directory

	redactions []redaction
}

// SetsVariables says whether any variable comes from a secret.
func (r *Resolution) SetsVariables() bool {
	return slices.ContainsFunc(r.Secrets, func(s Resolved) bool { return len(s.Vars) > 0 })
}

// Resolved is one secret as a workload gets it.
type Resolved struct {
	Name    string
	Version uint32
	// Keys are those that the workload gets, as variables or in files, sorted.
	Keys []string
	// Vars are sorted by name, and every name appears once. There are none when the
	// secret is delivered in files alone.
	Vars []Var
}

// Var is one environment variable out of a secret.
type Var struct {
	// Name of the variable, after renaming and with the prefix.
	Name string
	// Key of the secret that it comes from.
	Key   string
	Value Value
}

// Resolve looks up every secret that the request refers to. When something is
// missing or cannot be delivered, the error holds a [*MissingError], an
// [*UndeliverableError] or both, and names all of it; when the source fails, it is
// the source's error.
func Resolve(ctx context.Context, source Source, request Request) (*Resolution, error) {
	pins := pinnedVersions(request.Pins)
	missing := MissingError{Environment: request.Environment, Workload: request.Workload}
	undeliverable := UndeliverableError{Environment: request.Environment}
	resolution := &Resolution{}
	var files []fileOf
	for _, ref := range request.Refs {
		secret, lack, err := find(ctx, source, request.Environment, ref, choose(ref, pins))
		if err != nil {
			return nil, fmt.Errorf("resolving secret %q in environment %q: %w", ref.GetName(), request.Environment, err)
		}
		if lack != nil {
			missing.Missing = append(missing.Missing, *lack)
			continue
		}
		pin := &purserv1.Pin{Secret: ref.GetName()}
		resolution.Pins = append(resolution.Pins, pin)
		if secret == nil {
			continue
		}
		pin.Version = secret.Version
		if keys := missingKeys(ref, secret); len(keys) > 0 {
			missing.Missing = append(missing.Missing, Missing{Secret: ref.GetName(), Reason: ReasonKeys, Version: secret.Version, Keys: keys})
			continue
		}
		used := usedKeys(ref, secret)
		resolution.redactions = append(resolution.redactions, redactionsOf(ref, used)...)
		files = append(files, filesOf(ref, used)...)
		vars := variables(ref, used)
		undeliverable.Problems = append(undeliverable.Problems, checkVariables(ref.GetName(), vars)...)
		resolution.Secrets = append(resolution.Secrets, Resolved{Name: ref.GetName(), Version: secret.Version, Keys: keysOf(used), Vars: vars})
	}
	directories, problems := directories(files)
	resolution.Directories = directories
	undeliverable.Problems = append(undeliverable.Problems, problems...)
	if err := errors.Join(missing.orNil(), undeliverable.orNil()); err != nil {
		return nil, err
	}
	return resolution, nil
}

func pinnedVersions(pins []*purserv1.Pin) map[string]uint32 {
	versions := make(map[string]uint32, len(pins))
	for _, pin := range pins {
		versions[pin.GetSecret()] = pin.GetVersion()
	}
	return versions
}

// choice is which version of a secret a reference gets.
type choice struct {
	version uint32 // 0: the newest
	pinned  bool   // the workload runs on that version already
	absent  bool   // none: it is optional and was not there at first
}

func choose(ref *purserv1.SecretRef, pins map[string]uint32) choice {
	pin, pinned := pins[ref.GetName()]
	switch {
	case ref.GetVersion() != 0:
		return choice{version: ref.GetVersion(), pinned: pin == ref.GetVersion()}
	case pinned && pin == 0 && ref.GetOptional():
		return choice{absent: true}
	default:
		return choice{version: pin, pinned: pin != 0}
	}
}

// find returns the chosen version, or what is missing. It returns neither when the
// secret may be absent and is.
func find(ctx context.Context, source Source, environment string, ref *purserv1.SecretRef, want choice) (*Secret, *Missing, error) {
	if want.absent {
		return nil, nil, nil
	}
	secret, err := source.Get(ctx, environment, ref.GetName(), want.version)
	switch {
	case errors.Is(err, ErrNotFound):
		lack, err := explainAbsence(ctx, source, environment, ref, want)
		return nil, lack, err
	case err != nil:
		return nil, nil, err
	case secret.Deleted && !want.pinned:
		// A version kept for the workloads that run on it is not for new ones.
		return nil, absentSecret(ref), nil
	}
	return secret, nil, nil
}

// explainAbsence tells a missing version from a missing secret: only the latter
// may be optional. A pinned version that is gone is never passed over, since the
// workload would restart without keys that it had.
func explainAbsence(ctx context.Context, source Source, environment string, ref *purserv1.SecretRef, want choice) (*Missing, error) {
	if want.version == 0 {
		return absentSecret(ref), nil
	}
	lack := &Missing{Secret: ref.GetName(), Reason: ReasonVersion, Version: want.version}
	if want.pinned {
		lack.Reason, lack.Fixed = ReasonPinned, ref.GetVersion() != 0
	}
	newest, err := source.Get(ctx, environment, ref.GetName(), 0)
	switch {
	case err == nil:
		lack.Newest = newest.Version
	case !errors.Is(err, ErrNotFound):
		return nil, err
	case !want.pinned:
		return absentSecret(ref), nil
	}
	return lack, nil
}

// absentSecret returns nil when the secret is optional.
func absentSecret(ref *purserv1.SecretRef) *Missing {
	if ref.GetOptional() {
		return nil
	}
	return &Missing{Secret: ref.GetName(), Reason: ReasonSecret, Keys: wantedKeys(ref)}
}

// wantedKeys returns every key that the reference names, sorted.
func wantedKeys(ref *purserv1.SecretRef) []string {
	keys := slices.AppendSeq(slices.Clone(ref.GetRequiredKeys()), maps.Keys(ref.GetKeys()))
	slices.Sort(keys)
	return slices.Compact(keys)
}

func missingKeys(ref *purserv1.SecretRef, secret *Secret) []string {
	return slices.DeleteFunc(wantedKeys(ref), func(key string) bool {
		_, there := secret.Data[key]
		return there
	})
}

// variables are the used keys under the names of variables.
func variables(ref *purserv1.SecretRef, used []Var) []Var {
	if !launchspec.SecretEnv(ref) {
		return nil
	}
	vars := slices.Clone(used)
	for i := range vars {
		vars[i].Name = ref.GetPrefix() + vars[i].Name
	}
	return vars
}

func keysOf(used []Var) []string {
	var keys []string
	for _, v := range used {
		keys = append(keys, v.Key)
	}
	slices.Sort(keys)
	return keys
}

// usedKeys names the used keys of a secret, sorted by name and then by key, so that
// two keys with one name are neighbours.
func usedKeys(ref *purserv1.SecretRef, secret *Secret) []Var {
	names := ref.GetKeys()
	var vars []Var
	for key, value := range secret.Data {
		name, used := names[key]
		if len(names) == 0 {
			name, used = key, true
		}
		if used {
			vars = append(vars, Var{Name: name, Key: key, Value: value})
		}
	}
	slices.SortFunc(vars, func(a, b Var) int {
		return cmp.Or(strings.Compare(a.Name, b.Name), strings.Compare(a.Key, b.Key))
	})
	return vars
}
