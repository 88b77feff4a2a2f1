package runtime

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"

	"github.com/containerd/containerd/api/services/tasks/v1"
	"github.com/containerd/containerd/v2/core/containers"
	"github.com/containerd/typeurl/v2"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/purserd/purser/runtime/fifo"
)

// ExecSpec is a command to be run in a running container.
type ExecSpec struct {
	Command []string
	// Secrets is the container's own environment, of which containerd has the part
	// that comes from no secret; nil for a container without secrets.
	Secrets Environ
	// Env is put over the container's environment.
	Env map[string]string
	// Workdir is the container's when empty.
	Workdir string
	// User, as in a launch spec, is the container's when empty. Names are
	// looked up in the container as it is now.
	User string
	// Allow, if not nil, is asked whether the command may run under the user ID that
	// User stands for. Its error is wrapped in Exec's.
	Allow func(uid uint32) error
	// Stdin is read until it ends or the command does; nil is an empty one. A
	// Read that is under way when the command ends is not waited for.
	Stdin io.Reader
	// Signals are passed on to the command. May be nil.
	Signals <-chan syscall.Signal
	// Terminal has the command run on one, whose output goes to stdout alone; nil
	// for none. The end of Stdin is not the command's then.
	Terminal *Terminal
	// Detach lets the command run on by itself once it is closed. May be nil.
	Detach <-chan struct{}
}

// Terminal is what a command is run on.
type Terminal struct {
	// Size at first; zero when unknown.
	Size Size
	// Sizes are those that it is given later. May be nil.
	Sizes <-chan Size
}

// Size is that of a terminal's window, in characters.
type Size struct{ Rows, Columns uint16 }

// ErrDetached says that a command runs on by itself.
var ErrDetached = errors.New("detached from the command")

// Exec runs a command in a container and returns its exit status once all it
// wrote has been written to stdout and stderr. When ctx ends the command is
// killed, with what it started in its session, and ctx's error returned. On a
// terminal they are told by SIGHUP first, and have a second. ErrDetached is
// returned for a command that runs on, without its stdin and with its output
// dropped. A [StartError] means that the command can't be executed; ErrNotFound
// is wrapped when the container does not run.
func (r *Runtime) Exec(ctx context.Context, id string, e ExecSpec, stdout, stderr io.Writer) (uint32, error) {
	ctx = r.ctx(ctx)
	record, err := r.client.ContainerService().Get(ctx, id)
	if err != nil {
		return 0, r.wrapExec(err, id)
	}
	process, err := r.execProcess(ctx, record, e)
	if err != nil {
		return 0, r.wrapExec(err, id)
	}
	forget := r.injectExec(process, id, e.Secrets, e.Env)
	defer forget()
	x, err := r.openExec(id, e, stdout, stderr)
	if err != nil {
		return 0, r.wrapExec(err, id)
	}
	x.sandbox = r.sandboxOf(record)
	if err := x.start(ctx, process); err != nil {
		x.cleanup()
		if s := startError(err, e.Command); s != nil {
			return 0, s
		}
		return 0, r.wrapExec(err, id)
	}
	code, err := x.supervise(ctx, e)
	if errors.Is(err, ErrDetached) {
		return 0, err
	}
	return code, r.wrapExec(err, id)
}

func (r *Runtime) wrapExec(err error, id string) error {
	if shimDied(err) {
		err = fmt.Errorf("%w: its shim, the process of containerd's that watched over it, died: %w", ErrLost, err)
	}
	return r.wrap(notRunning(err), "running a command in container %s", id)
}

// execProcess derives the command's process from the container's.
func (r *Runtime) execProcess(ctx context.Context, record containers.Container, e ExecSpec) (_ *specs.Process, err error) {
	var spec specs.Spec
	if err := typeurl.UnmarshalTo(record.Spec, &spec); err != nil {
		return nil, fmt.Errorf("reading its OCI spec: %w", err)
	}
	p := *spec.Process
	p.Args = e.Command
	p.Terminal, p.ConsoleSize = e.Terminal != nil, nil
	if e.Terminal != nil {
		p.ConsoleSize = e.Terminal.Size.box()
	}
	if e.Workdir != "" {
		if err := r.checkWorkdir(ctx, record, e.Workdir); err != nil {
			return nil, err
		}
		p.Cwd = e.Workdir
	}
	if e.User != "" {
		if p.User, err = r.userIn(ctx, record.ID, e.User); err != nil {
			return nil, err
		}
		if e.Allow != nil {
			if err := e.Allow(p.User.UID); err != nil {
				return nil, err
			}
		}
	}
	return &p, nil
}

// userIn looks a user up in a running container's own files.
func (r *Runtime) userIn(ctx context.Context, id, user string) (specs.User, error) {
	root, err := r.rootOf(ctx, id)
	if err != nil {
		return specs.User{}, err
	}
	accounts, err := accountsUnder(root)
	if err != nil {
		return specs.User{}, err
	}
	found, err := accounts.Lookup(user)
	if err != nil {
		return specs.User{}, &SpecError{Err: fmt.Errorf("user %q: %w", user, err)}
	}
	return found, nil
}

// checkWorkdir finds out whether a container has a directory to run a command in.
// Into a sandbox of its own nobody can look.
func (r *Runtime) checkWorkdir(ctx context.Context, record containers.Container, dir string) error {
	if r.sandboxOf(record) != nil {
		return nil
	}
	root, err := r.rootOf(ctx, record.ID)
	if err != nil {
		return err
	}
	there, err := look(root, dir)
	switch {
	case err != nil:
		return fmt.Errorf("looking for the working directory: %w", err)
	case there == nothing:
		return &SpecError{Err: fmt.Errorf("workdir %s: is not in the container; make it there first, or name another directory", dir)}
	case there == aFile:
		return &SpecError{Err: fmt.Errorf("workdir %s: is no directory in the container; name another one", dir)}
	}
	return nil
}

// rootOf is where a running container's files are seen.
func (r *Runtime) rootOf(ctx context.Context, id string) (string, error) {
	answer, err := r.client.TaskService().Get(ctx, &tasks.GetRequest{ContainerID: id})
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("/proc/%d/root", answer.Process.Pid), nil
}

// execution is one command that is run in a container.
type execution struct {
	r     *Runtime
	id    string // of the container
	exec  string // of the command
	dir   string
	tty   bool
	paths fifos
	stdin *os.File
	out   []*copier
	pid   int
	// sandbox is where the command runs, if not among the node's processes.
	sandbox *sandbox
	family  *family

	detached atomic.Bool // what it writes is dropped
}

func (r *Runtime) openExec(id string, e ExecSpec, stdout, stderr io.Writer) (*execution, error) {
	name := r.execPrefix + strings.ToLower(rand.Text()[:12])
	x := &execution{r: r, id: id, exec: name, dir: filepath.Join(r.cfg.instanceDir(id), name), tty: e.Terminal != nil}
	if err := x.open(e.Stdin != nil, stdout, stderr); err != nil {
		x.cleanup()
		return nil, err
	}
	return x, nil
}

func (x *execution) open(stdin bool, stdout, stderr io.Writer) (err error) {
	// The container's directory is there unless somebody has emptied the run directory.
	if err := os.MkdirAll(filepath.Dir(x.dir), 0o711); err != nil {
		return err
	}
	if err := os.Mkdir(x.dir, 0o700); err != nil {
		return err
	}
	if x.paths, err = makeFifos(x.dir, stdin, x.tty); err != nil {
		return err
	}
	if x.stdin, err = openStdin(x.paths.stdin); err != nil {
		return err
	}
	return x.openOutput(stdout, stderr)
}

// openOutput opens our ends of the output, for the writers that get it.
func (x *execution) openOutput(stdout, stderr io.Writer) error {
	for _, o := range []struct {
		path string
		to   io.Writer
	}{{x.paths.stdout, stdout}, {x.paths.stderr, stderr}} {
		if o.path == "" {
			continue
		}
		f, err := fifo.Open(o.path)
		if err != nil {
			return err
		}
		x.out = append(x.out, newCopier(f, x.writeTo(o.to)))
	}
	return nil
}

// writeTo hands output to a writer until the command is detached.
func (x *execution) writeTo(to io.Writer) func([]byte) {
	return func(data []byte) {
		if !x.detached.Load() {
			_, _ = to.Write(data)
		}
	}
}

// start returns when the command runs. After an error nothing of it is left in
// containerd.
func (x *execution) start(ctx context.Context, p *specs.Process) error {
	spec, err := typeurl.MarshalAnyToProto(p)
	if err != nil {
		return fmt.Errorf("encoding the process: %w", err)
	}
	_, err = x.r.client.TaskService().Exec(ctx, &tasks.ExecProcessRequest{
		ContainerID: x.id, ExecID: x.exec, Spec: spec, Terminal: x.tty,
		Stdin: x.paths.stdin, Stdout: x.paths.stdout, Stderr: x.paths.stderr,
	})
	if err != nil {
		if ctx.Err() != nil {
			// containerd may have completed what was given up.
			err = errors.Join(err, x.abort())
		}
		return err
	}
	var answer *tasks.StartResponse
	err = x.r.callShim(ctx, x.id, func() (err error) {
		answer, err = x.r.client.TaskService().Start(ctx, &tasks.StartRequest{ContainerID: x.id, ExecID: x.exec})
		return err
	})
	if err != nil {
		// It may run nevertheless when it was ctx that ended.
		return errors.Join(err, x.abort())
	}
	x.pid = int(answer.Pid)
	x.family = x.findFamily()
	for _, c := range x.out {
		go c.run()
	}
	return nil
}

// supervise passes stdin, signals and sizes on until the command has ended.
func (x *execution) supervise(ctx context.Context, e ExecSpec) (uint32, error) {
	if x.stdin != nil {
		go x.feed(e.Stdin)
	}
	var sizes <-chan Size
	if e.Terminal != nil {
		sizes = e.Terminal.Sizes
		// Not every OCI runtime heeds the size that the process was given.
		x.resize(ctx, e.Terminal.Size)
	}
	ended := x.awaitEnd(ctx)
	for {
		select {
		case end := <-ended:
			return x.settle(end)
		case sig, ok := <-e.Signals:
			if !ok {
				e.Signals = nil
				continue
			}
			x.signal(ctx, sig)
		case size, ok := <-sizes:
			if !ok {
				sizes = nil
				continue
			}
			x.resize(ctx, size)
		case <-e.Detach:
			x.detach(ended)
			return 0, ErrDetached
		case <-ctx.Done():
			x.end(ended)
			x.clear()
			return 0, ctx.Err()
		}
	}
}

// lookAfter does something beside its caller, which Close waits for.
func (r *Runtime) lookAfter(do func()) {
	r.mu.Lock()
	if !r.closed {
		r.detached.Go(do)
		do = func() {}
	}
	r.mu.Unlock()
	do()
}

func (x *execution) resize(ctx context.Context, size Size) {
	// Shims have no code for "has just ended", which is what to expect.
	if err := x.r.resize(ctx, x.id, x.exec, size); err != nil {
		x.r.log.Debug("a terminal was not given its size", "instance", x.id, "error", err)
	}
}

// findFamily finds the command that has just been started.
func (x *execution) findFamily() *family {
	if x.sandbox != nil {
		if pid := readNote(noteOf(x.sandbox.notes, x.exec)); pid > 0 {
			return familyOf(x.sandbox.processes, pid, "")
		}
	}
	return familyOn(x.pid)
}

// inside says whether the command is known to its sandbox alone.
func (x *execution) inside() bool {
	_, is := x.family.of.(sandboxProcesses)
	return is
}

func (x *execution) signal(ctx context.Context, sig syscall.Signal) {
	if x.inside() {
		x.family.of.signal(x.family.leader, x.family.born, sig)
		return
	}
	if err := x.r.kill(ctx, x.id, x.exec, sig); err != nil && !errors.Is(err, ErrNotFound) {
		x.r.log.Warn("a signal did not reach a command", "instance", x.id, "signal", sig, "error", err)
	}
}
