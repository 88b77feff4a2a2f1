package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"

	"github.com/purserd/purser/api/codec"
	"github.com/purserd/purser/api/launchspec"
	purserv1 "github.com/purserd/purser/api/purser/v1"
	"github.com/purserd/purser/client"
)

// callTimeout bounds the calls that only pass something on or clean up.
const callTimeout = 15 * time.Second

// launchPatience is how long an interrupted launch is waited for.
const launchPatience = 2 * time.Second

// foreground is one `purser run`: a job whose output, signals and status are
// this process's own.
//
// A launch is four calls on one connection: Launch, then Logs and Wait side
// by side, then Remove.
type foreground struct {
	session     *session
	api         *client.Client
	spec        *purserv1.LaunchSpec
	environment string
	id          string
	// grace is how long the function may take to end after a first signal.
	grace time.Duration
	stdin bool
	// force takes a quarantined version that the spec names.
	force bool
	// terminal is nil when the function has none, or purser.
	terminal *terminal
	// left is closed when the detach keys were typed.
	left chan struct{}

	// pulling is set while the image is pulled, before anything is launched.
	pulling atomic.Bool
	// early are signals that came before the launch was answered.
	early []syscall.Signal
	// ending is the signal that asked the function to end; 0 when none has.
	ending   syscall.Signal
	overtime <-chan time.Time
}

// runEnd is what a run came to.
type runEnd struct {
	workload *purserv1.Workload
	err      error
}

func (r *foreground) run(ctx context.Context) error {
	// A reader that goes away must not end this process before it has removed
	// the workload: the write fails instead.
	signal.Ignore(syscall.SIGPIPE)
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, passed...)
	defer signal.Stop(signals)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()

	refused, err := r.launch(ctx, signals)
	if refused {
		return err
	}
	err = r.attend(ctx, cancel, signals, err)
	r.terminal.restore()
	if errors.Is(err, errDetached) {
		r.session.warn("detached: it runs on as %s; come back with: purser attach -it %s", r.id, r.id)
		return nil
	}
	r.remove(ctx)
	return err
}

// attend stays with the function until it has ended, if it was launched.
func (r *foreground) attend(ctx context.Context, cancel context.CancelFunc, signals <-chan os.Signal, launched error) error {
	defer r.terminal.restore()
	if launched != nil {
		return launched
	}
	if r.stdin || r.terminal != nil {
		go r.attach(ctx)
	}
	return r.follow(ctx, cancel, signals)
}

// launch tells whether the agent refused the spec; otherwise there may be a
// workload to remove, even with an error. A signal that comes before the
// answer is for the function, if there is an answer soon.
func (r *foreground) launch(ctx context.Context, signals <-chan os.Signal) (refused bool, err error) {
	ctx, giveUp := context.WithCancel(ctx)
	defer giveUp()
	answer := async(func() error { return r.launchWithImage(ctx) })
	var impatient <-chan time.Time
	for {
		select {
		case err := <-answer:
			return surelyRefused(err), err
		case got := <-signals:
			number := got.(syscall.Signal)
			r.early = append(r.early, number)
			if ends(number) && r.pulling.Load() {
				impatient = time.After(0) // nothing is launched yet
			} else if ends(number) {
				impatient = time.After(launchPatience)
			}
		case <-impatient:
			giveUp()
			<-answer // so that nothing is launched after it has been removed
			return false, &exitError{code: exitSignalled + int(r.early[len(r.early)-1])}
		}
	}
}

// launchWithImage launches the spec, and pulls its image where the policy says so:
// beforehand, so that whoever waits sees how far it has come, and hears at once
// of an image that cannot be had.
func (r *foreground) launchWithImage(ctx context.Context) error {
	policy := launchspec.PullPolicy(r.spec)
	switch policy {
	case launchspec.PullAlways:
		if err := r.pull(ctx); err != nil {
			return err
		}
	case launchspec.PullIfNotPresent:
		r.spec.Image.Pull = proto.String(launchspec.PullNever)
		err := r.launchOnce(ctx)
		if _, absent := codec.AbsentImage(err); !absent {
			return err
		}
		if err := r.pull(ctx); err != nil {
			return err
		}
	default: // never, or what the agent refuses
		return r.launchOnce(ctx)
	}
	// Should the image have gone again, the agent sees to it.
	r.spec.Image.Pull = proto.String(launchspec.PullIfNotPresent)
	return r.launchOnce(ctx)
}

func (r *foreground) launchOnce(ctx context.Context) error {
	request := &purserv1.LaunchRequest{Spec: r.spec, Force: r.force}
	if r.terminal != nil {
		request.Size = r.terminal.size()
	}
	_, err := r.api.Workloads.Launch(ctx, connect.NewRequest(request))
	return err
}

func (r *foreground) pull(ctx context.Context) error {
	r.pulling.Store(true)
	defer r.pulling.Store(false)
	image := r.spec.GetImage()
	r.session.warn("pulling image %s", printable(image.GetRef()))
	_, err := r.session.pull(ctx, r.api, &purserv1.PullRequest{Ref: image.GetRef(), Environment: r.environment, AuthSecret: image.AuthSecret})
	return err
}

// surelyRefused tells an answer of the agent's from a loss of the connection,
// after which the workload may be there.
func surelyRefused(err error) bool {
	switch connect.CodeOf(err) {
	case connect.CodeInvalidArgument, connect.CodeFailedPrecondition, connect.CodeNotFound,
		connect.CodeUnimplemented, connect.CodePermissionDenied, connect.CodeUnauthenticated:
		return err != nil
	}
	return client.Unreachable(err)
}

// follow streams the output until the function has ended, passing on what
// signals arrive, and returns its status.
func (r *foreground) follow(ctx context.Context, cancel context.CancelFunc, signals <-chan os.Signal) error {
	output := async(func() error { return r.copyOutput(ctx) })
	end := async(func() runEnd { return r.wait(ctx) })
	defer beside(ctx, r.tellDelay)()
	for _, number := range r.early {
		r.pass(ctx, cancel, number)
	}
	var outputErr error
	var last *runEnd
	for output != nil || end != nil {
		select {
		case got := <-signals:
			r.pass(ctx, cancel, got.(syscall.Signal))
		case <-r.overtime:
			r.kill(ctx, cancel)
		case outputErr = <-output:
			output = nil
			if isOutputError(outputErr) {
				r.kill(ctx, cancel)
			}
		case <-r.left:
			return errDetached
		case e := <-end:
			last, end = &e, nil
			if e.err != nil {
				cancel() // the output may never end
			}
		}
	}
	r.terminal.restore() // for what is said now
	return r.status(*last, outputErr)
}

func (r *foreground) copyOutput(ctx context.Context) error {
	request := &purserv1.LogsRequest{Environment: r.environment, Id: r.id, Follow: true}
	return copyLogs(ctx, r.api, request, func(entry *purserv1.LogsResponse) error {
		return writeStream(entry.GetStream(), entry.GetData(), r.session.out, r.session.err)
	})
}

func (r *foreground) wait(ctx context.Context) runEnd {
	request := &purserv1.WaitRequest{Environment: r.environment, Id: r.id, Until: "finished"}
	response, err := r.api.Workloads.Wait(ctx, connect.NewRequest(request))
	if err != nil {
		return runEnd{err: err}
	}
	return runEnd{workload: response.Msg.GetWorkload()}
}

// attach passes on standard input, and the terminal's keys and sizes, once the
// container runs. A function that ended before is no error: its status says what
// is to be said.
func (r *foreground) attach(ctx context.Context) {
	defer r.terminal.onPanic()
	request := &purserv1.WaitRequest{Environment: r.environment, Id: r.id, Until: "running"}
	if _, err := r.api.Workloads.Wait(ctx, connect.NewRequest(request)); err != nil {
		return
	}
	at := &attachClient{session: r.session, environment: r.environment, id: r.id, terminal: r.terminal}
	// The output comes by Logs, from its start; here it is only drained.
	drop := func(output) error { return nil }
	if _, err := at.connect(ctx, r.api.Workloads.Attach(ctx), r.stdin, drop); errors.Is(err, errDetached) {
		close(r.left)
	}
}

// ends tells whether a signal asks a program to end.
func ends(number syscall.Signal) bool {
	return number == syscall.SIGINT || number == syscall.SIGTERM || number == syscall.SIGHUP
}

// pass gives a signal to the function. The second that asks it to end kills
// it, and so does the end of its grace: PID 1 of a container may ignore both.
func (r *foreground) pass(ctx context.Context, cancel context.CancelFunc, number syscall.Signal) {
	if ends(number) {
		if r.ending != 0 {
			r.kill(ctx, cancel)
			return
		}
		r.ending = number
		r.overtime = time.After(r.grace)
	}
	ctx, done := context.WithTimeout(ctx, callTimeout)
	defer done()
	request := &purserv1.SignalRequest{Environment: r.environment, Id: r.id, Signal: fmt.Sprint(int(number))}
	if _, err := r.api.Workloads.Signal(ctx, connect.NewRequest(request)); err != nil && ends(number) {
		r.kill(ctx, cancel) // not started yet, or between two tries
	}
}

// kill ends the function without grace. When that cannot be done, it ends the
// waiting.
func (r *foreground) kill(ctx context.Context, cancel context.CancelFunc) {
	r.overtime = nil
	ctx, done := context.WithTimeout(ctx, callTimeout)
	defer done()
	request := &purserv1.StopRequest{Environment: r.environment, Id: r.id, Grace: proto.String("0")}
	if _, err := r.api.Workloads.Stop(ctx, connect.NewRequest(request)); err != nil {
		cancel()
	}
}

// remove forgets the workload, also after an interrupt.
func (r *foreground) remove(ctx context.Context) {
	ctx, done := context.WithTimeout(context.WithoutCancel(ctx), r.grace+callTimeout)
	defer done()
	request := &purserv1.RemoveRequest{Environment: r.environment, Id: r.id, Force: true}
	_, err := r.api.Workloads.Remove(ctx, connect.NewRequest(request))
	if err != nil && connect.CodeOf(err) != connect.CodeNotFound {
		r.session.warn("%s is still on the node: %s", r.id, headline(err))
	}
}

// status is the exit status of the run, with an error when purser has
// something to say.
func (r *foreground) status(end runEnd, outputErr error) error {
	switch {
	case errors.Is(outputErr, syscall.EPIPE):
		return &exitError{code: exitSignalled + int(syscall.SIGPIPE)}
	case isOutputError(outputErr):
		return outputErr
	case r.ending != 0 && end.workload.GetLastExit() == nil:
		return &exitError{code: exitSignalled + int(r.ending)}
	case end.err != nil:
		return fmt.Errorf("waiting for %s: %w", r.id, end.err)
	case end.workload.GetLastExit() == nil:
		return fmt.Errorf("it did not run: %s", orDash(end.workload.GetReason()))
	case outputErr != nil:
		return fmt.Errorf("the output is not complete: %w", outputErr)
	}
	r.explain(end.workload)
	return endStatus(end.workload)
}

// explain says why a function was ended when it was not the user's doing, such
// as by its timeout.
func (r *foreground) explain(w *purserv1.Workload) {
	exit := w.GetLastExit()
	if exit.GetStartedAt() == nil || exit.GetReason() == "" {
		return
	}
	if !plain(exit.GetReason()) || r.ending == 0 && exit.GetCode() > exitSignalled {
		r.session.warn("%s", printable(exit.GetReason()))
	}
}

func isOutputError(err error) bool {
	var failed *outputError
	return errors.As(err, &failed)
}

// async runs f beside the caller and gives its result.
func async[T any](f func() T) <-chan T {
	result := make(chan T, 1)
	go func() { result <- f() }()
	return result
}

// beside runs f beside the caller until stop is called, which waits for its end.
func beside(ctx context.Context, f func(context.Context)) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	running.Go(func() { f(ctx) })
	return func() {
		cancel()
		running.Wait()
	}
}
