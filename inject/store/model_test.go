package store_test

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/purserd/purser/inject/keyring"
	"github.com/purserd/purser/inject/store"
)

// model is what one secret should be after any sequence of calls.
type model struct {
	next     uint32
	versions []modelVersion // oldest first
}

type modelVersion struct {
	number  uint32
	data    map[string]string
	deleted bool
}

func (m *model) newest() *modelVersion {
	for i := range slices.Backward(m.versions) {
		if !m.versions[i].deleted {
			return &m.versions[i]
		}
	}
	return nil
}

func (m *model) add(data map[string]string) {
	m.versions = append(m.versions, modelVersion{number: m.next, data: data})
	m.next++
}

// The store agrees with the model after any sequence of calls, opened again or not, also
// after it was killed or the machine has lost its power.
func TestStoreAgreesWithModel(t *testing.T) {
	dir := t.TempDir()
	keys, err := keyring.Open(filepath.Join(dir, "identity.age"))
	must(t, err)
	rapid.Check(t, func(t *rapid.T) {
		r := &run{t: t, place: place{dir: filepath.Join(dir, "secrets"), keys: keys}, model: model{next: 1}}
		r.open()
		defer func() {
			_ = r.store.Close()
			_ = os.RemoveAll(r.place.dir)
		}()
		for range rapid.IntRange(1, 8).Draw(t, "calls") {
			rapid.SampledFrom([]func(){r.put, r.put, r.rollback, r.delete, r.prune, r.reopen, r.kill, r.cutPower, r.writeFiles}).Draw(t, "call")()
			r.compare()
		}
	})
}

// run is one sequence of calls.
type run struct {
	t     *rapid.T
	place place
	store *store.Store
	model model
}

func (r *run) open() {
	var err error
	if r.store, err = store.Open(r.place.dir, r.place.keys, store.Options{Apart: rapid.SampledFrom([]time.Duration{0, time.Hour}).Draw(r.t, "apart")}); err != nil {
		r.t.Fatal(err)
	}
}

func (r *run) reopen() {
	if err := r.store.Close(); err != nil {
		r.t.Fatal(err)
	}
	r.open()
}

func (r *run) writeFiles() {
	if err := r.store.WriteFiles(); err != nil {
		r.t.Fatal(err)
	}
}

func (r *run) kill() {
	r.store.Kill()
	r.open()
}

func (r *run) cutPower() {
	r.store.CutPower(func(path string) {
		var err error
		switch rapid.IntRange(0, 2).Draw(r.t, "damage") {
		case 0:
			err = os.Remove(path)
		case 1:
			err = os.Truncate(path, rapid.Int64Range(0, 100).Draw(r.t, "size"))
		}
		if err != nil {
			r.t.Fatal(err)
		}
	})
	r.open()
}

func (r *run) put() {
	pairs := rapid.MapOfN(rapid.SampledFrom([]string{"A", "B"}), rapid.StringMatching(`[01]`), 0, 2).Draw(r.t, "data")
	options := store.PutOptions{Data: values(), Replace: rapid.Bool().Draw(r.t, "replace")}
	want := map[string]string{}
	if newest := r.model.newest(); newest != nil && !options.Replace {
		maps.Copy(want, newest.data)
	}
	maps.Copy(want, pairs)
	maps.Copy(options.Data, values(assignments(pairs)...))
	result, err := r.store.Put(r.t.Context(), "dev", "db", options)
	if (err != nil) != (len(want) == 0) {
		r.t.Fatalf("putting %v: %v", want, err)
	}
	newest := r.model.newest()
	if err != nil || newest != nil && maps.Equal(newest.data, want) {
		return
	}
	if !result.Changed || result.Version != r.model.next {
		r.t.Fatalf("result %+v, want version %d", result, r.model.next)
	}
	r.model.add(want)
}

func (r *run) rollback() {
	number := rapid.Uint32Range(0, r.model.next).Draw(r.t, "version")
	var source *modelVersion
	newest := r.model.newest()
	for i, v := range r.model.versions {
		if !v.deleted && v.number != newest.number && (number == 0 || v.number == number) {
			source = &r.model.versions[i]
		}
	}
	_, err := r.store.Rollback(r.t.Context(), "dev", "db", number)
	if (err == nil) != (source != nil) {
		r.t.Fatalf("rolling back to %d: %v", number, err)
	}
	if source != nil {
		r.model.add(source.data)
	}
}

func (r *run) delete() {
	pinned, destroy := r.drawPinned(), rapid.Bool().Draw(r.t, "destroy")
	_, err := r.store.Delete("dev", "db", pinned, destroy)
	if (err == nil) != (len(r.model.versions) > 0) {
		r.t.Fatalf("deleting: %v", err)
	}
	r.model.versions = slices.DeleteFunc(r.model.versions, func(v modelVersion) bool {
		return destroy || !slices.Contains(pinned, v.number)
	})
	for i := range r.model.versions {
		r.model.versions[i].deleted = true
	}
}

func (r *run) prune() {
	keep, pinned := rapid.IntRange(0, 3).Draw(r.t, "keep"), r.drawPinned()
	if _, err := r.store.Prune("dev", "db", keep, pinned); err != nil {
		r.t.Fatal(err)
	}
	live := 0
	for i := range slices.Backward(r.model.versions) {
		v := &r.model.versions[i]
		if !v.deleted {
			live++
		}
		if (v.deleted || live > max(keep, 1)) && !slices.Contains(pinned, v.number) {
			v.data = nil // marks it as removed
		}
	}
	r.model.versions = slices.DeleteFunc(r.model.versions, func(v modelVersion) bool { return v.data == nil })
}

func (r *run) drawPinned() []uint32 {
	return rapid.SliceOfN(rapid.Uint32Range(1, r.model.next), 0, 2).Draw(r.t, "pinned")
}

func (r *run) compare() {
	var got, want []string
	for _, info := range r.store.List("") {
		for _, v := range slices.Backward(info.Versions) {
			secret, err := r.store.Get(r.t.Context(), "dev", "db", v.Version)
			if err != nil {
				r.t.Fatal(err)
			}
			data := map[string]string{}
			for key, value := range secret.Data {
				data[key] = string(value.Reveal())
			}
			got = append(got, fmt.Sprint(v.Version, assignments(data), v.Deleted, v.Version == info.Version))
		}
	}
	newest := r.model.newest()
	for _, v := range r.model.versions {
		want = append(want, fmt.Sprint(v.number, assignments(v.data), v.deleted, newest != nil && newest.number == v.number))
	}
	if !slices.Equal(got, want) {
		r.t.Fatalf("got  %q\nwant %q", got, want)
	}
}

func assignments(data map[string]string) []string {
	var pairs []string
	for key, value := range data {
		pairs = append(pairs, key+"="+value)
	}
	slices.Sort(pairs)
	return pairs
}
