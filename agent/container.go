package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"syscall"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/purserd/purser/agent/state"
	"github.com/purserd/purser/agent/supervise"
	statev1 "github.com/purserd/purser/api/purser/state/v1"
	purserv1 "github.com/purserd/purser/api/purser/v1"
	"github.com/purserd/purser/failpoint"
	"github.com/purserd/purser/inject"
	"github.com/purserd/purser/metrics"
	"github.com/purserd/purser/runtime"
)

// containers is what a workload's supervisor sees of package runtime.
type containers struct{ w *workload }

// Start resolves the workload's pins to values, merges the environment, and
// has the container made.
func (c containers) Start(ctx context.Context, instance string, revision *supervise.Revision, enter func(supervise.State, string)) (supervise.Started, error) {
	r := c.w.recordOf(revision)
	if err := c.w.passGate(ctx, instance, enter); err != nil {
		return supervise.Started{}, err
	}
	c.w.dropOutdated()
	if err := c.w.pullFirst(ctx, r, enter); err != nil {
		return supervise.Started{}, err
	}
	began := time.Now()
	made, err := c.w.resolve(ctx, r, instance)
	if errors.Is(err, runtime.ErrImageNotFound) && mayPull(r.GetSpec()) {
		if err := c.w.pull(ctx, r, enter); err != nil {
			return supervise.Started{}, err
		}
		began = time.Now()
		made, err = c.w.resolve(ctx, r, instance)
	}
	c.w.agent.metrics.Launched(metrics.Resolve, began, err)
	var got supervise.Started
	if err == nil {
		got, err = c.start(ctx, made)
		v, _ := c.w.supervisor.View()
		err = rollingWithoutAddress(v.Status, err)
	}
	c.w.agent.metrics.Launched(metrics.Total, began, err)
	return got, startError(err)
}

// start creates and starts an instance.
func (c containers) start(ctx context.Context, i runtime.Instance) (supervise.Started, error) {
	a := c.w.agent
	if err := c.w.warnOfReaders(i); err != nil {
		return supervise.Started{}, err
	}
	if err := failpoint.Error("start.resolved"); err != nil {
		return supervise.Started{}, err
	}
	a.imageUse.touch(i.Image.Ref)
	began := time.Now()
	err := a.runtime.Create(ctx, i)
	a.metrics.Launched(metrics.Create, began, err)
	if err != nil {
		return supervise.Started{}, c.w.screened(i, err)
	}
	failpoint.Here("start.created")
	began = time.Now()
	pid, err := a.runtime.Start(ctx, i.ID)
	failpoint.Here("start.started")
	a.metrics.Launched(metrics.Start, began, err)
	return supervise.Started{PID: pid, ImageDigest: i.Image.Digest, Boot: a.boot, Addresses: a.runtime.Addresses(i.ID)}, c.w.screened(i, err)
}

// found is what a launch looked up: the image, nil when containerd was not
// there, and the secrets. It is used once, as both may change afterwards.
type found struct {
	spec       *purserv1.LaunchSpec
	image      *runtime.Image
	resolution *inject.Resolution
}

// takeFound returns what was looked up for a spec and its pins, once.
func (w *workload) takeFound(spec *purserv1.LaunchSpec, pins []*purserv1.Pin) *found {
	w.mu.Lock()
	defer w.mu.Unlock()
	f := w.found
	if f == nil || f.spec != spec || !state.SamePins(f.resolution.Pins, pins) {
		return nil
	}
	w.found = nil
	return f
}

// recordOf is the workload's record as it was when a revision was asked for. What is being
// tried is in it as a trial, so that nobody who has the container alone takes it for proven.
func (w *workload) recordOf(r *supervise.Revision) *statev1.Workload {
	record := proto.CloneOf(w.record())
	if r.Generation != record.GetGeneration() {
		record.Fallback, record.BackedOut = nil, nil
	}
	record.Generation, record.Spec = r.Generation, r.Spec
	if !state.SamePins(pinsOf(record), r.Pins) {
		record.Pins, record.Trial = r.Pins, nil
	}
	return record
}

// look looks up what an instance is made from.
func (w *workload) look(ctx context.Context, r *statev1.Workload) (*found, error) {
	if f := w.takeFound(r.GetSpec(), pinsOf(r)); f != nil {
		return f, nil
	}
	ref := r.GetSpec().GetImage().GetRef()
	image, err := w.agent.runtime.Image(ctx, ref)
	if err != nil {
		return nil, w.agent.imageError(ctx, ref, err)
	}
	resolution, err := w.resolution(ctx, r.GetSpec(), pinsOf(r))
	if err != nil {
		return nil, err
	}
	return &found{spec: r.GetSpec(), image: image, resolution: resolution}, nil
}

// resolution has the values of a spec's secrets, in the versions that it is pinned to.
func (w *workload) resolution(ctx context.Context, spec *purserv1.LaunchSpec, pins []*purserv1.Pin) (*inject.Resolution, error) {
	return inject.Resolve(ctx, w.agent.secrets, inject.Request{
		Environment: w.environment(), Refs: spec.GetSecrets(), Pins: pins, Workload: w.id(),
	})
}

// resolve gets all that an instance is made from: the image, the environment, and the
// pinned secrets.
func (w *workload) resolve(ctx context.Context, r *statev1.Workload, instance string) (runtime.Instance, error) {
	spec := r.GetSpec()
	devices, err := w.agent.runtime.Devices(spec)
	if err != nil {
		return runtime.Instance{}, err
	}
	f, err := w.look(ctx, r)
	if err != nil {
		return runtime.Instance{}, err
	}
	w.recordGiven(ctx, r, f.resolution, instance)
	below := slices.Concat(f.image.Config.Env, devices.Env())
	if spec.GetTty() {
		below = append([]string{termVariable + "=" + defaultTerm}, below...)
	}
	r.Status = &statev1.Status{Instances: []*statev1.Instance{{Id: instance, ImageDigest: f.image.Digest}}}
	return runtime.Instance{
		ID: instance, Spec: spec, Image: f.image, Env: w.merge(below, spec, f.resolution, instance), Devices: devices, Files: f.resolution.Directories,
		Redactions: f.resolution.Redactions(), Size: w.terminalSize(), Record: r,
	}, nil
}

// merge is the environment of an instance. In image are the variables of the image, and after
// them those of devices.
func (w *workload) merge(image []string, spec *purserv1.LaunchSpec, resolution *inject.Resolution, instance string) inject.Environ {
	return inject.Merge(inject.Layers{
		Image:    image,
		ImageEnv: spec.GetImage().GetEnv(),
		Secrets:  resolution.Secrets,
		Env:      spec.GetEnv(),
		Reserved: map[string]string{
			"PURSER_APP":         spec.GetApp(),
			"PURSER_FUNCTION":    spec.GetFunction(),
			"PURSER_ENVIRONMENT": w.environment(),
			"PURSER_WORKLOAD":    w.id(),
			"PURSER_INSTANCE":    instance,
		},
	})
}

// imageError says of an image that is not there what it may have been meant for.
func (a *Agent) imageError(ctx context.Context, ref string, err error) error {
	if !errors.Is(err, runtime.ErrImageNotFound) {
		return err
	}
	// Without a list the error says less, which is better than another error.
	images, _ := a.runtime.ListImages(ctx)
	var names []string
	for _, image := range images {
		names = append(names, image.Ref)
	}
	return missingImage(ref, names)
}

// startError tells what is wrong with the workload from what is not there at
// the moment, and comes back by itself or by somebody else's doing.
func startError(err error) error {
	var refused *runtime.StartError
	var wrong *runtime.SpecError
	var undeliverable *inject.UndeliverableError
	switch {
	case errors.As(err, &refused):
		return &supervise.ExitError{Code: refused.Code, Message: refused.Message}
	case errors.As(err, &wrong), errors.As(err, &undeliverable):
		return &supervise.ExitError{Code: unstarted, Message: err.Error()}
	default:
		return err
	}
}

// warnOfReaders tells of an account of the host's that can read the secrets of an
// instance, which is refused where the configuration says so.
func (w *workload) warnOfReaders(i runtime.Instance) error {
	if !i.Env.HasSecret() {
		return nil
	}
	warned, err := w.agent.keepImageFromReaders(i.Image, i.Spec)
	if err != nil {
		return &runtime.SpecError{Err: err}
	}
	if warned != "" {
		w.emit(warning, "SecretsReadable", "container %s: %s", i.ID, warned)
	}
	return nil
}

// unstarted is the exit status of a container that could not be made.
const unstarted = 128

func (c containers) Wait(ctx context.Context, instance string) (supervise.Exit, error) {
	exit, err := c.w.agent.runtime.Wait(ctx, instance)
	if err != nil && !errors.Is(err, runtime.ErrLost) {
		return supervise.Exit{}, gone(err)
	}
	return *c.w.exited(instance, exit), nil
}

// exitOf puts into words how a container ended.
func exitOf(instance string, e runtime.Exit) *supervise.Exit {
	exit := &supervise.Exit{Code: e.Code, Cause: supervise.Exited, Reason: supervise.ExitReason(e.Code), FinishedAt: e.At, Instance: instance}
	switch {
	case e.Unheard && e.Code == supervise.Unknown:
		exit.Cause, exit.Reason = supervise.Lost, "ended; its shim, the process of containerd's that watched over it, did not answer, and its exit status is unknown"
	case e.Unheard:
		exit.Cause, exit.Reason = supervise.Lost, exit.Reason+"; its shim, the process of containerd's that watched over it, did not answer"
	case e.Lost && e.Code == supervise.Unknown:
		exit.Cause, exit.Reason = supervise.Lost, "its shim, the process of containerd's that watched over it, died; its exit status is unknown"
	case e.Lost:
		exit.Cause, exit.Reason = supervise.Lost, exit.Reason+", as its shim, the process of containerd's that watched over it, died"
	case e.OOMKills > 0 && e.Code == killed:
		exit.Cause, exit.Reason = supervise.OOMKilled, outOfMemory
	case e.OOMKills > 0 && e.Code != 0:
		exit.Reason += fmt.Sprintf("; before that the kernel had killed %d of its processes for want of memory", e.OOMKills)
	}
	return exit
}

// outOfMemory names both causes: the kernel counts them together.
const outOfMemory = "killed by the kernel for want of memory: it had reached its limit (resources.memory), or the node had none left"

// killed is the exit status of what SIGKILL ended.
const killed = 128 + uint32(syscall.SIGKILL)

// Promote has an instance take over from the one that is kept beside it: it returns when
// no new connection is led to that any more.
func (c containers) Promote(ctx context.Context, _ string) error {
	if err := c.w.agent.publisher.Settle(ctx, c.w.portOwner()); err != nil {
		return fmt.Errorf("waiting for its ports to lead to it: %w", err)
	}
	return failpoint.Error("promote.done")
}

func (c containers) Stop(ctx context.Context, instance string, revision *supervise.Revision) error {
	c.w.leave(ctx, instance)
	sig := c.w.agent.runtime.StopSignal(ctx, revision.Spec)
	err := gone(c.w.agent.runtime.Kill(ctx, instance, sig))
	return errors.Join(err, failpoint.Error("stop.signalled"))
}

func (c containers) Kill(ctx context.Context, instance string) error {
	c.w.leave(ctx, instance) // there may have been no signal before
	err := gone(c.w.agent.runtime.Kill(ctx, instance, syscall.SIGKILL))
	return errors.Join(err, failpoint.Error("kill.signalled"))
}

func (c containers) Delete(ctx context.Context, instance string) error {
	if c.w.isHeldBack(instance) {
		return nil // whether containerd is there or not
	}
	err := gone(c.w.agent.runtime.Delete(ctx, instance))
	return errors.Join(err, failpoint.Error("delete.done"))
}

// Inspect looks for an instance of an earlier agent, and takes up its output.
func (c containers) Inspect(ctx context.Context, instance string) (supervise.Found, error) {
	answer := supervise.Found{Boot: c.w.agent.boot}
	found, err := c.w.agent.runtime.Inspect(ctx, instance)
	if err != nil {
		return answer, gone(err)
	}
	if err := failpoint.Error("inspect.found"); err != nil {
		return answer, err
	}
	if found.State != runtime.StateRunning && found.State != runtime.StateStopped {
		return answer, nil
	}
	// Of one that has ended, what it wrote last waits to be read.
	if err := c.openLogs(ctx, instance); err != nil {
		return answer, err
	}
	if found.State == runtime.StateStopped {
		answer.Exit = c.w.exited(instance, found.Exit)
		return answer, nil
	}
	c.w.adopted(found.PID)
	answer.Running, answer.PID, answer.Addresses = true, found.PID, found.Addresses
	return answer, nil
}

// openLogs takes up an instance's output. When there is nothing to read it from
// any more, the instance is worth more than its output.
func (c containers) openLogs(ctx context.Context, instance string) error {
	err := c.w.agent.runtime.OpenLogs(ctx, instance, func() (runtime.Instance, error) { return c.outputOf(ctx, instance) })
	if errors.Is(err, runtime.ErrNotFound) {
		c.w.emit(warning, "OutputLost", "the output of container %s cannot be read any more", instance)
		return nil
	}
	if err != nil {
		return fmt.Errorf("taking up the output of %s: %w", instance, err)
	}
	return nil
}

// outputOf is what tells the log helper how to read an instance's output, if it has
// forgotten. Without the values of its secrets nothing of it can be kept.
func (c containers) outputOf(ctx context.Context, instance string) (runtime.Instance, error) {
	spec, resolution, err := c.w.madeFrom(ctx, instance)
	if err != nil {
		c.w.emitDropped(instance, err)
		return runtime.Instance{ID: instance, Spec: c.w.record().GetSpec()}, err
	}
	redactions, err := c.w.redactions(ctx, spec, resolution, givenTo(c.w.record(), instance))
	if err != nil {
		c.w.emitDropped(instance, err)
		return runtime.Instance{ID: instance, Spec: spec}, err
	}
	return runtime.Instance{ID: instance, Spec: spec, Redactions: redactions}, nil
}

func (w *workload) emitDropped(instance string, err error) {
	w.emit(warning, "OutputDropped", "the output of container %s is dropped, as its secrets cannot be read, which must not be seen in it: %v", instance, err)
}

// gone translates the runtime's words for a container that is not there, or of
// which nobody can tell any more.
func gone(err error) error {
	if errors.Is(err, runtime.ErrNotFound) || errors.Is(err, runtime.ErrLost) {
		return fmt.Errorf("%w (%w)", err, supervise.ErrGone)
	}
	return err
}

// shimHangs tells of a container whose shim does not answer.
func (a *Agent) shimHangs(instance, message string) {
	if w := a.workloadOf(instance); w != nil {
		w.emit(warning, "ShimHangs", "container %s: %s", instance, message)
	}
}
