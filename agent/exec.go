package agent

import (
	"cmp"
	"context"
	"errors"
	"io"
	"maps"
	"syscall"
	"time"

	"github.com/purserd/purser/agent/supervise"
	purserv1 "github.com/purserd/purser/api/purser/v1"
	"github.com/purserd/purser/inject"
	"github.com/purserd/purser/inject/audit"
	"github.com/purserd/purser/inject/redact"
	"github.com/purserd/purser/runtime"
	"github.com/purserd/purser/runtime/loghelper"
	"github.com/purserd/purser/runtime/logs"
)

// ExecIO is what a command is connected to. Any of it but the writers may be nil.
type ExecIO struct {
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	Signals        <-chan syscall.Signal
	// Sizes of the terminal, after that which the request begins with.
	Sizes <-chan runtime.Size
	// Detach lets the command run on by itself once it is closed.
	Detach <-chan struct{}
}

// Exec runs a command in a workload's container and returns how it ended; nil for
// one that was detached from. A command that cannot be run is no error: it ends
// with 126 or 127, as in a shell. When ctx ends the command is killed.
func (a *Agent) Exec(ctx context.Context, start *purserv1.ExecStart, streams ExecIO) (*purserv1.Exit, error) {
	w, instance, err := a.runningInstance(start.GetEnvironment(), start.GetId())
	if err != nil {
		return nil, err
	}
	spec, resolution, err := w.madeFrom(ctx, instance)
	if err != nil {
		return nil, err
	}
	secrets := w.merge(nil, spec, resolution, instance)
	if err := copied(ctx, w.environment(), start, a.copies); err != nil {
		return nil, err
	}
	screen := &screen{workload: w, ctx: ctx, instance: instance, spec: spec, made: resolution}
	matcher, err := screen.now()
	if err != nil {
		return nil, err
	}
	program := matcher.Text(start.GetCommand()[0])
	w.emit(normal, "Exec", "runs %q", program)
	record := audit.Record{
		Action: audit.Exec, Outcome: audit.Begun, Environment: w.environment(), Workload: w.id(), Instance: instance,
		Command: program, Secrets: given(resolution),
	}
	record.Begun = a.audit.note(ctx, record)
	record.Secrets = nil
	exit, err := a.exec(ctx, screen, secrets, start, streams)
	a.audit.note(ctx, ended(record, exit, err))
	return exit, err
}

// ended is the record of a command's end.
func ended(r audit.Record, exit *purserv1.Exit, err error) audit.Record {
	switch {
	case err != nil:
		// The text may repeat the command.
		r.Outcome, r.Why = audit.Failed, "the agent's log has the reason"
	case exit == nil:
		r.Outcome, r.Why = audit.Done, "detached; it runs on"
	default:
		code := exit.GetCode()
		r.Outcome, r.Exit = audit.Done, &code
	}
	return r
}

// exec runs a command that may be run.
func (a *Agent) exec(ctx context.Context, screen *screen, secrets inject.Environ, start *purserv1.ExecStart, streams ExecIO) (*purserv1.Exit, error) {
	began, w, instance := time.Now(), screen.workload, screen.instance
	stdout, stderr := screen.writer(streams.Stdout), screen.writer(streams.Stderr)
	code, err := a.runtime.Exec(ctx, instance, runtime.ExecSpec{
		Command:  start.GetCommand(),
		Secrets:  secrets,
		Env:      w.execEnv(start),
		Workdir:  start.GetWorkdir(),
		User:     start.GetUser(),
		Allow:    func(uid uint32) error { return w.allowExec(secrets, uid) },
		Stdin:    streams.Stdin,
		Signals:  streams.Signals,
		Terminal: terminalOf(start, streams.Sizes),
		Detach:   streams.Detach,
	}, stdout, stderr)
	// What was held back, as the beginning of a value, comes before the exit.
	stdout.Close()
	stderr.Close()
	if errors.Is(err, runtime.ErrDetached) {
		return nil, nil
	}
	var refused *runtime.StartError
	if errors.As(err, &refused) {
		return execExit(refused.Code, refused.Message, time.Time{}, instance), nil
	}
	var unfit *runtime.SpecError
	if errors.As(err, &unfit) {
		return nil, &Refusal{Reason: Precondition, Err: unfit}
	}
	if err != nil {
		return nil, runtimeError(err)
	}
	return execExit(code, supervise.ExitReason(code), began, instance), nil
}

// redacted replaces the values of secrets in what is written.
func (a *Agent) redacted(to io.Writer, m *redact.Matcher) *redact.Writer {
	return redact.NewWriter(to, m, loghelper.Silence, a.runtime.Redacted)
}

// allowExec is asked before a command runs with secrets as a user of its own.
func (w *workload) allowExec(env inject.Environ, uid uint32) error {
	if !env.HasSecret() {
		return nil
	}
	warned, err := w.agent.keepFromReaders(uid)
	if err != nil {
		return &Refusal{Reason: Precondition, Err: err}
	}
	if warned != "" {
		w.emit(warning, "SecretsReadable", "a command in it: %s", warned)
	}
	return nil
}

// terminalOf is the terminal that a command is to have; nil for none.
func terminalOf(start *purserv1.ExecStart, sizes <-chan runtime.Size) *runtime.Terminal {
	if !start.GetTty() {
		return nil
	}
	return &runtime.Terminal{Size: SizeOf(start.GetSize()), Sizes: sizes}
}

// SizeOf reads a terminal's size; that of nil is unknown.
func SizeOf(size *purserv1.TerminalSize) runtime.Size {
	return runtime.Size{Rows: uint16(size.GetRows()), Columns: uint16(size.GetColumns())}
}

// termVariable names the kind of terminal that a program writes to, and
// defaultTerm is one that every image knows.
const (
	termVariable = "TERM"
	defaultTerm  = "xterm"
)

// execEnv are the variables that a command is given besides its container's: on a
// terminal the client's TERM, unless the client or the workload's spec chose one.
func (w *workload) execEnv(start *purserv1.ExecStart) map[string]string {
	_, given := start.GetEnv()[termVariable]
	_, specified := w.record().GetSpec().GetEnv()[termVariable]
	if !start.GetTty() || given || specified {
		return start.GetEnv()
	}
	env := map[string]string{termVariable: cmp.Or(start.GetTerm(), defaultTerm)}
	maps.Copy(env, start.GetEnv())
	return env
}

// madeFrom is what a running instance was made from.
func (w *workload) madeFrom(ctx context.Context, instance string) (*purserv1.LaunchSpec, *inject.Resolution, error) {
	v, _ := w.supervisor.View()
	i := v.Status.Container(instance)
	if i == nil {
		return nil, nil, refuse(Precondition, "workload %s in environment %s has just ended", w.id(), w.environment())
	}
	resolution, err := w.resolution(ctx, i.Revision.Spec, i.Revision.Pins)
	if err != nil {
		return nil, nil, &Refusal{Reason: Precondition, Err: err}
	}
	return i.Revision.Spec, resolution, nil
}

// specOf is the spec that an instance was made from: in a rolling change that may not be
// the workload's.
func (w *workload) specOf(instance string) *purserv1.LaunchSpec {
	v, _ := w.supervisor.View()
	if i := v.Status.Container(instance); i != nil {
		return i.Revision.Spec
	}
	return w.record().GetSpec()
}

// execExit is an exit that happened now; began is zero for a command that could
// not be started.
func execExit(code uint32, reason string, began time.Time, instance string) *purserv1.Exit {
	e := supervise.Exit{Code: code, Reason: reason, StartedAt: began, FinishedAt: time.Now(), Instance: instance}
	return e.Message()
}

// Attachment is a connection to the streams of one container.
type Attachment struct {
	// Stdin is the container's; nil when its spec gives it none.
	Stdin *runtime.Stdin

	workload *workload
	instance string
	output   *logs.Reader
}

// Attach connects to the container that a workload runs. All that it writes
// once Attach has returned, answers to Stdin included, comes by Follow. The
// attachment is to be closed.
func (a *Agent) Attach(environment, id string) (*Attachment, error) {
	w, instance, err := a.runningInstance(environment, id)
	if err != nil {
		return nil, err
	}
	output, err := a.runtime.Logs().Reader(instance, logs.ReadOptions{Tail: 0, Follow: true})
	if err != nil {
		return nil, err
	}
	at := &Attachment{workload: w, instance: instance, output: output}
	if !w.specOf(instance).GetStdin() {
		return at, nil
	}
	if at.Stdin, err = a.runtime.Stdin(instance); err != nil {
		return nil, errors.Join(runtimeError(err), output.Close())
	}
	return at, nil
}

// Follow sends what the container writes, and returns how it ended.
func (at *Attachment) Follow(ctx context.Context, send func(stream string, data []byte) error) (*purserv1.Exit, error) {
	for entry, err := range at.output.Entries(ctx) {
		if err != nil {
			return nil, err
		}
		if err := send(string(entry.Stream), entry.Data); err != nil {
			return nil, err
		}
	}
	v, err := at.workload.supervisor.WaitFor(ctx, func(v supervise.View) bool {
		return v.Status.ExitOf(at.instance) != nil || v.Status.Container(at.instance) == nil
	})
	if err != nil {
		return nil, err
	}
	if e := v.Status.ExitOf(at.instance); e != nil {
		return e.Message(), nil
	}
	// It was kept in a rolling change, and one that came after it has ended since.
	return execExit(supervise.Unknown, "ended; its exit status is not kept", time.Time{}, at.instance), nil
}

// Resize gives the container's terminal, if it has one, a new size, which the
// instances after it get, too.
func (at *Attachment) Resize(ctx context.Context, size runtime.Size) error {
	w := at.workload
	if !w.specOf(at.instance).GetTty() {
		return nil
	}
	w.setSize(size)
	return runtimeError(w.agent.runtime.Resize(ctx, at.instance, size))
}

// Close lets go of the output and of stdin, which stays open for others.
func (at *Attachment) Close() error {
	var err error
	if at.Stdin != nil {
		err = at.Stdin.Close()
	}
	return errors.Join(err, at.output.Close())
}
