package agent

import (
	"context"
	"errors"
	"fmt"

	"github.com/purserd/purser/agent/supervise"
	purserv1 "github.com/purserd/purser/api/purser/v1"
	"github.com/purserd/purser/runtime"
)

// PreStop runs the command that a spec wants run in its container before that is
// stopped, and returns once it has ended. It is killed when ctx ends. An error says
// how it ended, and what it wrote.
func (c containers) PreStop(ctx context.Context, instance string, revision *supervise.Revision) error {
	command := revision.Spec.GetHooks().GetPreStop()
	if len(command) == 0 {
		return nil
	}
	c.w.leave(ctx, instance)
	err := c.command(ctx, instance, revision, command)
	if err == nil {
		return nil
	}
	err = fmt.Errorf("hooks.pre_stop: %w", gone(err))
	switch {
	case errors.Is(context.Cause(ctx), supervise.ErrOverridden):
		c.w.emit(warning, "PreStopFailed", "container %s: hooks.pre_stop has not ended in the time there was for it and the stop signal together (by stop.grace, the grace asked for, or the deadline of a drain): the container is killed without the signal", instance)
	case ctx.Err() == nil && !errors.Is(err, supervise.ErrGone):
		c.w.emit(warning, "PreStopFailed", "container %s: %v", instance, err)
	}
	return err
}

// errCommand is wrapped by the error of a command that its container answers for: it
// ended with another status than 0, or cannot be executed.
var errCommand = errors.New("the command has failed")

// commandError is such an error, in words that hold no secret.
type commandError struct{ error }

func (commandError) Is(target error) bool { return target == errCommand }

// command runs a command of a spec in an instance, with the environment of that. Its
// error wraps ctx's when that has ended first; then it has been killed.
func (c containers) command(ctx context.Context, instance string, revision *supervise.Revision, command []string) error {
	resolution, err := c.w.resolution(ctx, revision.Spec, revision.Pins)
	if err != nil {
		return err
	}
	var said answer
	given := givenTo(c.w.record(), instance)
	code, err := c.w.agent.runtime.Exec(ctx, instance, runtime.ExecSpec{
		Command: command, Secrets: c.w.merge(nil, revision.Spec, resolution, instance),
	}, said.stdout(), said.stderr())
	with := func(happened string) error { return c.w.say(ctx, instance, revision, given, &said, happened) }
	var refused *runtime.StartError
	switch {
	case err == nil && code == 0:
		return nil
	case err == nil:
		return commandError{with(supervise.ExitReason(code))}
	case ctx.Err() != nil:
		return &cutShort{said: with("was killed before it had ended"), cause: errors.Join(ctx.Err(), err)}
	case errors.As(err, &refused):
		return commandError{with("cannot be executed: " + refused.Message)}
	}
	return &cutShort{said: with(err.Error()), cause: err}
}

// say makes an error of what has happened to an instance and of what was said then, without
// the values that it was given until now. Nothing is shown of it while these cannot be had.
func (w *workload) say(ctx context.Context, instance string, revision *supervise.Revision, given []*purserv1.Pin, said *answer, happened string) error {
	matcher, err := w.matcherOf(context.WithoutCancel(ctx), instance, revision, given)
	if err != nil {
		w.agent.log.Warn("not shown what was said, as it is not known what must not be seen of it", "workload", w.id(), "instance", instance, "error", err)
		return errUnshown
	}
	return said.with(happened, matcher, w.agent.runtime.Redacted)
}

// errUnshown stands for what may hold secrets that are not there to be looked for.
var errUnshown = errors.New("has failed; what it said is not shown, as secrets that its container was given cannot be read")

// cutShort is the error of a command of which nobody knows how it would have ended.
type cutShort struct{ said, cause error }

func (e *cutShort) Error() string { return e.said.Error() }
func (e *cutShort) Unwrap() error { return e.cause }
