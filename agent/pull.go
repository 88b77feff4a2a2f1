package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/purserd/purser/agent/supervise"
	"github.com/purserd/purser/api/launchspec"
	statev1 "github.com/purserd/purser/api/purser/state/v1"
	purserv1 "github.com/purserd/purser/api/purser/v1"
	"github.com/purserd/purser/inject"
	"github.com/purserd/purser/inject/audit"
	"github.com/purserd/purser/metrics"
	"github.com/purserd/purser/runtime"
	"github.com/purserd/purser/runtime/registry"
)

// pullRequest is what is to be pulled, and with whose credentials. Requests that are
// equal share a pull.
type pullRequest struct {
	ref, platform string
	// environment and secret name the credentials, version is theirs: who has others
	// must show them to the registry.
	environment, secret string
	version             uint32
}

// newPull completes a request, and reads the credentials that go with it.
func (a *Agent) newPull(ctx context.Context, r pullRequest) (pullRequest, *registry.Login, error) {
	ref, err := runtime.NormalizeRef(r.ref)
	if err != nil {
		return r, nil, &Refusal{Reason: Invalid, Err: err}
	}
	r.ref = ref
	if r.secret == "" {
		r.environment = ""
		return r, nil, nil
	}
	login, version, err := a.login(ctx, r.environment, r.secret)
	r.version = version
	return r, login, err
}

// login reads the credentials in the latest version of a secret.
func (a *Agent) login(ctx context.Context, environment, name string) (*registry.Login, uint32, error) {
	latest := a.latestFor(environment, []*purserv1.SecretRef{{Name: &name}})
	secret, err := latest.Get(ctx, environment, name, 0)
	if errors.Is(err, inject.ErrNotFound) {
		return nil, 0, refuse(Precondition, "secret %s, which image.auth_secret names, is not in environment %s: set it with purser secret set -E %s %s %s=… %s=-",
			name, environment, environment, name, registry.KeyUsername, registry.KeyPassword)
	}
	if err != nil {
		return nil, 0, fmt.Errorf("reading secret %s, which image.auth_secret names: %w", name, err)
	}
	login, err := registry.NewLogin(secret)
	if err != nil {
		return nil, 0, &Refusal{Reason: Precondition, Err: err}
	}
	return login, secret.Version, nil
}

// pull is one that goes on for everybody who waits for it.
type pull struct {
	cancel context.CancelFunc
	// waiting counts those who wait; guarded by the pulls' mutex.
	waiting int
	done    chan struct{}
	// image and err are set when done is closed.
	image *runtime.Image
	err   error

	mu     sync.Mutex
	layers []runtime.Layer
	// moved is closed and replaced when a layer has come further.
	moved chan struct{}
}

// pulls are those under way.
type pulls struct {
	mu  sync.Mutex
	all map[pullRequest]*pull
}

// join returns the pull of a request, beginning it if there is none. Whoever joins
// must leave.
func (s *pulls) join(r pullRequest, begin func(p *pull) context.CancelFunc) *pull {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.all[r]
	if p == nil {
		p = &pull{done: make(chan struct{}), moved: make(chan struct{})}
		if s.all == nil {
			s.all = map[pullRequest]*pull{}
		}
		s.all[r] = p
		p.cancel = begin(p)
	}
	p.waiting++
	return p
}

// leave ends a pull that nobody waits for any more.
func (s *pulls) leave(r pullRequest, p *pull) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p.waiting--; p.waiting == 0 {
		p.cancel()
		s.drop(r, p)
	}
}

// end lets those who wait for a pull go on.
func (s *pulls) end(r pullRequest, p *pull) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.drop(r, p)
	close(p.done)
}

func (s *pulls) drop(r pullRequest, p *pull) {
	if s.all[r] == p {
		delete(s.all, r)
	}
}

// has says whether an image of that name is on its way.
func (s *pulls) has(same func(ref string) bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for r := range s.all {
		if same(r.ref) {
			return true
		}
	}
	return false
}

// progress takes in how far a layer has come. What one layer has come to is never
// less than before: several reports may cross.
func (p *pull) progress(l runtime.Layer) {
	p.mu.Lock()
	defer p.mu.Unlock()
	i := slices.IndexFunc(p.layers, func(k runtime.Layer) bool { return k.Digest == l.Digest })
	switch {
	case i < 0:
		p.layers = append(p.layers, l)
	case rank(l.State) < rank(p.layers[i].State):
		return
	default:
		if l.State == p.layers[i].State {
			l.Offset = max(l.Offset, p.layers[i].Offset)
		}
		p.layers[i] = l
	}
	close(p.moved)
	p.moved = make(chan struct{})
}

// rank orders the states of a layer.
func rank(s runtime.LayerState) int {
	return slices.Index([]runtime.LayerState{
		runtime.LayerWaiting, runtime.LayerDownloading, runtime.LayerDownloaded, runtime.LayerUnpacking, runtime.LayerDone,
	}, s)
}

// view is how far the layers have come, and a channel that is closed when one has
// come further.
func (p *pull) view() ([]runtime.Layer, <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.layers), p.moved
}

// await joins the pull of a request and returns its image. watch, if not nil, is
// called with each layer that has come further, for as long as it returns no error.
func (a *Agent) await(ctx context.Context, r pullRequest, login *registry.Login, watch func(runtime.Layer) error) (*runtime.Image, error) {
	p := a.pulls.join(r, func(p *pull) context.CancelFunc { return a.begin(ctx, r, login, p) })
	defer a.pulls.leave(r, p)
	seen := map[string]runtime.Layer{}
	for {
		layers, moved := p.view()
		if watch == nil {
			layers, moved = nil, nil
		}
		for _, l := range layers {
			if seen[l.Digest] == l {
				continue
			}
			seen[l.Digest] = l
			if err := watch(l); err != nil {
				return nil, err
			}
		}
		select {
		case <-p.done:
			return p.image, errors.Join(p.err, tellDone(p, watch))
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-moved:
			gather(ctx, p.done)
		}
	}
}

// watchPause is how often those who watch a pull hear of it at most.
const watchPause = 100 * time.Millisecond

// gather lets reports gather, unless there are no more to come.
func gather(ctx context.Context, done <-chan struct{}) {
	select {
	case <-time.After(watchPause):
	case <-done:
	case <-ctx.Done():
	}
}

// tellDone tells of the layers of an image that is there.
func tellDone(p *pull, watch func(runtime.Layer) error) error {
	if p.err != nil || watch == nil {
		return nil
	}
	layers, _ := p.view()
	for _, l := range layers {
		l.State, l.Offset = runtime.LayerDone, l.Total
		if err := watch(l); err != nil {
			return err
		}
	}
	return nil
}

// begin begins a pull, which goes on without the request that it was begun for.
func (a *Agent) begin(ctx context.Context, r pullRequest, login *registry.Login, p *pull) context.CancelFunc {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	a.background.Go(func() {
		defer cancel()
		defer a.pulls.end(r, p)
		stop := context.AfterFunc(a.closing, cancel)
		defer stop()
		if login != nil {
			a.audit.note(ctx, audit.Record{
				Action: audit.Pull, Outcome: audit.Begun, Environment: r.environment, Image: r.ref,
				Secrets: []audit.Secret{{Name: r.secret, Version: r.version}},
			})
		}
		p.image, p.err = a.runtime.Pull(ctx, r.ref, runtime.PullOptions{Platform: r.platform, Login: login, Progress: p.progress})
		a.metrics.Pulled(pullResult(p.err))
		if p.err == nil {
			a.imageUse.touch(p.image.Ref)
			a.collect()
		}
	})
	return cancel
}

// pullResult is the result of a pull as metrics have it.
func pullResult(err error) string {
	var failed *runtime.PullError
	switch {
	case err == nil:
		return metrics.OK
	case errors.As(err, &failed):
		return strings.ReplaceAll(failed.Reason, " ", "_")
	case errors.Is(err, context.Canceled):
		return "canceled"
	}
	return "failed"
}

// PullImage pulls an image, or waits for a pull of it, and tells watch of each layer
// that has come further.
func (a *Agent) PullImage(ctx context.Context, m *purserv1.PullRequest, watch func(*purserv1.LayerProgress) error) (*purserv1.NodeImage, error) {
	if m.GetPolicy() == launchspec.PullIfNotPresent && m.GetPlatform() != "" {
		return nil, refuse(Invalid, "policy %s goes by the name alone, whatever platform the image is for: leave out the platform, or pull it always", launchspec.PullIfNotPresent)
	}
	if m.GetPolicy() == launchspec.PullIfNotPresent {
		image, err := a.runtime.Image(ctx, m.GetRef())
		if err == nil {
			a.imageUse.touch(image.Ref)
			return imageMessage(*image), nil
		}
		if !errors.Is(err, runtime.ErrImageNotFound) {
			return nil, runtimeError(err)
		}
	}
	r := pullRequest{ref: m.GetRef(), platform: m.GetPlatform(), environment: orDev(m.GetEnvironment()), secret: m.GetAuthSecret()}
	r, login, err := a.newPull(ctx, r)
	if err != nil {
		return nil, err
	}
	image, err := a.await(ctx, r, login, func(l runtime.Layer) error { return watch(layerMessage(l)) })
	if err != nil {
		return nil, runtimeError(err)
	}
	a.emit(normal, "ImagePulled", "", image.Ref, "pulled as %s", image.Digest)
	return imageMessage(*image), nil
}

func layerMessage(l runtime.Layer) *purserv1.LayerProgress {
	return &purserv1.LayerProgress{
		Digest: l.Digest, Offset: uint64(l.Offset), Total: uint64(l.Total), State: string(l.State), Resumed: uint64(l.Resumed),
	}
}

// mayPull says whether an image that a spec names may be looked for at its registry.
func mayPull(spec *purserv1.LaunchSpec) bool {
	return launchspec.PullPolicy(spec) != launchspec.PullNever && !isLocalName(spec.GetImage().GetRef())
}

// isLocalName says whether a reference is to what was imported: localhost without a
// port is no registry, but where imports are named. So is what is no reference.
func isLocalName(ref string) bool {
	full, err := runtime.NormalizeRef(ref)
	return err != nil || strings.HasPrefix(full, "localhost/")
}

// checkLogin finds out whether there are the credentials that a spec names.
func (a *Agent) checkLogin(ctx context.Context, spec *purserv1.LaunchSpec) error {
	name := spec.GetImage().GetAuthSecret()
	if name == "" {
		return nil
	}
	_, _, err := a.login(ctx, launchspec.Environment(spec), name)
	return err
}

// pullFirst pulls the image of an instance that is to be made of what its reference
// stands for now.
func (w *workload) pullFirst(ctx context.Context, r *statev1.Workload, enter func(supervise.State, string)) error {
	if launchspec.PullPolicy(r.GetSpec()) != launchspec.PullAlways || !mayPull(r.GetSpec()) {
		return nil
	}
	return w.pull(ctx, r, enter)
}

// pull pulls the image of an instance.
func (w *workload) pull(ctx context.Context, r *statev1.Workload, enter func(supervise.State, string)) error {
	err := w.pullImage(ctx, r.GetSpec(), func(ref string) { enter(supervise.Pulling, "image "+ref) })
	if err == nil {
		enter(supervise.Creating, "")
	}
	return err
}

// pullImage pulls the image of a spec for the workload. begins is called with its
// reference when it is waited for.
func (w *workload) pullImage(ctx context.Context, spec *purserv1.LaunchSpec, begins func(ref string)) error {
	began := time.Now()
	request := pullRequest{ref: spec.GetImage().GetRef(), environment: w.environment(), secret: spec.GetImage().GetAuthSecret()}
	request, login, err := w.agent.newPull(ctx, request)
	if err != nil {
		return err
	}
	begins(request.ref)
	got, err := w.agent.await(ctx, request, login, nil)
	w.agent.metrics.Launched(metrics.Pull, began, err)
	if err != nil {
		return err
	}
	took := time.Since(began).Round(10 * time.Millisecond)
	w.emit(normal, "Pulled", "image %s is there after %s, as %s", got.Ref, took, got.Digest)
	return nil
}

// pullAhead pulls the images of specs that are to take the place of what runs, before
// that is stopped for them: an image that cannot be had must not take away what works,
// nor the time that it takes to come. They come at the same time; with the first that
// cannot be had, the others are not waited for any more.
func (a *Agent) pullAhead(ctx context.Context, specs ...*purserv1.LaunchSpec) error {
	all, ctx := errgroup.WithContext(ctx)
	for _, spec := range specs {
		w := a.lookup(launchspec.Environment(spec), launchspec.ID(spec))
		if w == nil || w.runsAlready(spec) || !mayPull(spec) {
			continue
		}
		if v, _ := w.supervisor.View(); !v.Status.State.Runs() {
			continue
		}
		all.Go(func() error {
			if err := w.pullUpdate(ctx, spec); err != nil {
				return fmt.Errorf("workload %s runs on as it is, the image of its update cannot be had: %w", w.id(), runtimeError(err))
			}
			return nil
		})
	}
	return all.Wait()
}

// pullUpdate pulls the image of a spec that is to take the place of the workload's.
func (w *workload) pullUpdate(ctx context.Context, spec *purserv1.LaunchSpec) error {
	// First: what comes next may show what the reference says.
	if err := copied(ctx, w.environment(), spec, w.agent.copies); err != nil {
		return err
	}
	_, err := w.agent.runtime.Image(ctx, spec.GetImage().GetRef())
	if launchspec.PullPolicy(spec) != launchspec.PullAlways && !errors.Is(err, runtime.ErrImageNotFound) {
		return nil // it is there, or the start will say what is wrong
	}
	return w.pullImage(ctx, spec, func(ref string) {
		w.emit(normal, "Pulling", "image %s for its update, and runs on meanwhile", ref)
	})
}
