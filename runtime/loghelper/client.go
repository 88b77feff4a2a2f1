package loghelper

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"net"
	"net/rpc"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/purserd/purser/inject"
)

// Options say how a helper is found or started.
type Options struct {
	// Dir is the helper's, on memory that no disk sees.
	Dir string
	// Command starts a helper, which is to call [Run] with the directory that follows
	// the flag --dir, and to call [Ready] once that serves. The first
	// element is the path of the executable. [Main] does it for others than purser.
	Command []string
	// AllowSwap is the helper's flag --allow-swap.
	AllowSwap bool
	// Heartbeat is how often a helper has to answer, and how long it may take; 5 s when 0.
	Heartbeat time.Duration
	// Log gets what no caller can be told.
	Log *slog.Logger
	// Restarted is called whenever a helper had died and another one has been started.
	Restarted func()
}

func (o Options) arguments() []string {
	args := append(slices.Clone(o.Command[1:]), "--dir", o.Dir)
	if o.AllowSwap {
		args = append(args, "--allow-swap")
	}
	return args
}

// Client is the agent's side of the helper: it starts one, and another one whenever
// it dies. Its methods may be called by many goroutines.
type Client struct {
	o        Options
	counters *counters

	ctx    context.Context
	cancel context.CancelFunc
	kept   chan struct{} // closed when no helper is kept up any more

	reopening sync.WaitGroup

	mu      sync.Mutex
	current *connection   // nil while there is none
	changed chan struct{} // closed, and replaced, when current changes
	// held are our own ends of FIFOs, which nobody reads from: what is in a FIFO that a
	// container has closed is there for as long as anyone has it open, and a helper may
	// have died just then.
	held map[string][]*os.File
}

// startTimeout bounds the start of a helper, which takes 20 ms as a rule, more when
// it takes up many instances.
const startTimeout = 20 * time.Second

// variable, in the environment, marks what was started as a log helper.
const variable = "PURSER_LOG_HELPER"

// Start finds the helper that runs in the directory, or starts one.
func Start(o Options) (*Client, error) {
	if os.Getenv(variable) != "" {
		// An executable that does not know the command would start itself for ever.
		return nil, fmt.Errorf("%s was to be a log helper, and is not one", o.Command[0])
	}
	if err := os.MkdirAll(filepath.Join(o.Dir, instancesDir), 0o700); err != nil {
		return nil, fmt.Errorf("making the log helper's directory: %w", err)
	}
	if o.Heartbeat == 0 {
		o.Heartbeat = 5 * time.Second
	}
	counted, err := openCounters(o.Dir)
	if err != nil {
		return nil, err
	}
	c := &Client{o: o, counters: counted, kept: make(chan struct{}), changed: make(chan struct{}), held: map[string][]*os.File{}}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	first, err := c.find()
	if err != nil {
		return nil, errors.Join(err, counted.close())
	}
	c.set(first)
	go c.keep(first)
	return c, nil
}

// Counters are what the helpers have done in this directory.
func (c *Client) Counters() Counters { return c.counters.read() }

// Redacted adds to them what was replaced elsewhere.
func (c *Client) Redacted(n uint64) { c.counters.redacted(n) }

// keep starts the next helper when one has ended, until the client is closed.
func (c *Client) keep(current *connection) {
	defer close(c.kept)
	for {
		if !c.watch(current) {
			return
		}
		current.Close()
		c.set(nil)
		if current = c.again(); current == nil {
			return
		}
		c.o.Restarted()
		c.set(current)
		c.reopen()
	}
}

// reopen sees to it that a new helper reads all that the one before did.
func (c *Client) reopen() {
	c.mu.Lock()
	instances := slices.Sorted(maps.Keys(c.held))
	c.mu.Unlock()
	for _, instance := range instances {
		c.reopening.Go(func() {
			err := c.Resume(c.ctx, instance)
			if err != nil && c.ctx.Err() == nil {
				c.o.Log.Error("the output of a container is not read any more, and may keep it waiting: restart the agent", "instance", instance, "error", err)
			}
		})
	}
}

// watch returns when a helper has ended, having killed it when it does not answer any
// more: its journals lose nothing, and containers wait for whoever reads them. It returns
// false when the client is closed.
func (c *Client) watch(current *connection) bool {
	tick := time.NewTicker(c.o.Heartbeat)
	defer tick.Stop()
	for {
		select {
		case <-current.gone:
			return true
		case <-c.ctx.Done():
			return false
		case <-tick.C:
			if err := current.within(c.o.Heartbeat, "Hello", struct{}{}, &Executable{}); err != nil {
				c.o.Log.Error("the log helper does not answer, and is killed", "pid", current.pid, "error", err)
				current.kill()
				<-current.gone
			}
		}
	}
}

// again starts a helper in the place of one that died; nil when the client is closed.
func (c *Client) again() *connection {
	for pause := 10 * time.Millisecond; ; pause = min(2*pause, time.Second) {
		c.o.Log.Error("the log helper has ended unasked; starting another one, which goes on where it was", "last_words", c.lastWords())
		next, err := c.find()
		if err == nil {
			return next
		}
		c.o.Log.Error("cannot start the log helper: containers that write much are going to wait", "error", err)
		select {
		case <-time.After(pause):
		case <-c.ctx.Done():
			return nil
		}
	}
}

// lastWords are the end of what a helper has written to its stderr.
func (c *Client) lastWords() string {
	const most = 2 << 10
	words, _ := os.ReadFile(c.stderr())
	return string(words[max(0, len(words)-most):])
}

func (c *Client) stderr() string { return filepath.Join(c.o.Dir, "stderr") }

// find connects to a helper of our own executable. One of another is asked to leave.
func (c *Client) find() (*connection, error) {
	wanted, err := executable(c.o.Command[0])
	if err != nil {
		return nil, fmt.Errorf("looking for the log helper's executable: %w", err)
	}
	if there, err := c.connect(); err == nil {
		var is Executable
		if err := there.within(c.o.Heartbeat, "Hello", struct{}{}, &is); err == nil && is == wanted {
			return there, nil
		}
		if !c.replace(there) {
			return there, nil
		}
	}
	if err := c.spawn(); err != nil {
		return nil, err
	}
	return c.connect()
}

// replace has a helper of another version leave, and kills one that does not answer: its
// journals have what the next one needs. It returns false for one that has to stay, as
// a disk hangs.
func (c *Client) replace(there *connection) bool {
	c.o.Log.Info("replacing the log helper of another version", "pid", there.pid)
	c.holdAll()
	err := there.within(2*patience, "Leave", LeaveRequest{}, &struct{}{})
	var answered rpc.ServerError
	if errors.As(err, &answered) {
		c.o.Log.Warn("the log helper of another version stays until the agent's next start", "reason", err)
		return false
	}
	if err != nil {
		there.kill()
	}
	there.Close()
	return true
}

// holdAll holds the FIFOs of all instances: for a moment nobody reads them.
func (c *Client) holdAll() {
	all, _ := os.ReadDir(filepath.Join(c.o.Dir, instancesDir))
	for _, e := range all {
		if spec, err := filesOf(c.o.Dir, e.Name()).read(); err == nil {
			_ = c.hold(spec.Instance, []string{spec.Stdout, spec.Stderr})
		}
	}
}

// within calls a method that has to answer in a time.
func (c *connection) within(limit time.Duration, method string, args, answer any) error {
	call := c.Go(service+"."+method, args, answer, make(chan *rpc.Call, 1))
	late := time.NewTimer(limit)
	defer late.Stop()
	select {
	case <-call.Done:
		return call.Error
	case <-late.C:
		return fmt.Errorf("no answer for %s", limit)
	}
}

// kill ends the helper's process, if it still is the one that it was.
func (c *connection) kill() {
	process, err := os.FindProcess(c.pid)
	if err != nil {
		return
	}
	defer process.Release()
	select {
	case <-c.gone:
	default:
		_ = process.Kill()
	}
}

// connection is one to a helper.
type connection struct {
	*rpc.Client
	pid  int           // of the helper
	gone chan struct{} // closed when the connection has ended
}

// watched is a connection that says when it has ended, to who does nothing with it.
type watched struct {
	net.Conn
	gone func()
}

func (w watched) Read(p []byte) (int, error) {
	n, err := w.Conn.Read(p)
	if err != nil {
		w.gone()
	}
	return n, err
}

// connect connects to the helper that runs.
func (c *Client) connect() (*connection, error) {
	conn, err := net.DialTimeout("unix", filepath.Join(c.o.Dir, socketFile), time.Second)
	if err != nil {
		return nil, err
	}
	pid, err := peer(conn.(*net.UnixConn))
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	gone := make(chan struct{})
	w := watched{Conn: conn, gone: sync.OnceFunc(func() { close(gone) })}
	return &connection{Client: rpc.NewClient(w), pid: pid, gone: gone}, nil
}

// peer is the process at the other end.
func peer(conn *net.UnixConn) (int, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return 0, err
	}
	var credentials *unix.Ucred
	var failed error
	if err := raw.Control(func(fd uintptr) {
		credentials, failed = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil {
		return 0, err
	}
	if failed != nil {
		return 0, failed
	}
	return int(credentials.Pid), nil
}

// spawn starts a helper and returns when it serves.
func (c *Client) spawn() error {
	ready, theirs, err := os.Pipe()
	if err != nil {
		return err
	}
	defer ready.Close()
	errs, err := os.OpenFile(c.stderr(), os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return errors.Join(err, theirs.Close())
	}
	defer errs.Close()
	cmd := exec.Command(c.o.Command[0], c.o.arguments()...)
	cmd.Stderr, cmd.ExtraFiles, cmd.Dir = errs, []*os.File{theirs}, "/"
	cmd.Env = append(os.Environ(), variable+"=1")
	// Of its own session: what ends the agent does not end it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	err = cmd.Start()
	theirs.Close()
	if err != nil {
		return fmt.Errorf("starting the log helper: %w", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	_ = ready.SetReadDeadline(time.Now().Add(startTimeout))
	switch _, err := ready.Read(make([]byte, 1)); {
	case err == nil:
		return nil
	case errors.Is(err, io.EOF):
		return fmt.Errorf("the log helper ended at once (%v): %s", <-ended, c.lastWords())
	default:
		_ = cmd.Process.Kill()
		return fmt.Errorf("the log helper is not ready after %s: %s", startTimeout, c.lastWords())
	}
}

func (c *Client) set(current *connection) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.current = current
	close(c.changed)
	c.changed = make(chan struct{})
}

// helper returns the one that runs, waiting for it if need be. before is one that has
// failed, or nil.
func (c *Client) helper(ctx context.Context, before *connection) (*connection, error) {
	for {
		c.mu.Lock()
		current, changed := c.current, c.changed
		c.mu.Unlock()
		if current != nil && current != before {
			return current, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, fmt.Errorf("the log helper does not run: %w", ctx.Err())
		case <-c.ctx.Done():
			return nil, os.ErrClosed
		}
	}
}

// call asks the helper, and the next one if it ends meanwhile.
func (c *Client) call(ctx context.Context, method string, args, answer any) error {
	var current *connection
	for {
		var err error
		if current, err = c.helper(ctx, current); err != nil {
			return err
		}
		call := current.Go(service+"."+method, args, answer, make(chan *rpc.Call, 1))
		select {
		case <-call.Done:
		case <-ctx.Done():
			return ctx.Err()
		}
		var answered rpc.ServerError
		if call.Error == nil || errors.As(call.Error, &answered) {
			return call.Error
		}
	}
}

// Open begins to read an instance's output, whose FIFOs must be there. values are what
// must not be stored of it. Open may be called again.
func (c *Client) Open(ctx context.Context, spec Spec, values inject.Redactions) error {
	f := filesOf(c.o.Dir, spec.Instance)
	if err := f.write(spec, values); err != nil {
		return fmt.Errorf("telling the log helper of %s: %w", spec.Instance, errors.Join(err, f.remove()))
	}
	return c.Resume(ctx, spec.Instance, spec.Stdout, spec.Stderr)
}

// Redact adds values to those that are not stored of an instance's output: once it has
// returned, none of what comes out of the FIFOs is stored with them in plain.
func (c *Client) Redact(ctx context.Context, instance string, values inject.Redactions) error {
	f := filesOf(c.o.Dir, instance)
	if _, err := f.read(); errors.Is(err, fs.ErrNotExist) {
		return nil // all of its output has been stored
	}
	there, err := inject.ReadRedactions(f.values())
	if err != nil {
		return err
	}
	if err := there.Add(values).Write(f.values()); err != nil {
		return err
	}
	if err := c.call(ctx, "Redact", instance, &struct{}{}); err != nil {
		return fmt.Errorf("having more of the output of %s redacted: %w", instance, err)
	}
	return nil
}

// ErrUnknown says that no helper has been told of an instance, or that all of its
// output has been stored.
var ErrUnknown = errors.New("the log helper does not know the instance")

// Resume sees to it that an instance's output is read, from FIFOs at these paths, of
// which a helper has been told before. It wraps ErrUnknown where none has.
func (c *Client) Resume(ctx context.Context, instance string, fifos ...string) error {
	if err := c.hold(instance, fifos); err != nil {
		return fmt.Errorf("holding the output of %s: %w", instance, err)
	}
	var opened Opened
	if err := c.call(ctx, "Open", instance, &opened); err != nil {
		return fmt.Errorf("having the output of %s read: %w", instance, err)
	}
	if opened.Unknown {
		return fmt.Errorf("having the output of %s read: %w", instance, ErrUnknown)
	}
	return nil
}

// Drain returns when all has been stored that an instance wrote which has ended, or
// when nothing has come of it for so long.
func (c *Client) Drain(ctx context.Context, instance string, quiet time.Duration) error {
	return c.call(ctx, "Drain", DrainRequest{Instance: instance, Quiet: quiet}, &struct{}{})
}

// End drains, and ends the instance's log.
func (c *Client) End(ctx context.Context, instance string, quiet time.Duration) error {
	defer c.letGo(instance)
	return c.call(ctx, "End", DrainRequest{Instance: instance, Quiet: quiet}, &struct{}{})
}

// hold opens FIFOs, once.
func (c *Client) hold(instance string, fifos []string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.held[instance] != nil {
		return nil
	}
	var all []*os.File
	for _, path := range fifos {
		if path == "" {
			continue
		}
		f, err := openFIFO(path)
		if err != nil {
			closeAll(all)
			return err
		}
		all = append(all, f)
	}
	c.held[instance] = all
	return nil
}

func (c *Client) letGo(instance string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	closeAll(c.held[instance])
	delete(c.held, instance)
}

func closeAll(files []*os.File) {
	for _, f := range files {
		f.Close()
	}
}

// Close lets go of the helper, which goes on for as long as it has something to read.
func (c *Client) Close() error {
	c.cancel()
	<-c.kept
	c.reopening.Wait()
	c.mu.Lock()
	current := c.current
	for _, files := range c.held {
		closeAll(files)
	}
	c.mu.Unlock()
	if current == nil {
		return c.counters.close()
	}
	err := current.within(patience, "Leave", LeaveRequest{IfIdle: true}, &struct{}{})
	return errors.Join(err, current.Close(), c.counters.close())
}
