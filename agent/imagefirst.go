package agent

import (
	"context"
	"errors"

	"github.com/purserd/purser/api/launchspec"
	purserv1 "github.com/purserd/purser/api/purser/v1"
	"github.com/purserd/purser/runtime"
)

// A workload whose strategy is restart is stopped before its next instance is made. So that
// it is not stopped for nothing its image is looked up before that, and pulled where the
// next start would: as the launch of a spec does (pullAhead). So are its devices.

// errFetching: a move is put off until an image has been pulled.
var errFetching = errors.New("its image is pulled first")

// fetch is the pull of an image for a move that is put off for it.
type fetch struct {
	spec *purserv1.LaunchSpec
	over bool
	err  error
}

// haveAll says what is in the way of another instance of a workload that is to be stopped
// for it. errFetching is over by itself.
func (r *rotator) haveAll(ctx context.Context, w *workload, spec *purserv1.LaunchSpec) error {
	if launchspec.Strategy(spec) == launchspec.StrategyRolling {
		return nil
	}
	if err := r.agent.haveDevices(spec); err != nil {
		return err
	}
	if err, over := r.fetched(w.key, spec); over {
		return err
	}
	ref := spec.GetImage().GetRef()
	_, err := r.agent.runtime.Image(ctx, ref)
	always := launchspec.PullPolicy(spec) == launchspec.PullAlways
	switch {
	case err == nil && !always:
		return nil
	case err != nil && !errors.Is(err, runtime.ErrImageNotFound):
		return runtimeError(err)
	case !mayPull(spec):
		return r.agent.imageError(ctx, ref, err)
	}
	r.fetch(ctx, w, spec)
	return errFetching
}

// fetched is what has come of the pull for a move that is to begin now, once it is over.
func (r *rotator) fetched(key string, spec *purserv1.LaunchSpec) (err error, over bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f := r.fetches[key]
	if f == nil || !f.over {
		return nil, false
	}
	delete(r.fetches, key)
	return f.err, f.spec == spec
}

// fetch has an image be pulled, and the move be looked at again after that.
func (r *rotator) fetch(ctx context.Context, w *workload, spec *purserv1.LaunchSpec) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.fetches[w.key] != nil {
		return
	}
	f := &fetch{spec: spec}
	r.fetches[w.key] = f
	r.working.Go(func() {
		err := w.pullUpdate(ctx, spec)
		r.mu.Lock()
		defer r.mu.Unlock()
		if f.over = true; err != nil {
			f.err = runtimeError(err)
		}
		r.resumed = append(r.resumed, w.key)
		r.poke()
	})
}
