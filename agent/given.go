package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"

	"github.com/purserd/purser/agent/supervise"
	statev1 "github.com/purserd/purser/api/purser/state/v1"
	purserv1 "github.com/purserd/purser/api/purser/v1"
	"github.com/purserd/purser/inject"
	"github.com/purserd/purser/inject/redact"
)

// An instance is given secrets when it is made, and others in their place when its files are
// replaced. What it was given once it may say for as long as it is there, whatever it has by
// now and whatever has become of the trial: that belongs to the instance. It is on record
// before it is given, and whoever shows what an instance says asks once that was said.

// mostGiven is how many versions of a secret are known of an instance at most, the last
// ones: one whose files are replaced every hour may be there for years.
const mostGiven = 100

// givenTo are the versions that an instance was given since it was made, or is about to be.
func givenTo(r *statev1.Workload, instance string) []*purserv1.Pin {
	for _, g := range r.GetGiven() {
		if g.GetInstance() == instance {
			return g.GetPins()
		}
	}
	// An earlier agent has noted no more than this.
	var pins []*purserv1.Pin
	if r.GetTrial().GetInstance() == instance {
		pins = addPins(pins, r.GetTrial().GetPins())
	}
	if r.GetDeliveredTo() == instance {
		pins = addPins(pins, r.GetPins())
	}
	return pins
}

// give notes that an instance is about to be given versions, and forgets what instances had
// that are gone.
func give(r *statev1.Workload, v supervise.View, i *supervise.Instance, pins []*purserv1.Pin) {
	all := addPins(addPins(givenTo(r, i.ID), i.Revision.Pins), pins)
	r.Given = slices.DeleteFunc(r.GetGiven(), func(g *statev1.Given) bool {
		return g.GetInstance() == i.ID || v.Status.Container(g.GetInstance()) == nil
	})
	r.Given = append(r.Given, &statev1.Given{Instance: i.ID, Pins: lastGiven(all)})
}

// addPins returns pins with more of them, each once.
func addPins(pins, more []*purserv1.Pin) []*purserv1.Pin {
	all := slices.Clone(pins)
	for _, p := range more {
		if p.GetVersion() != 0 && !slices.ContainsFunc(all, func(q *purserv1.Pin) bool { return samePin(p, q) }) {
			all = append(all, p)
		}
	}
	return all
}

// lastGiven are the last of pins that are to be known of each secret.
func lastGiven(pins []*purserv1.Pin) []*purserv1.Pin {
	var last []*purserv1.Pin
	count := map[string]int{}
	for _, p := range slices.Backward(pins) {
		if count[p.GetSecret()]++; count[p.GetSecret()] <= mostGiven {
			last = append(last, p)
		}
	}
	slices.Reverse(last)
	return last
}

// givenVersions are the versions of a secret that the instances were given which are there.
func (w *workload) givenVersions(name string) []uint32 {
	var versions []uint32
	r := w.record()
	v, _ := w.supervisor.View()
	for _, i := range v.Status.Containers() {
		for _, p := range givenTo(r, i.ID) {
			if p.GetSecret() == name {
				versions = append(versions, p.GetVersion())
			}
		}
	}
	return versions
}

// redactions are the values that must not be seen of what an instance says: those of what it
// was made from, and of what it was given since. With a [inject.MissingError] those are lacking
// that nobody has any more, with another error more.
func (w *workload) redactions(ctx context.Context, spec *purserv1.LaunchSpec, resolution *inject.Resolution, given []*purserv1.Pin) (inject.Redactions, error) {
	all := resolution.Redactions()
	var gone []error
	for _, p := range given {
		refs := slices.DeleteFunc(slices.Clone(spec.GetSecrets()), func(ref *purserv1.SecretRef) bool { return ref.GetName() != p.GetSecret() })
		found, err := inject.Resolve(ctx, w.agent.secrets, inject.Request{
			Environment: w.environment(), Refs: refs, Pins: []*purserv1.Pin{p}, Workload: w.id(),
		})
		switch {
		case err == nil:
			all = all.Add(found.Redactions())
		case isA[*inject.MissingError](err):
			gone = append(gone, fmt.Errorf("finding what must not be seen of its output: %w", err))
		default:
			return all, fmt.Errorf("finding what must not be seen of its output: %w", err)
		}
	}
	return all, errors.Join(gone...)
}

// matcherOf finds the values in what an instance has said that it has been given until now.
// given is what it was given when it began to say it, should it be gone since.
func (w *workload) matcherOf(ctx context.Context, instance string, revision *supervise.Revision, given []*purserv1.Pin) (*redact.Matcher, error) {
	resolution, err := w.resolution(ctx, revision.Spec, revision.Pins)
	if err != nil {
		return nil, err
	}
	redactions, err := w.redactions(ctx, revision.Spec, resolution, addPins(given, givenTo(w.record(), instance)))
	if err != nil {
		return nil, err
	}
	return w.matcher.of(redactions), nil
}

// screen is between a command that somebody runs in an instance and who sees what it writes.
// The instance may be given other secrets meanwhile, and the command be what reads them.
type screen struct {
	*workload
	ctx      context.Context
	instance string
	spec     *purserv1.LaunchSpec
	made     *inject.Resolution

	mu      sync.Mutex
	given   []*purserv1.Pin
	current *redact.Matcher
}

// now finds the values that the instance has been given until now. One of a version that was
// destroyed since can be found by nobody; who has opened a shell has it nevertheless.
func (s *screen) now() (*redact.Matcher, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	given := addPins(s.given, givenTo(s.record(), s.instance))
	if s.current != nil && len(given) == len(s.given) {
		return s.current, nil
	}
	redactions, err := s.redactions(context.WithoutCancel(s.ctx), s.spec, s.made, given)
	if err != nil && !isA[*inject.MissingError](err) {
		return nil, err
	}
	s.given, s.current = given, s.matcher.of(redactions)
	return s.current, nil
}

// writer redacts what is written to it and passes it on.
func (s *screen) writer(to io.Writer) *screened {
	return &screened{Writer: s.agent.redacted(to, s.current), screen: s}
}

// screened is one stream of output.
type screened struct {
	*redact.Writer
	screen *screen
}

// Write passes nothing on as long as it is not known what must not be seen of it.
func (s *screened) Write(data []byte) (int, error) {
	matcher, err := s.screen.now()
	if err != nil {
		s.screen.agent.log.Warn("not shown what a command wrote", "workload", s.screen.id(), "instance", s.screen.instance, "error", err)
		return 0, err
	}
	s.Swap(matcher)
	return s.Writer.Write(data)
}
