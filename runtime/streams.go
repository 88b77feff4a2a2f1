package runtime

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/containerd/containerd/api/services/tasks/v1"
	"golang.org/x/sys/unix"

	"github.com/purserd/purser/runtime/logs"
)

// fifos are the paths of a process's streams, which its shim opens too. An
// empty one is not connected.
type fifos struct{ stdin, stdout, stderr string }

// drainTime is how long nothing may come from the streams of a process that
// has ended before they are given up.
const drainTime = 500 * time.Millisecond

func makeFifos(dir string, stdin bool) (fifos, error) {
	f := fifos{stdout: filepath.Join(dir, "stdout"), stderr: filepath.Join(dir, "stderr")}
	paths := []string{f.stdout, f.stderr}
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
}

// openStreams makes a new container's FIFOs and opens them and its log.
func (r *Runtime) openStreams(id string, stdin bool) (*streams, error) {
	paths, err := makeFifos(r.cfg.instanceDir(id), stdin)
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
	s := &streams{paths: paths, writer: writer, ended: make(chan struct{})}
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
	dir := r.cfg.instanceDir(id)
	paths := fifos{stdout: filepath.Join(dir, "stdout"), stderr: filepath.Join(dir, "stderr")}
	if stdin := filepath.Join(dir, "stdin"); exists(stdin) {
		paths.stdin = stdin
	}
	if !exists(paths.stdout) {
		return fmt.Errorf("taking up the output of %s: %w: its FIFOs are gone", id, ErrNotFound)
	}
	s, err := r.attach(id, paths)
	if err != nil {
		return err
	}
	s.copy()
	return nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// Stdin returns the writing end of a container's stdin. Closing it is seen by
// the container as the end of its input. It wraps ErrNotFound when the
// container's spec has no stdin or its streams are not open.
func (r *Runtime) Stdin(id string) (io.WriteCloser, error) {
	r.mu.Lock()
	s := r.streams[id]
	r.mu.Unlock()
	if s == nil || s.paths.stdin == "" {
		return nil, fmt.Errorf("stdin of %s: %w", id, ErrNotFound)
	}
	return &stdinWriter{r: r, id: id, s: s}, nil
}

type stdinWriter struct {
	r  *Runtime
	id string
	s  *streams
}

func (w *stdinWriter) Write(data []byte) (int, error) {
	w.s.mu.Lock()
	f := w.s.stdin
	w.s.mu.Unlock()
	if f == nil {
		return 0, os.ErrClosed
	}
	return f.Write(data)
}

// Close also tells the shim, which holds the FIFO open so that a client may go
// and another come.
func (w *stdinWriter) Close() error {
	if err := w.s.closeStdin(); err != nil {
		return err
	}
	return w.r.closeIO(context.Background(), w.id, "")
}

func (r *Runtime) closeIO(ctx context.Context, id, exec string) error {
	ctx, cancel := context.WithTimeout(r.ctx(ctx), 10*time.Second)
	defer cancel()
	_, err := r.client.TaskService().CloseIO(ctx, &tasks.CloseIORequest{ContainerID: id, ExecID: exec, Stdin: true})
	if err == nil || isNotFound(err) {
		return nil
	}
	return r.wrap(err, "closing stdin of %s", id)
}
