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
// next start would: as the launch of a spec does (pullAhead).

// errFetching: a move is put off until an image has been pulled.
var errFetching = errors.New("its image is pulled first")

// fetches are the images that are pulled, or have been, for moves that are put off for that,
// by workload.
type fetches struct {
	under map[string]bool
	had   map[string]*purserv1.LaunchSpec
}

func newFetches() fetches {
	return fetches{under: map[string]bool{}, had: map[string]*purserv1.LaunchSpec{}}
}

// haveImage says what is in the way of another instance of a workload that is to be stopped
// for it. errFetching is over by itself.
func (r *rotator) haveImage(ctx context.Context, w *workload, spec *purserv1.LaunchSpec) error {
	if launchspec.Strategy(spec) == launchspec.StrategyRolling || r.fetched(w.key, spec) {
		return nil
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

// fetched says whether an image was pulled for a move that begins now.
func (r *rotator) fetched(key string, spec *purserv1.LaunchSpec) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	had := r.fetches.had[key] == spec
	delete(r.fetches.had, key)
	return had
}

// fetch has an image be pulled, and the move be begun after that.
func (r *rotator) fetch(ctx context.Context, w *workload, spec *purserv1.LaunchSpec) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.fetches.under[w.key] {
		return
	}
	r.fetches.under[w.key] = true
	r.working.Go(func() {
		err := w.pullUpdate(ctx, spec)
		if err != nil && ctx.Err() == nil {
			w.emit(warning, "RotationDeferred", "it runs on as it is, and it is tried again in a while, as the image of its next instance cannot be had: %v", runtimeError(err))
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.fetches.under, w.key)
		if err == nil {
			r.fetches.had[w.key] = spec
			r.forgive = true
			r.poke()
		}
	})
}
