package store

import (
	"context"
	"errors"
	"fmt"
	"maps"

	"github.com/purserd/purser/inject"
)

// PutOptions say what a new version holds.
type PutOptions struct {
	// Data is merged over the newest version. It stays the caller's.
	Data map[string]inject.Value
	// Remove are keys of the newest version to leave out.
	Remove []string
	// Replace leaves the newest version's keys out altogether.
	Replace bool
	// Source that the content comes from; empty for the API. Who does not own a secret
	// is refused with an [*OwnerError], unless TakeFrom is there and says that its owner
	// has no claim any more.
	Source   string
	TakeFrom func(owner string) bool
}

// opened is what a version's file holds, by the hash of that. Its data is never changed.
type opened struct {
	sum  string
	data map[string]inject.Value
}

// PutResult says what Put did.
type PutResult struct {
	// Version is the new one, or the newest when nothing changed.
	Version uint32
	// Changed is false when the newest version had this content already.
	Changed bool
	// Keys of the version, sorted.
	Keys []string
}

// Put writes a new version of a secret. When it returns without an error the version
// survives a loss of power. With one the store is as it was, except when the error
// says that the change is made and may not survive a loss of power. The error is an
// [*InvalidError] when the arguments are wrong: names, limits, removing a key that is
// not there, a version without any key; and an [*OwnerError] when the secret is
// somebody else's.
func (s *Store) Put(ctx context.Context, environment, name string, options PutOptions) (PutResult, error) {
	if err := options.check(environment, name); err != nil {
		return PutResult{}, err
	}
	r, done, err := s.startChange(ctx, environment, name)
	if err != nil {
		return PutResult{}, err
	}
	defer done()
	base, data, err := s.merge(environment, name, r, options)
	if err != nil {
		return PutResult{}, err
	}
	if unchanged, ok := s.unchanged(environment, name, r, base, data); ok {
		return unchanged, s.own(environment, name, r, options.Source)
	}
	r.Source = options.Source
	number, err := s.add(environment, name, r, data, 0)
	if err != nil {
		return PutResult{}, err
	}
	if newest, ok := s.manifest.record(environment, name).newest(); ok {
		s.newest = opened{newest.SHA256, data}
	}
	s.Settle(environment, name, options.Source)
	return PutResult{Version: number, Changed: true, Keys: sortedKeys(data)}, nil
}

// unchanged is the result for content that the newest version has already. One whose file
// is damaged has none: that it is known here yet does not help the next start.
func (s *Store) unchanged(environment, name string, r record, newest, data map[string]inject.Value) (PutResult, bool) {
	v, live := r.newest()
	if !live || !maps.EqualFunc(newest, data, inject.Value.Equal) {
		return PutResult{}, false
	}
	var damage *DamageError
	if _, err := s.readVersion(environment, name, v); errors.As(err, &damage) {
		return PutResult{}, false
	}
	return PutResult{Version: v.Version, Keys: sortedKeys(data)}, true
}

// own makes a secret somebody's without a new version.
func (s *Store) own(environment, name string, r record, by string) error {
	if r.Source != by {
		r.Source = by
		if _, err := s.commit(environment, name, r, nil); err != nil {
			return fmt.Errorf("handing secret %q in environment %q over: %w", name, environment, err)
		}
	}
	s.Settle(environment, name, by)
	return nil
}

// CheckPut returns the error that Put would return before it writes anything.
func (s *Store) CheckPut(ctx context.Context, environment, name string, options PutOptions) error {
	if err := options.check(environment, name); err != nil {
		return err
	}
	r, done, err := s.startChange(ctx, environment, name)
	if err != nil {
		return err
	}
	defer done()
	_, _, err = s.merge(environment, name, r, options)
	return err
}

// PreviewPut returns what Put would, without a number for a version that it would
// write.
func (s *Store) PreviewPut(ctx context.Context, environment, name string, options PutOptions) (PutResult, error) {
	if err := options.check(environment, name); err != nil {
		return PutResult{}, err
	}
	r, done, err := s.startChange(ctx, environment, name)
	if err != nil {
		return PutResult{}, err
	}
	defer done()
	base, data, err := s.merge(environment, name, r, options)
	if err != nil {
		return PutResult{}, err
	}
	if unchanged, ok := s.unchanged(environment, name, r, base, data); ok && r.Source == options.Source {
		return unchanged, nil
	}
	return PutResult{Changed: true, Keys: sortedKeys(data)}, nil
}

// check checks what can be without knowing the secret.
func (o PutOptions) check(environment, name string) error {
	var problems InvalidError
	problems.checkNames(environment, name)
	problems.checkOptions(o)
	return problems.orNil()
}

// merge returns the content that a new version starts from, and its own.
func (s *Store) merge(environment, name string, r record, options PutOptions) (base, data map[string]inject.Value, err error) {
	if err := r.mayChange(environment, name, options.Source, options.TakeFrom); err != nil {
		return nil, nil, err
	}
	if base, err = s.base(environment, name, r, options); err != nil {
		return nil, nil, err
	}
	data, err = options.apply(environment, name, base)
	return base, data, err
}

// base returns the content that a new version starts from, empty when there is none.
// To replace a damaged version is the way to mend it, so that one is empty too.
func (s *Store) base(environment, name string, r record, options PutOptions) (map[string]inject.Value, error) {
	newest, ok := r.newest()
	switch {
	case !ok:
		return nil, nil
	case s.newest.sum == newest.SHA256:
		return s.newest.data, nil
	}
	data, err := s.load(environment, name, newest)
	var damage *DamageError
	switch {
	case errors.As(err, &damage) && options.Replace:
		return nil, nil
	case errors.As(err, &damage):
		return nil, fmt.Errorf("%w; replace it with all of its keys, or roll back", err)
	case err != nil:
		return nil, err
	}
	s.newest = opened{newest.SHA256, data}
	return data, nil
}

// absentText says why a key is not there to be removed, if it is not for itself.
func (o PutOptions) absentText(base map[string]inject.Value) string {
	switch {
	case o.Replace:
		return ", as all of it is replaced"
	case len(base) == 0:
		return ", as there is no such secret"
	}
	return ""
}

// apply returns the content of the new version.
func (o PutOptions) apply(environment, name string, base map[string]inject.Value) (map[string]inject.Value, error) {
	data := map[string]inject.Value{}
	if !o.Replace {
		maps.Copy(data, base)
	}
	var problems InvalidError
	for _, key := range o.Remove {
		if _, ok := data[key]; !ok {
			problems.add("remove", "secret %s in environment %s has no key %q%s", name, environment, key, o.absentText(base))
		}
		delete(data, key)
	}
	maps.Copy(data, o.Data)
	if err := problems.orNil(); err != nil {
		return nil, err
	}
	if len(data) == 0 {
		return nil, invalid("data", "the secret would be left without a key; to end it: purser secret delete -E %s %s", environment, name)
	}
	return data, checkTotal(data)
}
