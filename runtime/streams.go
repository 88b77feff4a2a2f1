package runtime

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/containerd/containerd/api/services/tasks/v1"
	"golang.org/x/sys/unix"

	"github.com/purserd/purser/api/launchspec"
	"github.com/purserd/purser/runtime/loghelper"
	"github.com/purserd/purser/runtime/logs"
)

// fifos are the paths of a process's streams, which its shim opens too. An
// empty one is not connected.
type fifos struct{ stdin, stdout, stderr string }

// drainTime is how long nothing may come from the streams of a process that
// has ended before they are given up.
const drainTime = 500 * time.Millisecond

// makeFifos makes those of a process, which has no stderr on a terminal.
func makeFifos(dir string, stdin, tty bool) (fifos, error) {
	f := fifos{stdout: filepath.Join(dir, "stdout")}
	paths := []string{f.stdout}
	if !tty {
		f.stderr = filepath.Join(dir, "stderr")
		paths = append(paths, f.stderr)
	}
	if stdin {
		f.stdin = filepath.Join(dir, "stdin")
		paths = append(paths, f.stdin)
	}
	for _, path := range paths {
		if err := unix.Mkfifo(path, 0o600); err != nil {
			return fifos{}, fmt.Errorf("making FIFO %s: %w", path, err)
		}
	}
	return f, nil
}

// openStdin opens the writing end without waiting for a reader, by being one
// itself.
func openStdin(path string) (*os.File, error) {
	if path == "" {
		return nil, nil
	}
	return os.OpenFile(path, os.O_RDWR|unix.O_NONBLOCK, 0)
}

// streams are those of one container, of which the log helper reads the output.
type streams struct {
	paths fifos

	mu    sync.Mutex
	stdin *os.File // nil when closed or not connected
	// writers are those who write to stdin. Each has a descriptor of its own, so
	// that it can be kept from waiting without the others'.
	writers map[*os.File]struct{}
}

// openStreams makes a new container's FIFOs, and has what comes out of them stored.
func (r *Runtime) openStreams(ctx context.Context, in Instance) (*streams, error) {
	paths, err := makeFifos(r.cfg.instanceDir(in.ID), in.Spec.GetStdin(), in.Spec.GetTty())
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, outputTime)
	defer cancel()
	if err := r.helper.Open(ctx, r.outputOf(in, paths), in.Redactions); err != nil {
		return nil, err
	}
	return r.attach(in.ID, paths)
}

// outputOf says where the output of a container comes from and goes to.
func (r *Runtime) outputOf(in Instance, paths fifos) loghelper.Spec {
	return loghelper.Spec{
		Instance: in.ID,
		About:    logs.About{Environment: launchspec.Environment(in.Spec), Workload: launchspec.ID(in.Spec), App: in.Spec.GetApp(), Created: time.Now()},
		Limits:   r.cfg.LogLimits,
		Journald: r.cfg.LogJournald,
		LogDir:   r.cfg.LogDir,
		Stdout:   paths.stdout,
		Stderr:   paths.stderr,
	}
}

// attach opens our end of a container's stdin. It is closed with the runtime.
func (r *Runtime) attach(id string, paths fifos) (*streams, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return nil, errors.New("the runtime is closed")
	}
	stdin, err := openStdin(paths.stdin)
	if err != nil {
		return nil, fmt.Errorf("opening stdin of %s: %w", id, err)
	}
	s := &streams{paths: paths, stdin: stdin, writers: map[*os.File]struct{}{}}
	r.streams[id] = s
	return s, nil
}

func (s *streams) closeStdin() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stdin == nil {
		return nil
	}
	err := s.stdin.Close()
	s.stdin = nil
	for f := range s.writers {
		err = errors.Join(err, f.Close())
	}
	clear(s.writers)
	return err
}

// outputTime bounds what is asked of the log helper. One that does not answer is replaced
// in this time, and answers then; else output is no reason to keep anybody waiting.
const outputTime = 20 * time.Second

// drainStreams has the rest stored of what a container wrote that has ended.
func (r *Runtime) drainStreams(ctx context.Context, id string) {
	ctx, cancel := context.WithTimeout(ctx, outputTime)
	defer cancel()
	if err := r.helper.Drain(ctx, id, drainTime); err != nil {
		r.log.Warn("the last output of a container may be missing", "instance", id, "error", err)
	}
}

// endStreams stores the rest of what a container wrote that has ended, and closes
// its streams and its log.
func (r *Runtime) endStreams(ctx context.Context, id string) error {
	r.mu.Lock()
	s := r.streams[id]
	delete(r.streams, id)
	r.mu.Unlock()
	if s != nil {
		_ = s.closeStdin()
	}
	ctx, cancel := context.WithTimeout(ctx, outputTime)
	defer cancel()
	if err := r.helper.End(ctx, id, drainTime); err != nil {
		r.log.Warn("the log of a container may not be complete", "instance", id, "error", err)
	}
	return r.logs.End(id)
}

// OpenLogs takes up the streams of a container that was made by an earlier process. It
// does nothing when they have been. in is asked for what the container was made from,
// if the log helper does not know it any more; its error has the output dropped, as
// nobody knows then what in it must not be seen. ErrNotFound is wrapped when there is
// nothing to be read.
func (r *Runtime) OpenLogs(ctx context.Context, id string, in func() (Instance, error)) error {
	r.mu.Lock()
	known := r.streams[id] != nil
	r.mu.Unlock()
	if known {
		return nil
	}
	paths := fifosIn(r.cfg.instanceDir(id))
	if paths.stdout == "" {
		return fmt.Errorf("taking up the output of %s: %w: its FIFOs are gone", id, ErrNotFound)
	}
	if err := r.resume(ctx, id, paths, in); err != nil {
		return err
	}
	if _, err := r.attach(id, paths); err != nil {
		return err
	}
	r.takeUpExecs(id)
	return nil
}

// resume sees to it that the log helper reads a container's output.
func (r *Runtime) resume(ctx context.Context, id string, paths fifos, in func() (Instance, error)) error {
	ctx, cancel := context.WithTimeout(ctx, outputTime)
	defer cancel()
	err := r.helper.Resume(ctx, id, paths.stdout, paths.stderr)
	if !errors.Is(err, loghelper.ErrUnknown) {
		return err
	}
	if over, err := r.logs.Ended(id); over || err != nil {
		return err
	}
	instance, unknown := in()
	instance.ID = id
	output := r.outputOf(instance, paths)
	output.Middle, output.Drop = true, unknown != nil
	return r.helper.Open(ctx, output, instance.Redactions)
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// Stdin opens a container's stdin, for one of several who may write to it. It
// wraps ErrNotFound when the container's spec has no stdin or its streams are not
// open.
func (r *Runtime) Stdin(id string) (*Stdin, error) {
	r.mu.Lock()
	s := r.streams[id]
	r.mu.Unlock()
	if s == nil || s.paths.stdin == "" {
		return nil, fmt.Errorf("stdin of %s: %w", id, ErrNotFound)
	}
	f, err := s.addWriter()
	if err != nil {
		return nil, fmt.Errorf("opening stdin of %s: %w", id, err)
	}
	return &Stdin{r: r, id: id, s: s, file: f}, nil
}

// Stdin is a way to a container's stdin. It is to be closed.
type Stdin struct {
	r    *Runtime
	id   string
	s    *streams
	file *os.File // nil when stdin has ended
}

// Write returns once the container, or the FIFO before it, has taken all of data.
// Close ends the waiting.
func (w *Stdin) Write(data []byte) (int, error) {
	if w.file == nil {
		return 0, os.ErrClosed
	}
	return w.file.Write(data)
}

// End has the container see the end of its input, whoever else writes to it. On a
// terminal it does nothing: input ends there by what is typed.
func (w *Stdin) End() error {
	if w.s.tty() {
		return nil
	}
	if err := w.s.closeStdin(); err != nil {
		return err
	}
	// The shim, too, holds the FIFO open, so that a client may go and another come.
	return w.r.closeIO(context.Background(), w.id, "")
}

// Close leaves stdin to the others who write to it, or will.
func (w *Stdin) Close() error {
	if w.file == nil {
		return nil
	}
	return w.s.removeWriter(w.file)
}

// addWriter opens stdin once more; nil when it has ended.
func (s *streams) addWriter() (*os.File, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stdin == nil {
		return nil, nil
	}
	f, err := openStdin(s.paths.stdin)
	if err != nil {
		return nil, err
	}
	s.writers[f] = struct{}{}
	return f, nil
}

func (s *streams) removeWriter(f *os.File) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, open := s.writers[f]; !open {
		return nil
	}
	delete(s.writers, f)
	return f.Close()
}

// tty tells whether the container runs on a terminal.
func (s *streams) tty() bool { return s.paths.stderr == "" }

func (r *Runtime) closeIO(ctx context.Context, id, exec string) error {
	ctx, cancel := context.WithTimeout(r.ctx(ctx), 10*time.Second)
	defer cancel()
	_, err := r.client.TaskService().CloseIO(ctx, &tasks.CloseIORequest{ContainerID: id, ExecID: exec, Stdin: true})
	if err == nil || isNotFound(err) {
		return nil
	}
	return r.wrap(err, "closing stdin of %s", id)
}
