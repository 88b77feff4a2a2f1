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

	purserv1 "github.com/purserd/purser/api/purser/v1"
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

// openReader opens the reading end without waiting for a writer. Reading
// before there has been one gives EOF.
func openReader(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
}

// openStdin opens the writing end without waiting for a reader, by being one
// itself.
func openStdin(path string) (*os.File, error) {
	if path == "" {
		return nil, nil
	}
	return os.OpenFile(path, os.O_RDWR|unix.O_NONBLOCK, 0)
}

// streams are those of one container.
type streams struct {
	paths   fifos
	writer  *logs.Writer
	out     []*copier
	ended   chan struct{} // closed when the log is complete
	started sync.Once

	mu    sync.Mutex
	stdin *os.File // nil when closed or not connected
	// writers are those who write to stdin. Each has a descriptor of its own, so
	// that it can be kept from waiting without the others'.
	writers map[*os.File]struct{}
}

// openStreams makes a new container's FIFOs and opens them and its log.
func (r *Runtime) openStreams(id string, spec *purserv1.LaunchSpec) (*streams, error) {
	paths, err := makeFifos(r.cfg.instanceDir(id), spec.GetStdin(), spec.GetTty())
	if err != nil {
		return nil, err
	}
	return r.attach(id, paths)
}

// attach opens our ends of a container's FIFOs. They are closed with the runtime.
func (r *Runtime) attach(id string, paths fifos) (*streams, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return nil, errors.New("the runtime is closed")
	}
	writer, err := r.logs.Writer(id)
	if err != nil {
		return nil, err
	}
	s := &streams{paths: paths, writer: writer, ended: make(chan struct{}), writers: map[*os.File]struct{}{}}
	if err := s.open(r.keep(id, writer)); err != nil {
		s.close()
		return nil, fmt.Errorf("opening the streams of %s: %w", id, err)
	}
	r.streams[id] = s
	return s, nil
}

func (s *streams) open(keep func(logs.Stream) func([]byte)) (err error) {
	if s.stdin, err = openStdin(s.paths.stdin); err != nil {
		return err
	}
	for _, o := range []struct {
		path   string
		stream logs.Stream
	}{{s.paths.stdout, logs.Stdout}, {s.paths.stderr, logs.Stderr}} {
		if o.path == "" {
			continue
		}
		f, err := openReader(o.path)
		if err != nil {
			return err
		}
		s.out = append(s.out, newCopier(f, keep(o.stream)))
	}
	return nil
}

// keep returns what stores a stream's output. A log that cannot be written
// must not stop the container, so it is read on; the writer counts the loss.
func (r *Runtime) keep(id string, w *logs.Writer) func(logs.Stream) func([]byte) {
	var once sync.Once
	return func(stream logs.Stream) func([]byte) {
		return func(data []byte) {
			if err := w.Write(stream, data); err != nil {
				once.Do(func() { r.log.Error("output of a container is being lost", "instance", id, "error", err) })
			}
		}
	}
}

// copy starts to store what the container writes.
func (s *streams) copy() {
	s.started.Do(func() {
		for _, c := range s.out {
			go c.run()
		}
		go func() {
			for _, c := range s.out {
				<-c.ended
			}
			s.writer.Close()
			close(s.ended)
		}()
	})
}

// close gives up what has not been read, if there is anything.
func (s *streams) close() {
	s.closeStdin()
	s.copy() // also the way to end what was never started
	stop(s.out...)
	<-s.ended
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

// endStreams stores the rest of what a container wrote that has ended, and
// closes its streams and its log.
func (r *Runtime) endStreams(id string) {
	r.mu.Lock()
	s := r.streams[id]
	delete(r.streams, id)
	r.mu.Unlock()
	if s == nil {
		return
	}
	drain(drainTime, s.out...)
	s.close()
}

// OpenLogs goes on reading what a container writes that was made by an earlier
// process. What was written in between is not lost: it waited in the FIFO. It
// does nothing when the container's output is being read already.
func (r *Runtime) OpenLogs(_ context.Context, id string) error {
	r.mu.Lock()
	reading := r.streams[id] != nil
	r.mu.Unlock()
	if reading {
		return nil
	}
	paths := fifosIn(r.cfg.instanceDir(id))
	if paths.stdout == "" {
		return fmt.Errorf("taking up the output of %s: %w: its FIFOs are gone", id, ErrNotFound)
	}
	s, err := r.attach(id, paths)
	if err != nil {
		return err
	}
	s.copy()
	r.takeUpExecs(id)
	return nil
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
