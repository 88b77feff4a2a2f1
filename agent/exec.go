package agent

import (
	"context"
	"errors"
	"io"
	"syscall"
	"time"

	"github.com/purserd/purser/agent/supervise"
	purserv1 "github.com/purserd/purser/api/purser/v1"
	"github.com/purserd/purser/runtime"
	"github.com/purserd/purser/runtime/logs"
)

// Exec runs a command in a workload's container and returns how it ended. A
// command that cannot be run is no error: it ends with 126 or 127, as in a
// shell. When ctx ends the command is killed.
func (a *Agent) Exec(ctx context.Context, start *purserv1.ExecStart, stdin io.Reader, signals <-chan syscall.Signal, stdout, stderr io.Writer) (*purserv1.Exit, error) {
	w, instance, err := a.runningInstance(start.GetEnvironment(), start.GetId())
	if err != nil {
		return nil, err
	}
	a.emit(normal, "Exec", w.environment(), w.id(), "runs %q", start.GetCommand()[0])
	began := time.Now()
	code, err := a.runtime.Exec(ctx, instance, runtime.ExecSpec{
		Command: start.GetCommand(),
		Env:     start.GetEnv(),
		Workdir: start.GetWorkdir(),
		User:    start.GetUser(),
		Stdin:   stdin,
		Signals: signals,
	}, stdout, stderr)
	var refused *runtime.StartError
	if errors.As(err, &refused) {
		return execExit(refused.Code, refused.Message, time.Time{}, instance), nil
	}
	if err != nil {
		return nil, runtimeError(err)
	}
	return execExit(code, supervise.ExitReason(code), began, instance), nil
}

// execExit is an exit that happened now; began is zero for a command that could
// not be started.
func execExit(code uint32, reason string, began time.Time, instance string) *purserv1.Exit {
	e := supervise.Exit{Code: code, Reason: reason, StartedAt: began, FinishedAt: time.Now(), Instance: instance}
	return e.Message()
}

// Stdin returns the running container's standard input; nil when its spec
// gives it none.
func (a *Agent) Stdin(environment, id string) (io.WriteCloser, error) {
	w, instance, err := a.runningInstance(environment, id)
	if err != nil {
		return nil, err
	}
	if !w.record().GetSpec().GetStdin() {
		return nil, nil
	}
	in, err := a.runtime.Stdin(instance)
	if err != nil {
		return nil, runtimeError(err)
	}
	return in, nil
}

// Attach sends what the workload's container writes from now on, and returns
// how it ended.
func (a *Agent) Attach(ctx context.Context, environment, id string, send func(stream string, data []byte) error) (*purserv1.Exit, error) {
	w, instance, err := a.runningInstance(environment, id)
	if err != nil {
		return nil, err
	}
	for entry, err := range a.runtime.Logs().Read(ctx, instance, logs.ReadOptions{Tail: 0, Follow: true}) {
		if err != nil {
			return nil, err
		}
		if err := send(string(entry.Stream), entry.Data); err != nil {
			return nil, err
		}
	}
	v, err := w.supervisor.WaitFor(ctx, func(v supervise.View) bool {
		return v.Status.LastExit != nil && v.Status.LastExit.Instance == instance
	})
	if err != nil {
		return nil, err
	}
	return v.Status.LastExit.Message(), nil
}
